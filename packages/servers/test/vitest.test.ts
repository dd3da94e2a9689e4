import pg from 'pg'
import { describe, expect, inject, it } from 'vitest'
import { hasPostgres, useDatabase } from '../vitest/index.ts'

describe.runIf(hasPostgres())('a database per test file', () => {
  const one = useDatabase()
  const other = useDatabase()

  it('is empty and its own', async () => {
    expect(new Set([one.url, other.url, inject('postgres')?.url]).size).toBe(3)
    const client = new pg.Client({ connectionString: one.url })
    await client.connect()
    const { rows } = await client.query("SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    await client.end()
    expect(rows).toEqual([])
  })
})
