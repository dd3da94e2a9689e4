import { quotedTable, turnsInPlace, type EntityModel } from '../entity-map/entity-model.ts'
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
 * Gives text that turns in place the collation it has in the database: it sorts as it always did until nothing of the
 * plaintext is left, and TypeORM sees no difference.
 */
export async function keepCollations(installation: Installation, models: readonly EntityModel[]): Promise<void> {
  for (const { metadata, columns } of models) {
    const kept = columns.filter((sealed) => turnsInPlace(sealed))
    if (kept.length === 0) continue
    const rows = await onPrimary(installation, (query) =>
      query(
        `SELECT a.attname AS "column", c.collname AS collation FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND c.collname <> 'default'`,
        [quotedTable(metadata)],
      ),
    )
    const collations = new Map(rows.map(({ column, collation }) => [String(column), String(collation)]))
    for (const { column } of kept) {
      const collation = collations.get(column.databaseName)
      if (collation !== undefined) column.collation = collation
    }
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
  const tables = models.map(({ metadata }) => quotedTable(metadata))
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
