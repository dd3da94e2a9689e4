import { FieldsealError, type RecordMap } from '@fieldseal/core/adapter'
import {
  quotedTable,
  type CompoundIndex,
  type EntityModel,
  type FactColumn,
  type SealedColumn,
} from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'

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
export function tableOf({ models }: Installation, map: RecordMap): ModelTable {
  const ofMap = models().models.filter((model) => model.map === map)
  const root: EntityModel | undefined = ofMap.find(({ metadata }) => metadata.parentEntityMetadata === undefined)
  if (root === undefined)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: map.id, reason: 'not a model of this DataSource' })
  const name = quotedTable(root.metadata)
  return { map, name, columns: root.columns, compounds: root.compounds, keys: root.keys, facts: root.facts }
}

/** Lost to another transaction: what a database says whose transactions are not `read committed` by default; deadlocks. */
const LOST_RACES: readonly string[] = ['40001', '40P01']
const ATTEMPTS = 20

/** A client of the driver. */
interface Connection {
  query(sql: string, parameters: unknown[]): Promise<{ readonly rows: Record<string, unknown>[] }>
}

/**
 * Runs `fn` with a connection to the primary, outside of any transaction of the application. A statement that lost a race
 * has done nothing, and is run again.
 *
 * Statements go to the driver: TypeORM would show their parameters to loggers and subscribers and put them into its errors,
 * and on the way from plaintext or to it these are values.
 */
export async function onPrimary<R>({ dataSource }: Installation, fn: (query: Query) => Promise<R>): Promise<R> {
  const runner = dataSource.createQueryRunner('master')
  try {
    const connection = (await runner.connect()) as Connection // of a DataSource for PostgreSQL
    return await fn(async (sql, parameters = []) => {
      for (let attempt = 1; ; attempt++)
        try {
          return (await connection.query(sql, [...parameters])).rows
        } catch (error) {
          if (attempt === ATTEMPTS || !LOST_RACES.includes(sqlStateOf(error))) throw error
        }
    })
  } catch (error) {
    throw misfit(error) ?? error
  } finally {
    await runner.release()
  }
}

export function sqlStateOf(error: unknown): string {
  return String(Reflect.get(Object(error), 'code'))
}

/** By SQLSTATE: what is wrong with a table, seen from here. PostgreSQL's text names it, and shows no values. */
const MISFITS: ReadonlyMap<string, string> = new Map([
  ['42501', 'grant it to the role that is connected, or connect as another'],
  ['42P01', 'run the migrations that make it'],
  ['23514', 'no trigger may alter what is stored in encrypted columns, and no constraint refuse it'],
  ['42703', 'run the migrations, or take the column out of the model'],
])

/** A table that is not there, not as its model says, not for the role that is connected, or takes no envelopes. */
function misfit(error: unknown): FieldsealError | undefined {
  const hint = error instanceof Error ? MISFITS.get(sqlStateOf(error)) : undefined
  if (hint === undefined) return undefined
  return new FieldsealError('ERR_CONFIG_INVALID', { field: 'dataSource', reason: (error as Error).message, hint })
}

/** By `relkind`: what has no rows of its own, which could be told from later versions of themselves. */
const WITHOUT_ROWS: Readonly<Record<string, string>> = { v: 'view', m: 'materialized view', f: 'foreign table' }

/**
 * Whoever counts or walks rows takes those that it does not see for none.
 * @throws FieldsealError ERR_CONFIG_INVALID where row security hides some of the table, or it is none
 */
export async function assertSeesAll({ map, name }: ModelTable, query: Query): Promise<void> {
  const [row] = await query(
    'SELECT row_security_active($1::text) AS hides, (SELECT relkind FROM pg_class WHERE oid = $1::regclass) AS kind',
    [name],
  )
  const refuse = (reason: string, hint: string): never => {
    throw new FieldsealError('ERR_CONFIG_INVALID', { model: map.id, field: 'dataSource', reason, hint })
  }
  const kind = WITHOUT_ROWS[String(row?.['kind'])]
  if (kind !== undefined) refuse(`${name} is a ${kind}`, 'give the source the table itself, as the entity of its model')
  if (row?.['hides'] === true)
    refuse(
      `row security hides rows of ${name} from the role that is connected`,
      'connect as the owner of the table, or as a role with BYPASSRLS',
    )
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

/** SQL types of the key columns, as the database names them: keys travel as text. Asked for by every walk, kept for writes. */
export async function keyTypes(
  { keyTypes: known }: Installation,
  table: ModelTable,
  query: Query,
): Promise<readonly string[]> {
  const found = await columnTypes(table, query)
  const types = table.keys.map(({ column }) => found.get(column.databaseName)?.open ?? 'text')
  if (found.size > 0) known.set(table.map, types)
  return types
}

/** Text of one key value, as it goes into an array of texts. */
export function keyText(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'key', reason: 'a key value is not canonical' })
}
