import type { RecordMap } from '@fieldseal/core/adapter'
import { tokenSlotsOf } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { implies } from './implication.ts'
import { onPrimary, tableOf, type ModelTable, type Query } from './table.ts'

interface UniqueIndex {
  readonly name: string
  readonly columns: readonly string[]
  /** SQL of the rows that it is for; null = all. */
  readonly predicate: string | null
}

/** What a unique index is, compared with the one that is declared. */
interface Compared extends UniqueIndex {
  /** It refuses every second that the declared one would. */
  readonly covers: boolean
  /** It refuses no other. */
  readonly isWithin: boolean
}

/** Unique blind indexes that the database does not enforce, or enforces for other rows than those that are declared. */
export async function indexFindings(
  installation: Installation,
  map: RecordMap,
): Promise<readonly { readonly problem: string; readonly fix: string }[]> {
  const table = tableOf(installation, map)
  const escape = (name: string) => installation.dataSource.driver.escape(name)
  const unique = tokenSlotsOf(table).filter(({ index }) => index.unique)
  if (unique.length === 0) return []
  return onPrimary(installation, async (query) => {
    const findings: { problem: string; fix: string }[] = []
    const found = await uniqueIndexes(table, query)
    for (const { index, where, odd, even } of unique) {
      const tenant = index.acrossTenants ? undefined : table.facts.find(({ path }) => path === map.tenantPath)
      const only = where === undefined ? '' : ` WHERE ${where}`
      for (const slot of [odd, even]) {
        const columns = [slot, ...(tenant === undefined ? [] : [tenant.column])].map(({ databaseName }) => databaseName)
        const same: Compared[] = []
        for (const one of found)
          if (one.columns.length === columns.length && columns.every((column) => one.columns.includes(column)))
            same.push(await compared(query, table, one, columns.map(escape), where))
        if (!same.some(({ covers, isWithin }) => covers && isWithin))
          findings.push({
            problem: `no unique index of ${columns.join(', ')}${only}: nothing refuses a second ${index.id}`,
            fix: `CREATE UNIQUE INDEX CONCURRENTLY ON ${table.name} (${columns.map(escape).join(', ')})${only}`,
          })
        for (const { name, predicate, covers, isWithin } of same)
          if (covers && !isWithin)
            findings.push({
              problem: `index ${name} is unique for ${predicate === null ? 'all rows' : `more rows (WHERE ${predicate})`}, not only${only}`,
              fix: `DROP INDEX CONCURRENTLY ${name}`,
            })
      }
    }
    return findings
  })
}

/** Rows with a null are in no other's way, whether an index has them or not. */
async function compared(
  query: Query,
  table: ModelTable,
  index: UniqueIndex,
  columns: readonly string[],
  where = 'TRUE',
): Promise<Compared> {
  const { predicate } = index
  const isPartial = where !== 'TRUE'
  if (predicate === null) return { ...index, covers: true, isWithin: !isPartial }
  const filled = columns.map((column) => `${column} IS NOT NULL`)
  const covers = await implies(query, table, columns, [`(${where})`, ...filled].join(' AND '), predicate)
  const isWithin = await implies(query, table, columns, predicate, where)
  return { ...index, covers: covers ?? isPartial, isWithin: isWithin ?? true }
}

async function uniqueIndexes({ name }: ModelTable, query: Query): Promise<readonly UniqueIndex[]> {
  const rows = await query(
    `SELECT i.indexrelid::regclass::text AS name, pg_get_expr(i.indpred, i.indrelid) AS predicate,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE place <= i.indnkeyatts) AS columns
     FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indexprs IS NULL`,
    [name],
  )
  return rows as unknown as readonly UniqueIndex[] // as selected
}
