import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MongoClient } from 'mongodb'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { cachedRoot, obstacle } from '../src/documentdb/cached-root.ts'
import { INSTANCES } from '../src/documentdb/engine-process.ts'
import { startMongo } from '../src/start-mongo.ts'
import { hasMongo, useMongoDatabase } from '../vitest/index.ts'

beforeEach(() => {
  // Said by the run, for its own servers.
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  vi.stubEnv('SERVERS_FROM', 'environment')
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

async function ping(uri: string): Promise<void> {
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 500 })
  try {
    await client.db().command({ ping: 1 })
  } finally {
    await client.close()
  }
}

describe.runIf(hasMongo())('startMongo with MONGODB_URI', () => {
  const database = useMongoDatabase()

  it('uses that server, says what it is and leaves it running', async () => {
    vi.stubEnv('MONGODB_URI', database.uri)
    const server = await startMongo()
    expect(server).toMatchObject({ rung: 'environment', uri: database.uri })
    expect(server.version).toMatch(/^\d+\.\d+/)
    expect(server.capabilities.transactions).toBe(true)
    await server.stop()
    await ping(database.uri)
  })
})

it('starts none in place of a server that MONGODB_URI names and that does not answer', async () => {
  vi.stubEnv('MONGODB_URI', 'mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100')
  await expect(startMongo()).rejects.toThrow(/^MONGODB_URI is set, but/)
})

describe.runIf(obstacle() === undefined)('the DocumentDB engine', () => {
  const folders = async (pid = process.pid) =>
    readdirSync(path.join(await cachedRoot(), INSTANCES)).filter((name) => name.startsWith(`${pid}-`))

  it('is gone with its files after stop', async () => {
    vi.stubEnv('MONGODB_URI', undefined)
    vi.stubEnv('SERVERS_FROM', 'DocumentDB')
    const server = await startMongo()
    await ping(server.uri)
    expect(await folders()).toHaveLength(1)
    await server.stop()
    await server.stop()
    await expect(ping(server.uri)).rejects.toThrow(/ECONNREFUSED/)
    expect(await folders()).toEqual([])
  })

  it('leaves nothing behind when its process is killed', async () => {
    const script = `
      import { startMongo } from ${JSON.stringify(import.meta.resolve('../src/index.ts'))}
      const { uri } = await startMongo()
      process.stdout.write(uri)
      setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', script], {
      env: { ...process.env, MONGODB_URI: '', SERVERS_FROM: 'DocumentDB' },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const [uri] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string]
    await ping(uri)
    expect(await folders(child.pid)).toHaveLength(1)
    child.kill('SIGKILL')
    await once(child, 'exit')
    for (let i = 0; (await folders(child.pid)).length > 0 && i < 500; i++) await sleep(10)
    expect(await folders(child.pid)).toEqual([])
  })
})
