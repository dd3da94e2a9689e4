import 'reflect-metadata'
import { PGlite } from '@electric-sql/pglite'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import type { DataSourceOptions } from 'typeorm'
import { afterAll, beforeAll, describe } from 'vitest'
import { PgliteStream } from '@fieldseal/pglite'
import { TappedSocket, type Wire } from './wire.ts'

export type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>

/** A database for one test file. */
export interface Engine {
  readonly name: string
  readonly oneConnection: boolean
  /** How to connect; what is sent goes past `wire`. */
  options(wire: Wire): PostgresOptions
}

/** Runs the tests on each engine: a real PostgreSQL server, and PGlite in this process. */
export function onEachEngine(title: string, tests: (engine: Engine) => void): void {
  describe.runIf(hasPostgres())(`${title} (PostgreSQL)`, () => tests(postgres()))
  describe(`${title} (PGlite)`, () => tests(pglite()))
}

/** Runs the tests on a real server only. */
export function onPostgres(title: string, tests: (engine: Engine) => void): void {
  describe.runIf(hasPostgres())(title, () => tests(postgres()))
}

export function onPglite(title: string, tests: (engine: Engine) => void): void {
  describe(title, () => tests(pglite()))
}

/** Runs the tests where the pool has one connection: a server reached so, and PGlite. */
export function onOneConnection(title: string, tests: (engine: Engine) => void): void {
  describe.runIf(hasPostgres())(`${title} (PostgreSQL, poolSize 1)`, () => {
    const engine = postgres()
    tests({ ...engine, oneConnection: true, options: (wire) => ({ ...engine.options(wire), poolSize: 1 }) })
  })
  describe(`${title} (PGlite)`, () => tests(pglite()))
}

function postgres(): Engine {
  const database = useDatabase()
  return {
    name: 'PostgreSQL',
    oneConnection: false,
    options: (wire) => ({ type: 'postgres', url: database.url, extra: { stream: () => new TappedSocket(wire) } }),
  }
}

function pglite(): Engine {
  let db: PGlite | undefined
  beforeAll(async () => {
    db = await PGlite.create()
  })
  afterAll(() => db?.close())
  return {
    name: 'PGlite',
    oneConnection: true,
    options: (wire) => ({
      type: 'postgres',
      username: 'postgres',
      database: 'postgres',
      poolSize: 1,
      uuidExtension: 'pgcrypto',
      extra: {
        stream: () => {
          if (db === undefined) throw new Error('the database exists only in hooks and tests')
          return new PgliteStream(db, (chunk) => wire.sent(chunk))
        },
      },
    }),
  }
}
