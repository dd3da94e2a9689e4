import type { RecordMap, StoredRow } from '@fieldseal/core/adapter'
import { tokenSlotsOf } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { keyArrays } from './row-key.ts'
import { keyTypes, onPrimary, tableOf } from './table.ts'

/** Sets every token column of these rows to NULL. */
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
    const arrays = table.keys.map((_, index) => `$${index + 1}::text[]`).join(', ')
    const keyNames = table.keys.map((_, index) => `k${index}`).join(', ')
    const set = slots.map(({ databaseName }) => `${escape(databaseName)} = NULL`).join(', ')
    await query(
      `UPDATE ${table.name} t SET ${set} FROM unnest(${arrays}) AS v(${keyNames}) WHERE (${names}) = (${values})`,
      keyArrays(table, keys),
    )
  })
}
