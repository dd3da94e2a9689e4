import pg from 'pg'

/** As many as the engine's `max_connections` allows, less some for its own jobs. */
const MAX_CLIENTS = 150
/** SQL text → name of its prepared statement. */
const statementNames = new Map<string, string>()
const OID = { bool: 16, bytea: 17, int8: 20 }

export type EngineClient = pg.PoolClient
export type EnginePool = pg.Pool

/** Connections to the PostgreSQL below the engine. */
export function enginePool(options: pg.PoolConfig): EnginePool {
  const types = { getTypeParser: (oid: number) => (value: string) => parseValue(oid, value) }
  const pool = new pg.Pool({ ...options, max: MAX_CLIENTS, allowExitOnIdle: true, types })
  // A client that breaks while idle is replaced by the next one asked for.
  pool.on('error', () => {})
  return pool
}

/** The one row that a function of the engine returns. */
export async function callEngine<Row extends readonly unknown[]>(
  client: EngineClient | EnginePool,
  text: string,
  values: readonly unknown[],
): Promise<Row> {
  const name = statementNames.get(text) ?? `s${statementNames.size}`
  statementNames.set(text, name)
  const { rows } = await client.query<Row & unknown[]>({ name, text, values: [...values], rowMode: 'array' })
  const [row] = rows
  if (!row) throw new Error('the engine returned no row')
  return row
}

function parseValue(oid: number, value: string): unknown {
  if (oid === OID.bool) return value === 't'
  if (oid === OID.int8) return BigInt(value)
  return oid === OID.bytea ? Buffer.from(value.slice(2), 'hex') : value // behind \x
}
