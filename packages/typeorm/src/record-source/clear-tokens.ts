import type { RecordMap, StoredRow } from '@fieldseal/core/adapter'
import { tokenSlotsOf } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { keyArrays, versionOf } from './row-key.ts'
import { keyTypes, onPrimary, tableOf } from './table.ts'

/** Sets every token column of these rows to NULL, but of those that belong to somebody else since a page read them. */
export async function clearTokens(
  installation: Installation,
  map: RecordMap,
  keys: readonly StoredRow['key'][],
): Promise<void> {
  const table = tableOf(installation, map)
  const slots = tokenSlotsOf(table).flatMap(({ odd, even }) => [odd, even])
  if (keys.length === 0 || slots.length === 0) return
  const escape = (name: string) => installation.dataSource.driver.escape(name)
  await onPrimary(installation, async (query) => {
    const types = installation.keyTypes.get(map) ?? (await keyTypes(installation, table, query))
    const names = table.keys.map(({ column }) => `t.${escape(column.databaseName)}`).join(', ')
    const values = table.keys.map((_, index) => `v.k${index}::${types[index]}`).join(', ')
    const owners = table.facts.filter(({ path }) => table.keys.every((key) => key.path !== path))
    const stays = owners.map(
      ({ column }, index) => `(v.o${index} IS NULL OR t.${escape(column.databaseName)}::text = v.o${index})`,
    )
    const read = owners.map(({ column }) => keys.map((key) => ownerText(versionOf(key)?.columns[column.databaseName])))
    const set = slots.map(({ databaseName }) => `${escape(databaseName)} = NULL`).join(', ')
    const parameters = [...keyArrays(table, keys), ...read]
    const arrays = parameters.map((_, index) => `$${index + 1}::text[]`).join(', ')
    const given = [...table.keys.map((_, index) => `k${index}`), ...owners.map((_, index) => `o${index}`)].join(', ')
    const isRow = [`(${names}) = (${values})`, ...stays].join(' AND ')
    await query(`UPDATE ${table.name} t SET ${set} FROM unnest(${arrays}) AS v(${given}) WHERE ${isRow}`, parameters)
  })
}

/** Tenant or keyspace as a page read it; null where it does not say. */
function ownerText(value: unknown): string | null {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint' ? String(value) : null
}
