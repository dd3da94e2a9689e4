import type { RecordMap } from '@fieldseal/core/adapter'
import { tokenSlotsOf } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { indexFindings } from './inspect-indexes.ts'
import { triggerFindings } from './inspect-triggers.ts'
import { isPlaintextIn } from './pages.ts'
import { columnTypes, onPrimary, tableOf } from './table.ts'

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
  const wrong = await columnFindings(installation, map)
  if (wrong === undefined) return [] // whoever counts its rows is told
  const columns = wrong.map(({ column, expected, found }) => ({
    problem: found === undefined ? `column ${column} is missing` : `column ${column} is ${found}, expected ${expected}`,
    fix: 'write a migration with encryptColumnMigration(); TypeORM would drop the old one with its data',
  }))
  if (columns.length > 0) return columns
  return [
    ...(await indexFindings(installation, map)),
    ...(await triggerFindings(installation, map)),
    ...(await stateFindings(installation, map)),
  ]
}

/** Rows that the state of a field does not expect. */
async function stateFindings(
  installation: Installation,
  map: RecordMap,
): Promise<readonly { readonly problem: string; readonly fix: string }[]> {
  const table = tableOf(installation, map)
  const escape = (name: string) => installation.dataSource.driver.escape(name)
  const findings: { problem: string; fix: string }[] = []
  for (const sealed of table.columns) {
    const { field, plain, slots } = sealed
    if (field.state !== 'migrating' || plain === undefined || slots === undefined) continue
    const lacking = [slots.odd, slots.even].map(({ databaseName }) => `${escape(databaseName)} IS NULL`).join(' AND ')
    const [row] = await onPrimary(installation, (query) =>
      query(
        `SELECT EXISTS (SELECT 1 FROM ${table.name} WHERE ${isPlaintextIn(sealed, escape)} AND ${lacking}) AS found`,
      ),
    )
    if (row?.['found'] === true)
      findings.push({
        problem: `values of ${field.path} have no tokens: no unique index sees them`,
        fix: `fieldseal backfill --field ${map.id}.${field.path}; in state 'plaintext' it would have come first`,
      })
  }
  return findings
}

/** Columns that are missing or have the wrong type; undefined when there is no table yet. */
export async function columnFindings(
  installation: Installation,
  map: RecordMap,
): Promise<readonly ColumnFinding[] | undefined> {
  const table = tableOf(installation, map)
  const types = await onPrimary(installation, (query) => columnTypes(table, query))
  if (types.size === 0) return undefined
  const columns = [
    ...table.columns.map(
      ({ envelope, storage }) => [envelope.databaseName, storage === 'text' ? 'text' : 'bytea'] as const,
    ),
    ...tokenSlotsOf(table).flatMap(({ odd, even }) => [odd, even].map((slot) => [slot.databaseName, 'bytea'] as const)),
  ]
  return columns.flatMap(([column, expected]) => {
    const found = types.get(column)?.open
    return found === expected ? [] : [{ column, expected, found }]
  })
}
