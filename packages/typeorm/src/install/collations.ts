import type { EntityModel } from '../entity-map/entity-model.ts'
import { annotationOf } from '../encrypted-column/annotation.ts'
import { configError } from '../entity-map/column-rules.ts'
import { onPrimary, type Query } from '../record-source/table.ts'
import type { Installation } from './installation.ts'

/** SQLSTATE of a column that does not exist: before PostgreSQL 12 every collation is deterministic. */
const UNDEFINED_COLUMN = '42703'

/** Names of collations under which different bytes may be equal; asked for only when a column names a collation. */
export async function nonDeterministicCollations(installation: Installation): Promise<ReadonlySet<string>> {
  const { entityMetadatas } = installation.dataSource
  const named = entityMetadatas.some(
    ({ columns }) =>
      columns.some((column) => annotationOf(column) !== undefined) && columns.some(({ collation }) => collation),
  )
  if (!named) return new Set()
  try {
    const rows = await onPrimary(installation, (query) =>
      query('SELECT collname FROM pg_collation WHERE NOT collisdeterministic'),
    )
    return new Set(rows.map(({ collname }) => String(collname)))
  } catch (error) {
    if (Reflect.get(Object(error), 'code') === UNDEFINED_COLUMN) return new Set()
    throw error
  }
}

/**
 * Refuses key, tenant and subject columns that compare otherwise than the model says: `update('abc')` would meet row
 * 'ABC' and bind its values to the wrong key.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID naming table and column
 */
export async function assertCollations(models: readonly EntityModel[], query: Query): Promise<void> {
  if (models.length === 0) return
  const tables = models.map(({ metadata }) =>
    metadata.tablePath
      .split('.')
      .map((part) => `"${part}"`)
      .join('.'),
  )
  const rows = await query(
    `SELECT t.name AS "table", a.attname AS "column" FROM unnest($1::text[]) AS t(name)
     JOIN pg_attribute a ON a.attrelid = to_regclass(t.name) JOIN pg_collation c ON c.oid = a.attcollation
     WHERE a.attnum > 0 AND NOT c.collisdeterministic`,
    [tables],
  )
  for (const [index, { metadata, map, facts }] of models.entries()) {
    const loose = rows.filter(({ table }) => table === tables[index]).map(({ column }) => String(column))
    const wrong = facts.find(
      ({ column, path }) =>
        loose.includes(column.databaseName) && map.rowKey.some((key) => key.path === path && key.kind !== 'other'),
    )
    if (wrong === undefined) continue
    throw configError(
      metadata,
      wrong.column.databaseName,
      'the column has a non-deterministic collation in the database',
      'declare the collation in the entity, or change the column',
    )
  }
}
