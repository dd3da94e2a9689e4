import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { containerRuntime } from '../src/containers.ts'
import { startMongo } from '../src/start-mongo.ts'
import { startPostgres } from '../src/start-postgres.ts'

// Where the run has images that are at hand; a pull would make these tests as slow as the network.
const hasDocker = (await containerRuntime()) !== undefined
const { PG_IMAGE, MONGO_IMAGE } = process.env

beforeEach(() => {
  // Said by the run, for its own servers.
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  for (const variable of ['POSTGRES_URL', 'DATABASE_URL', 'MONGODB_URI', 'SERVERS_FROM'])
    vi.stubEnv(variable, undefined)
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

describe.runIf(hasDocker)('where a Docker engine answers', () => {
  it.runIf(PG_IMAGE)('startPostgres starts a container of PG_IMAGE', async () => {
    const server = await startPostgres()
    expect(server.rung).toBe('testcontainers')
    expect(server.capabilities.createDatabases).toBe(true)
    await server.stop()
    await server.stop()
  })

  it.runIf(MONGO_IMAGE)('startMongo starts a container of MONGO_IMAGE', async () => {
    const server = await startMongo()
    expect(server.rung).toBe('testcontainers')
    expect(server.capabilities.transactions).toBe(true)
    await server.stop()
    await server.stop()
  })

  it('an image that cannot be had makes it take the next rung', async () => {
    vi.stubEnv('PG_IMAGE', '127.0.0.1:9/no/such-image:1')
    const server = await startPostgres()
    expect(server.rung).not.toBe('testcontainers')
    await server.stop()
  })
})

it.runIf(!hasDocker)('where no Docker engine answers, containers are no rung', async () => {
  vi.stubEnv('SERVERS_FROM', 'testcontainers')
  await expect(startPostgres()).rejects.toThrow(/^no PostgreSQL/)
})
