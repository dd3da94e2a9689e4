import { afterAll, beforeAll, inject } from 'vitest'
import { createDatabase, type Database } from '../src/database.ts'
import type { MongoCapabilities } from '../src/mongo-capabilities.ts'
import { newMongoDatabase, type MongoDatabase } from '../src/mongo-database.ts'
import type {} from './mongo-setup.ts'
import type {} from './postgres-setup.ts'

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

/** Whether this run has a MongoDB or an engine compatible with it: `describe.runIf(hasMongo())`. */
export function hasMongo(): boolean {
  return inject('mongo') !== null
}

/** Whether this run has a server that can do something: `it.runIf(mongoCan('changeStreams'))`. */
export function mongoCan(capability: keyof MongoCapabilities): boolean {
  return inject('mongo')?.capabilities[capability] ?? false
}

/**
 * Gives the test file, or the `describe` it is called in, an empty MongoDB database of its own, dropped at its end.
 *
 * @returns an object whose `uri` and `name` can be read in hooks and tests; the database is the one in the `uri`
 */
export function useMongoDatabase(): { readonly uri: string; readonly name: string } {
  let database: MongoDatabase | undefined
  beforeAll(() => {
    const server = inject('mongo')
    if (!server) throw new Error('this run has no MongoDB: guard with hasMongo()')
    database = newMongoDatabase(server.uri)
  })
  afterAll(() => database?.drop())
  const existing = (): MongoDatabase => {
    if (!database) throw new Error('the database exists only in hooks and tests')
    return database
  }
  return {
    get uri() {
      return existing().uri
    },
    get name() {
      return existing().name
    },
  }
}
