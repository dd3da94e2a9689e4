import { attach, FieldsealError, type Fieldseal } from '@fieldseal/core/adapter'
import type { DataSource } from 'typeorm'
import type { Storage } from './encrypted-column/annotation.ts'
import { install } from './install/install.ts'
import { findInstallation } from './install/installation.ts'
import { assertMembers } from './install/members.ts'
import { createTransactionScope } from './install/transaction-scope.ts'
import { poolSizeOf } from './key-store/connection-options.ts'

export interface WithFieldsealOptions {
  /** What `createFieldseal()` returned. */
  readonly fieldseal: Fieldseal
  /** Property with the row's tenant, for entities whose `@EncryptedModel` names none; `'none'`: a database or schema per tenant. */
  readonly tenantBy?: string
  /** How values are stored: `text` costs a third more disk, `binary` (bytea) is slower to transport. @defaultValue 'text' */
  readonly storage?: Storage
}

const OPTIONS: readonly string[] = ['fieldseal', 'tenantBy', 'storage']
const ORM_VERSION = '^1.0.0'

/**
 * Makes the encrypted columns of a DataSource work. Call it before `initialize()`; returns the same DataSource. Only this
 * instance is changed: others, and TypeORM's classes, are not.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for a database other than PostgreSQL, a DataSource that is initialized or
 * was given before, an unknown option, or a TypeORM without a member this package relies on
 */
export function withFieldseal<D extends DataSource>(dataSource: D, options: WithFieldsealOptions): D {
  assertOptions(dataSource, options)
  assertMembers(dataSource)
  const oneConnection = poolSizeOf(dataSource.options) === 1
  if (oneConnection && dataSource.queryResultCache !== undefined && cachesInTable(dataSource)) {
    throw refused(
      'cache',
      'a result cache in a table waits for a second connection, and the pool has one',
      'use another cache, or a larger pool',
    )
  }
  const transactions = createTransactionScope()
  const host = attach(options.fieldseal, {
    name: 'typeorm',
    ormVersion: ORM_VERSION,
    fieldStates: true,
    compoundIndexes: true,
    beforeFlush: () => transactions.assertOutside('flush'),
  })
  install(dataSource, {
    host,
    oneConnection,
    transactions,
    storage: options.storage ?? 'text',
    tenantBy: options.tenantBy,
  })
  return dataSource
}

function assertOptions(dataSource: DataSource, options: WithFieldsealOptions): void {
  const { type } = dataSource.options
  if (type !== 'postgres') throw refused('type', `'${type}' is not supported yet`, "use type: 'postgres'")
  if (dataSource.isInitialized)
    throw refused('dataSource', 'it is initialized already', 'call withFieldseal before initialize()')
  if (findInstallation(dataSource) !== undefined) throw refused('dataSource', 'it was passed to withFieldseal before')
  const unknown = Object.keys(options).find((name) => !OPTIONS.includes(name))
  if (unknown !== undefined) throw refused(unknown, 'unknown option', `options are ${OPTIONS.join(', ')}`)
  const { storage } = options
  if (storage !== undefined && storage !== 'text' && storage !== 'binary')
    throw refused('storage', "expected 'text' or 'binary'")
}

function cachesInTable({ options }: DataSource): boolean {
  const { cache } = options
  return (
    cache === true ||
    (typeof cache === 'object' && (cache.type ?? 'database') === 'database' && cache.provider === undefined)
  )
}

function refused(field: string, reason: string, hint?: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', { field, reason, ...(hint === undefined ? {} : { hint }) })
}
