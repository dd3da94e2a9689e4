import type { RecordMap } from '@fieldseal/core/adapter'
import type { Installation } from '../install/installation.ts'
import { onPrimary, tableOf } from './table.ts'

/** A column of the real table that is not what the model says; `found` is undefined where it is missing. */
export interface ColumnFinding {
  readonly column: string
  readonly expected: string
  readonly found: string | undefined
}

/** What stands in the way of a model's encryption in the real table, for `doctor`. */
export async function inspectTable(
  installation: Installation,
  map: RecordMap,
): Promise<readonly { readonly problem: string; readonly fix: string }[]> {
  return (await columnFindings(installation, map)).map(({ column, expected, found }) => ({
    problem: found === undefined ? `column ${column} is missing` : `column ${column} is ${found}, expected ${expected}`,
    fix: 'write a migration that adds a column of the right type; TypeORM would drop the old one with its data',
  }))
}

/** Columns that are missing or have the wrong type; none when there is no table yet. */
export async function columnFindings(installation: Installation, map: RecordMap): Promise<readonly ColumnFinding[]> {
  const table = tableOf(installation, map)
  const rows = await onPrimary(installation, (query) =>
    query(
      'SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped',
      [table.name],
    ),
  )
  if (rows.length === 0) return []
  const types = new Map(rows.map(({ attname, type }) => [String(attname), String(type)]))
  const columns = table.columns.flatMap(({ envelope, storage, slots }) => [
    [envelope.databaseName, storage === 'text' ? 'text' : 'bytea'] as const,
    ...(slots === undefined ? [] : [slots.odd, slots.even].map((slot) => [slot.databaseName, 'bytea'] as const)),
  ])
  return columns.flatMap(([column, expected]) => {
    const found = types.get(column)
    return found === expected ? [] : [{ column, expected, found }]
  })
}
