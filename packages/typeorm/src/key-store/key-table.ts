import {
  FieldsealError,
  isFieldsealError,
  keyspaceOf,
  recordFromJson,
  recordToJson,
  slotOf,
  type KeyspaceRef,
  type KeyStore,
  type KeyStoreRecord,
  type RecordId,
} from '@fieldseal/core/adapter'

/** Runs one statement. */
export type Run = (
  sql: string,
  parameters: readonly unknown[],
) => Promise<{ readonly records: readonly Record<string, unknown>[]; readonly affected: number }>

export const DEFAULT_KEY_TABLE = 'fieldseal_keys'
export const DEFAULT_CHECKPOINT_TABLE = 'fieldseal_checkpoints'
const PAGE = 500
/** SQLSTATE: undefined table; and what concurrent CREATE … IF NOT EXISTS may end in: unique violation, duplicate table, duplicate object. */
const UNDEFINED_TABLE = '42P01'
const CREATED_BY_ANOTHER: readonly string[] = ['23505', '42P07', '42710']

/** `schema.table` → `"schema"."table"`. */
export function quoted(table: string): string {
  return table
    .split('.')
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join('.')
}

/** The statements that make both tables. Safe to repeat. */
export function createTables(
  keys: string = DEFAULT_KEY_TABLE,
  checkpoints: string = DEFAULT_CHECKPOINT_TABLE,
): string[] {
  const index = `"${keys.split('.').at(-1)?.replaceAll('"', '""')}_keyspace"`
  return [
    `CREATE TABLE IF NOT EXISTS ${quoted(keys)} (id text PRIMARY KEY, slot text NOT NULL UNIQUE, kind text NOT NULL, app text NOT NULL, tenant text NOT NULL, keyspace text NOT NULL, row_version bigint NOT NULL, record text NOT NULL)`,
    `CREATE INDEX IF NOT EXISTS ${index} ON ${quoted(keys)} (app, tenant, keyspace)`,
    `CREATE TABLE IF NOT EXISTS ${quoted(checkpoints)} (job text PRIMARY KEY, version bigint NOT NULL, state bytea NOT NULL)`,
  ]
}

/** Makes the tables; another process may be doing the same. */
export async function ensureTables(run: Run, keys?: string, checkpoints?: string): Promise<void> {
  for (const statement of createTables(keys, checkpoints)) {
    try {
      await run(statement, [])
    } catch (error) {
      if (!CREATED_BY_ANOTHER.includes(sqlState(error))) throw error
    }
  }
}

/** The operations of a key store over one way to run statements. */
export function keyTable(
  table: string,
  run: Run,
): Required<Pick<KeyStore, 'find' | 'load' | 'insert' | 'update' | 'list'>> {
  const name = quoted(table)
  const query: Run = async (sql, parameters) => {
    try {
      return await run(sql, parameters)
    } catch (error) {
      throw unavailable(error, table)
    }
  }
  const read = async (sql: string, parameters: readonly unknown[]) =>
    (await query(sql, parameters)).records.map(({ id, record }) => recordOf(String(id), String(record)))
  return {
    find: (ids: readonly RecordId[]) =>
      ids.length === 0 ? Promise.resolve([]) : read(`SELECT id, record FROM ${name} WHERE id = ANY($1)`, [ids]),
    load(keyspaces: readonly KeyspaceRef[]) {
      if (keyspaces.length === 0) return Promise.resolve([])
      const columns = [
        keyspaces.map(({ app }) => app),
        keyspaces.map(({ tenant }) => tenant),
        keyspaces.map(({ keyspace }) => keyspace),
      ]
      return read(
        `SELECT id, record FROM ${name} WHERE (app, tenant, keyspace) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))`,
        columns,
      )
    },
    async insert(record) {
      const { affected } = await query(
        `INSERT INTO ${name} (id, slot, kind, app, tenant, keyspace, row_version, record) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
        columnsOf(record),
      )
      return affected === 1 ? 'inserted' : 'exists'
    },
    async update(record) {
      const { affected } = await query(
        `UPDATE ${name} SET slot = $2, kind = $3, app = $4, tenant = $5, keyspace = $6, row_version = $7, record = $8 WHERE id = $1 AND row_version = $7::bigint - 1`,
        columnsOf(record),
      )
      return affected === 1 ? 'updated' : 'changed'
    },
    async *list({ app, tenant, cmk }) {
      for (let after = ''; ; ) {
        const page = await read(
          `SELECT id, record FROM ${name} WHERE id > $1 AND app = $2 AND ($3::text IS NULL OR tenant = $3) ORDER BY id LIMIT ${PAGE}`,
          [after, app, tenant ?? null],
        )
        yield* page.filter((record) => cmk === undefined || namesCmk(record, cmk))
        const last = page.at(-1)
        if (last === undefined || page.length < PAGE) return
        after = last.id
      }
    },
  }
}

/** @throws FieldsealError ERR_KEY_RECORD_INVALID naming the record */
function recordOf(id: string, text: string): KeyStoreRecord {
  try {
    return recordFromJson(text)
  } catch (error) {
    throw isFieldsealError(error) ? new FieldsealError(error.code, { ...error.details, kekId: id }) : error
  }
}

function columnsOf(record: KeyStoreRecord): unknown[] {
  return [
    record.id,
    slotOf(record),
    record.kind,
    record.app,
    record.tenant,
    keyspaceOf(record),
    record.rowVersion,
    recordToJson(record),
  ]
}

function namesCmk(record: KeyStoreRecord, cmk: string): boolean {
  if (record.kind === 'direct') return record.uri === cmk
  return record.kind === 'kek' && record.wraps.some(({ uri }) => uri === cmk)
}

function unavailable(error: unknown, table: string): FieldsealError {
  if (isFieldsealError(error)) return error
  const code = sqlState(error)
  return new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
    ...(code === '' ? {} : { vendorCode: code }),
    ...(code === UNDEFINED_TABLE
      ? {
          reason: `there is no table ${table}`,
          hint: 'run the migration CreateFieldsealTables1764000000000, or set synchronize: true',
        }
      : {}),
  })
}

function sqlState(error: unknown): string {
  const code: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, 'code') : undefined
  return typeof code === 'string' ? code : ''
}
