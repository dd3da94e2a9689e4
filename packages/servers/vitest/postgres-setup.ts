import type { TestProject } from 'vitest/node'
import { isRequired } from '../src/required-servers.ts'
import { startPostgres, type PostgresCapabilities } from '../src/start-postgres.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** The server of this run; null where the machine offers none. */
    postgres: { readonly url: string; readonly version: string; readonly capabilities: PostgresCapabilities } | null
  }
}

/** A vitest `globalSetup`: one PostgreSQL for the whole run of a package, provided as `postgres`. */
export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  try {
    const { url, version, capabilities, stop } = await startPostgres()
    project.provide('postgres', { url, version, capabilities })
    return stop
  } catch (error) {
    if (isRequired('postgres')) throw error
    process.stderr.write(`tests that need PostgreSQL are not run: ${String(error)}\n`)
    project.provide('postgres', null)
    return undefined
  }
}
