import type { TestProject } from 'vitest/node'
import type { MongoCapabilities } from '../src/mongo-capabilities.ts'
import { isRequired } from '../src/required-servers.ts'
import { startMongo } from '../src/start-mongo.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** The server of this run; null where the machine offers none. */
    mongo: { readonly uri: string; readonly version: string; readonly capabilities: MongoCapabilities } | null
  }
}

/** A vitest `globalSetup`: one MongoDB, or an engine compatible with it, for the run of a package. */
export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  try {
    const { uri, version, capabilities, stop } = await startMongo()
    project.provide('mongo', { uri, version, capabilities })
    return stop
  } catch (error) {
    if (isRequired('mongo')) throw error
    process.stderr.write(`tests that need MongoDB are not run: ${String(error)}\n`)
    project.provide('mongo', null)
    return undefined
  }
}
