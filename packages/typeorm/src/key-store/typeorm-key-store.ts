import { FieldsealError, type KeyStore } from '@fieldseal/core/adapter'
import { DataSource, type DataSourceOptions, type QueryRunner } from 'typeorm'
import { directQuery } from '../install/query-runner.ts'
import { connectionOptions, poolSizeOf, sameDatabase } from './connection-options.ts'
import { DEFAULT_KEY_TABLE, ensureTables, keyTable, type Run } from './key-table.ts'

export interface TypeormKeyStoreOptions {
  /** Table of the key records, possibly `schema.table`. @defaultValue 'fieldseal_keys' */
  readonly table?: string
  /** Connections of the store's own pool. @defaultValue 2 */
  readonly poolSize?: number
}

/** A key store of this module, as `withFieldseal` knows it. */
export interface TypeormKeyStore extends KeyStore {
  readonly [START]: (dataSource: DataSource) => Promise<void>
}

const START = Symbol.for('@fieldseal/typeorm:key-store')

/**
 * Key records in a table of the application's database, over a pool of its own: a key is used only once its record is
 * committed, whatever becomes of the caller's transaction. `synchronize: true` in `options` makes the table.
 *
 * Where the pool has one connection (PGlite) the store opens none. It goes through that of the DataSource which
 * `withFieldseal` is given: reads join the statement at hand, writes wait until no transaction is open.
 *
 * @param options how to connect; entities, subscribers, migrations and cache are left aside
 * @throws FieldsealError ERR_CONFIG_INVALID for a database other than PostgreSQL
 */
export function typeormKeyStore(
  options: DataSourceOptions,
  { table = DEFAULT_KEY_TABLE, poolSize = 2 }: TypeormKeyStoreOptions = {},
): KeyStore {
  if (options.type !== 'postgres') {
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      field: 'type',
      reason: `typeormKeyStore does not support '${options.type}' yet`,
      hint: "use type: 'postgres'",
    })
  }
  if (!Number.isSafeInteger(poolSize) || poolSize < 1)
    throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'poolSize', reason: 'a positive integer' })
  const target = table.includes('.') || options.schema === undefined ? table : `${options.schema}.${table}`
  return poolSizeOf(options) === 1 ? attachedStore(options, target) : pooledStore(options, target, poolSize)
}

/** Tells a key store which DataSource it belongs to. Does nothing for stores of other kinds and other databases. */
export async function startKeyStore(store: KeyStore, dataSource: DataSource): Promise<void> {
  if (START in store) await (store as TypeormKeyStore)[START](dataSource) // only this module sets it
}

function pooledStore(options: DataSourceOptions, table: string, poolSize: number): TypeormKeyStore {
  let opened: Promise<DataSource> | undefined
  const open = async () => {
    const dataSource = await new DataSource(connectionOptions(options, poolSize)).initialize()
    if (options.synchronize === true) await withRunner(dataSource, (run) => ensureTables(run, table))
    return dataSource
  }
  /** What is asked now: a pool that is destroyed meanwhile would never answer, and the caller's deadline would hold the process. */
  const underWay = new Set<Promise<unknown>>()
  const run: Run = async (sql, parameters) => {
    const answer = ask(sql, parameters)
    underWay.add(answer)
    try {
      return await answer
    } finally {
      underWay.delete(answer)
    }
  }
  const ask: Run = async (sql, parameters) => {
    // A pool that could not be opened is opened anew by the next caller.
    opened ??= open().catch((error: unknown) => {
      opened = undefined
      throw error
    })
    return withRunner(await opened, (once) => once(sql, parameters))
  }
  return {
    ...keyTable(table, run),
    async close() {
      await Promise.allSettled(underWay)
      const dataSource = await opened?.catch(() => undefined)
      opened = undefined
      if (dataSource?.isInitialized) await dataSource.destroy()
    },
    async [START]() {
      if (options.synchronize === true) await run('SELECT 1', [])
    },
  }
}

function attachedStore(options: DataSourceOptions, table: string): TypeormKeyStore {
  let attached: DataSource | undefined
  const run: Run = async (sql, parameters) => {
    if (attached === undefined) {
      throw new FieldsealError('ERR_CONFIG_INVALID', {
        field: 'keyStore',
        reason: 'a key store with one connection goes through a DataSource, and was given none',
        hint: 'initialize a DataSource of the same database with withFieldseal first',
      })
    }
    return withRunner(attached, (once) => once(sql, parameters))
  }
  return {
    ...keyTable(table, run),
    joining(via) {
      const runner = via as QueryRunner // our own viaOf() gives nothing else
      const { find, load, insert } = keyTable(table, runOn(runner))
      return runner.isTransactionActive ? { find, load } : { find, load, insert }
    },
    async [START](dataSource) {
      if (!sameDatabase(options, dataSource.options)) return
      attached = dataSource
      if (options.synchronize === true) await withRunner(dataSource, (once) => ensureTables(once, table))
    },
  }
}

async function withRunner<R>(dataSource: DataSource, fn: (run: Run) => Promise<R>): Promise<R> {
  const runner = dataSource.createQueryRunner('master')
  try {
    return await fn(runOn(runner))
  } finally {
    await runner.release()
  }
}

function runOn(runner: QueryRunner): Run {
  const query = directQuery(runner)
  return async (sql, parameters) => {
    const result = (await query(sql, [...parameters], true)) as {
      records?: Record<string, unknown>[]
      affected?: number
    } // TypeORM's QueryResult
    return { records: result.records ?? [], affected: result.affected ?? 0 }
  }
}
