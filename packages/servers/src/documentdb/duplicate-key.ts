import { EJSON, type Document } from 'bson'
import { decode, decodeExactly, elementsOf } from './bson-elements.ts'
import { callEngine, type EnginePool } from './engine-client.ts'

/** What MongoDB adds to error 11000. */
export interface DuplicateKey {
  readonly errmsg: string
  readonly keyPattern?: Document
  readonly keyValue?: Document
}

export interface Violation {
  readonly database: string
  readonly collection: string
  /** What the engine said: it names the index, or the constraint that PostgreSQL checks for it. */
  readonly message: string
  /** The document that was refused, where the command holds it whole. */
  readonly document?: Buffer | undefined
}

/** Describes a violation of a unique index as MongoDB does; the value only where the command has it. */
export async function describeDuplicate(pool: EnginePool, violation: Violation): Promise<DuplicateKey> {
  const { database, collection, message, document } = violation
  const index = await violatedIndex(pool, violation)
  if (!index) return { errmsg: `E11000 duplicate key error collection: ${database}.${collection}: ${message}` }
  const keyValue = document && keyOf(document, Object.keys(index.key))
  const shown = keyValue ? ` dup key: ${EJSON.stringify(keyValue)}` : ''
  const errmsg = `E11000 duplicate key error collection: ${database}.${collection} index: ${index.name}${shown}`
  return { errmsg, keyPattern: index.key, ...(keyValue && { keyValue }) }
}

interface Index {
  readonly name: string
  readonly key: Document
}

async function violatedIndex(pool: EnginePool, violation: Violation): Promise<Index | undefined> {
  const name = /Index '(.+)'/.exec(violation.message)?.[1]
  const number = /"documents_rum_index_(\d+)"/.exec(violation.message)?.[1]
  if (name === '_id_' || violation.message.includes('"collection_pk')) return { name: '_id_', key: { _id: 1 } }
  if (name === undefined && number === undefined) return undefined
  const [found, key] = await callEngine<readonly [string | null, Buffer | null]>(
    pool,
    `SELECT i.name, i.key FROM (VALUES (1)) AS always LEFT JOIN LATERAL (
       SELECT (index_spec).index_name AS name, (index_spec).index_key::bytea AS key
       FROM documentdb_api_catalog.collection_indexes JOIN documentdb_api_catalog.collections USING (collection_id)
       WHERE database_name = $1 AND collection_name = $2 AND ((index_spec).index_name = $3 OR index_id = $4)
       LIMIT 1) AS i ON true`,
    [violation.database, violation.collection, name ?? null, number ?? null],
  )
  return found === null || key === null ? undefined : { name: found, key: decode(key) }
}

/** The values at some paths; a path that leads through an array has none that could be named. */
function keyOf(document: Buffer, paths: readonly string[]): Document | undefined {
  if (elementsOf(document).length === 0) return undefined
  const whole = decodeExactly(document)
  const found = paths.map((path): readonly [string, unknown] => [path, at(whole, path.split('.'))])
  return found.some(([, value]) => Array.isArray(value)) ? undefined : Object.fromEntries(found)
}

function at(value: unknown, path: readonly string[]): unknown {
  const [name, ...rest] = path
  if (name === undefined) return value ?? null
  if (Array.isArray(value)) return value
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return null
  return at((value as Record<string, unknown>)[name], rest)
}
