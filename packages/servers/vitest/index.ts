import { afterAll, beforeAll, inject } from 'vitest'
import { createDatabase, type Database } from '../src/database.ts'
import type {} from './setup.ts'

/** Whether this run has a PostgreSQL: `describe.runIf(hasPostgres())`. If not, the run has said so. */
export function hasPostgres(): boolean {
  return inject('postgres') !== null
}

/**
 * Gives the test file, or the `describe` it is called in, an empty database of its own.
 *
 * @returns an object whose `url` can be read in hooks and tests
 */
export function useDatabase(): { readonly url: string } {
  let database: Database | undefined
  beforeAll(async () => {
    const server = inject('postgres')
    if (!server) throw new Error('this run has no PostgreSQL: guard with hasPostgres()')
    database = await createDatabase(server.url)
  })
  afterAll(() => database?.drop())
  return {
    get url() {
      if (!database) throw new Error('the database exists only in hooks and tests')
      return database.url
    },
  }
}
