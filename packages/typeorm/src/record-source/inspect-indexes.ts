import type { RecordMap } from '@fieldseal/core/adapter'
import { tokenSlotsOf } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { onPrimary, tableOf, type ModelTable } from './table.ts'

interface UniqueIndex {
  readonly name: string
  readonly columns: readonly string[]
  readonly partial: boolean
}

/** Unique blind indexes that the database does not enforce, or enforces for all rows instead of some. Which rows, it does not compare. */
export async function indexFindings(
  installation: Installation,
  map: RecordMap,
): Promise<readonly { readonly problem: string; readonly fix: string }[]> {
  const table = tableOf(installation, map)
  const unique = tokenSlotsOf(table).filter(({ index }) => index.unique)
  if (unique.length === 0) return []
  const escape = (name: string) => installation.dataSource.driver.escape(name)
  const found = await uniqueIndexes(installation, table)
  return unique.flatMap(({ index, where, odd, even }) => {
    const tenant = index.acrossTenants ? undefined : table.facts.find(({ path }) => path === map.tenantPath)
    return [odd, even].flatMap((slot) => {
      const columns = [slot, ...(tenant === undefined ? [] : [tenant.column])].map(({ databaseName }) => databaseName)
      const same = found.filter(
        (one) => one.columns.length === columns.length && columns.every((c) => one.columns.includes(c)),
      )
      const names = columns.map(escape).join(', ')
      const whole = where === undefined ? [] : same.filter(({ partial }) => !partial)
      return [
        ...(same.some(({ partial }) => partial === (where !== undefined))
          ? []
          : [
              {
                problem: `no unique index of ${columns.join(', ')}: nothing refuses a second ${index.id}`,
                fix: `CREATE UNIQUE INDEX CONCURRENTLY ON ${table.name} (${names})${where === undefined ? '' : ` WHERE ${where}`}`,
              },
            ]),
        ...whole.map(({ name }) => ({
          problem: `index ${name} is unique for all rows, not only WHERE ${where}`,
          fix: `DROP INDEX CONCURRENTLY ${name}`,
        })),
      ]
    })
  })
}

async function uniqueIndexes(installation: Installation, { name }: ModelTable): Promise<readonly UniqueIndex[]> {
  const rows = await onPrimary(installation, (query) =>
    query(
      `SELECT i.indexrelid::regclass::text AS name, i.indpred IS NOT NULL AS partial,
         ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE place <= i.indnkeyatts) AS columns
       FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indexprs IS NULL`,
      [name],
    ),
  )
  return rows as unknown as readonly UniqueIndex[] // as selected
}
