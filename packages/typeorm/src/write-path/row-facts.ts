import type { OperationContext, RowFacts } from '@fieldseal/core/adapter'
import type { ObjectLiteral } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { EntityModel, FactColumn } from '../entity-map/entity-model.ts'

/**
 * Tenant, keyspace and id of a row about to be inserted.
 *
 * @param unbound for upserts: the row that survives a conflict may have another key
 * @throws FieldsealError ERR_TENANT_MISMATCH, ERR_WRITE_UNSUPPORTED when tenant or keyspace is not known
 */
export function insertedFacts(
  model: EntityModel,
  context: OperationContext,
  valueOf: (column: ColumnMetadata) => unknown,
  unbound: boolean,
): RowFacts {
  const known: Record<string, unknown> = {}
  const needed = unbound ? model.facts.filter((fact) => fact === model.tenant || fact === model.keyspace) : model.facts
  for (const { path, column } of needed) {
    const value = valueOf(column)
    if (typeof value !== 'function') known[path] = value // an SQL expression is known to the database only
  }
  const facts = model.map.facts(known, context)
  return unbound ? { ...facts, rowId: undefined } : facts
}

/** Keyspaces of data subjects that rows at hand name; those of other models are known without rows. */
export function keyspacesOf(model: EntityModel, rows: readonly ObjectLiteral[], context: OperationContext): string[] {
  const { keyspace, tenant, map } = model
  if (keyspace === undefined) return []
  const named = rows.flatMap((row) => {
    const known: Record<string, unknown> = {}
    for (const fact of [keyspace, tenant]) if (fact !== undefined) known[fact.path] = fact.column.getEntityValue(row)
    return isKnown(known, [keyspace, tenant]) ? [map.facts(known, context).keyspace] : []
  })
  return [...new Set(named)]
}

function isKnown(known: Readonly<Record<string, unknown>>, facts: readonly (FactColumn | undefined)[]): boolean {
  return facts.every((fact) => fact === undefined || ['string', 'number', 'bigint'].includes(typeof known[fact.path]))
}
