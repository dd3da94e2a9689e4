import { FieldsealError, type RecordMap } from '@fieldseal/core/adapter'
import type { CompoundIndex, EntityModel, FactColumn, SealedColumn } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { directQuery } from '../install/query-runner.ts'

export type Query = (sql: string, parameters?: readonly unknown[]) => Promise<readonly Record<string, unknown>[]>

/** The table of one model, with everything a statement about it needs. */
export interface ModelTable {
  readonly map: RecordMap
  /** Quoted, with schema. */
  readonly name: string
  readonly columns: readonly SealedColumn[]
  readonly compounds: readonly CompoundIndex[]
  readonly keys: readonly FactColumn[]
  readonly facts: readonly FactColumn[]
}

/** The root entity's table: it has the columns of all children. @throws FieldsealError ERR_ARGUMENT_INVALID for a map of another DataSource */
export function tableOf({ models, dataSource }: Installation, map: RecordMap): ModelTable {
  const ofMap = models().models.filter((model) => model.map === map)
  const root: EntityModel | undefined = ofMap.find(({ metadata }) => metadata.parentEntityMetadata === undefined)
  if (root === undefined)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: map.id, reason: 'not a model of this DataSource' })
  const name = root.metadata.tablePath
    .split('.')
    .map((part) => dataSource.driver.escape(part))
    .join('.')
  return { map, name, columns: root.columns, compounds: root.compounds, keys: root.keys, facts: root.facts }
}

/** Runs `fn` with a connection to the primary, outside of any transaction of the application. */
export async function onPrimary<R>({ dataSource }: Installation, fn: (query: Query) => Promise<R>): Promise<R> {
  const runner = dataSource.createQueryRunner('master')
  const query = directQuery(runner)
  try {
    return await fn(async (sql, parameters = []) => {
      const { records = [] } = (await query(sql, [...parameters], true)) as { records?: Record<string, unknown>[] } // TypeORM's QueryResult
      return records
    })
  } finally {
    await runner.release()
  }
}

/** SQL types of the columns of a table, by name: `open` without length or precision, `whole` with them. */
export type ColumnTypes = ReadonlyMap<string, { readonly open: string; readonly whole: string }>

export async function columnTypes({ name }: ModelTable, query: Query): Promise<ColumnTypes> {
  const rows = await query(
    'SELECT attname, format_type(atttypid, NULL) AS open, format_type(atttypid, atttypmod) AS whole FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0',
    [name],
  )
  // Standard SQL reads these names as types of length 1.
  const widened: Readonly<Record<string, string>> = { character: 'bpchar', bit: 'varbit' }
  return new Map(
    rows.map(({ attname, open, whole }) => [
      String(attname),
      { open: widened[String(open)] ?? String(open), whole: String(whole) },
    ]),
  )
}

/** SQL types of the key columns, as the database names them: keys travel as text. Asked for once. */
export async function keyTypes(
  { keyTypes: known }: Installation,
  table: ModelTable,
  query: Query,
): Promise<readonly string[]> {
  let types = known.get(table.map)
  if (types === undefined) {
    const found = await columnTypes(table, query)
    types = table.keys.map(({ column }) => found.get(column.databaseName)?.open ?? 'text')
    if (found.size > 0) known.set(table.map, types)
  }
  return types
}

/** Text of one key value, as it goes into an array of texts. */
export function keyText(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'key', reason: 'a key value is not canonical' })
}
