import type { RecordMap } from '@fieldseal/core/adapter'
import type { Installation } from '../install/installation.ts'
import { onPrimary, tableOf } from './table.ts'

interface Finding {
  readonly problem: string
  readonly fix: string
}

/** What stands in the way of a model's encryption in the real table: missing columns and wrong types. */
export async function inspectTable(installation: Installation, map: RecordMap): Promise<readonly Finding[]> {
  const table = tableOf(installation, map)
  const rows = await onPrimary(installation, (query) =>
    query(
      'SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped',
      [table.name],
    ),
  )
  const types = new Map(rows.map(({ attname, type }) => [String(attname), String(type)]))
  const expected = table.columns.flatMap(({ column, storage, slots }) => [
    [column.databaseName, storage === 'text' ? 'text' : 'bytea'] as const,
    ...(slots === undefined ? [] : [slots.odd, slots.even].map((slot) => [slot.databaseName, 'bytea'] as const)),
  ])
  return expected.flatMap(([name, type]) => {
    const found = types.get(name)
    if (found === type) return []
    const problem = found === undefined ? `column ${name} is missing` : `column ${name} is ${found}, expected ${type}`
    return [
      {
        problem,
        fix: 'write a migration that adds a column of the right type; TypeORM would drop the old one with its data',
      },
    ]
  })
}
