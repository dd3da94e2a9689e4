import pg from 'pg'
import { describe, expect, inject, it } from 'vitest'
import { pgbouncerBinary, startPgbouncer } from '../src/pgbouncer.ts'
import { hasPostgres } from '../vitest/index.ts'

describe.runIf(hasPostgres() && pgbouncerBinary() !== undefined)('startPgbouncer', () => {
  it.each([
    ['transaction', 1],
    ['session', 2],
  ] as const)('in mode %s serves two clients with %i connections, and is gone after stop', async (mode, count) => {
    const { url, stop } = await startPgbouncer(inject('postgres')?.url ?? '', { mode })
    const clients = [new pg.Client({ connectionString: url }), new pg.Client({ connectionString: url })]
    const backends: unknown[] = []
    for (const client of clients) {
      await client.connect()
      backends.push((await client.query('SELECT pg_backend_pid() AS pid')).rows[0]?.pid)
    }
    expect(new Set(backends).size).toBe(count)
    for (const client of clients) await client.end()
    await stop()
    await expect(new pg.Client({ connectionString: url }).connect()).rejects.toThrow(/ECONNREFUSED/)
  })
})
