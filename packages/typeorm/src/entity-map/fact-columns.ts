import type { ModelOptions, RowKeyKind } from '@fieldseal/core/adapter'
import type { EntityMetadata } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import { configError } from './column-rules.ts'
import { pathOf, type FactColumn } from './entity-model.ts'

const INTEGERS: readonly string[] = ['smallint', 'integer', 'bigint']
// Equality of these is byte equality, unless their collation is non-deterministic.
const STRINGS: readonly string[] = ['character varying', 'text']

/** How the values of a key column become canonical bytes; `other` where they do not, which leaves rows unbound. */
export function rowKeyKind(column: ColumnMetadata, nonDeterministic: ReadonlySet<string>): RowKeyKind {
  const type = column.entityMetadata.dataSource.driver.normalizeType(column)
  if (column.transformer !== undefined || column.isArray) return 'other'
  if (type === 'uuid') return 'uuid'
  if (INTEGERS.includes(type)) return 'integer'
  return STRINGS.includes(type) && !nonDeterministic.has(column.collation ?? '') ? 'string' : 'other'
}

/** The columns whose properties a model names as its tenant and its data subject. */
export function resolveFacts(
  metadata: EntityMetadata,
  options: ModelOptions,
  nonDeterministic: ReadonlySet<string>,
): { readonly tenant: FactColumn | undefined; readonly keyspace: FactColumn | undefined } {
  const find = (option: string, property: string): FactColumn => {
    const column = metadata.findColumnWithPropertyPath(property)
    if (column === undefined) {
      throw configError(metadata, option, `no column for the property '${property}'`, 'name a property of the entity')
    }
    // Two spellings of one tenant would be two tenants.
    if (rowKeyKind(column, nonDeterministic) === 'other') {
      throw configError(
        metadata,
        option,
        `column '${column.databaseName}' compares otherwise than by its bytes`,
        'use varchar, text, uuid or an integer, without transformer',
      )
    }
    return { path: pathOf(column), column }
  }
  const { tenantBy, keyspace } = options
  return {
    tenant: tenantBy === undefined || tenantBy === 'none' ? undefined : find('tenantBy', tenantBy),
    keyspace: typeof keyspace === 'object' ? find('keyspace', keyspace.per) : undefined,
  }
}

/** Model options as core wants them: stored paths in place of property names. */
export function storedOptions(
  options: ModelOptions,
  tenant: FactColumn | undefined,
  keyspace: FactColumn | undefined,
): ModelOptions {
  return {
    ...options,
    ...(tenant === undefined ? {} : { tenantBy: tenant.path }),
    ...(typeof options.keyspace === 'object' && keyspace
      ? { keyspace: { ...options.keyspace, per: keyspace.path } }
      : {}),
  }
}
