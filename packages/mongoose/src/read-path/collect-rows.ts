import {
  FieldsealError,
  type BlindIndex,
  type Cell,
  type Field,
  type OperationContext,
  type RowFacts,
} from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { isDoc, isIndexed, setKey, valueAt, type Doc } from '../bson/documents.ts'
import { isPromoted, type PromoteOptions } from '../bson/driver-values.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { COMPOUNDS_NAME } from '../path-graph/compound-paths.ts'
import { KEYS_PATH, type FactPath, type StoredModel } from '../path-graph/stored-model.ts'
import { SLOT_NAMES } from '../query-rewrite/token-terms.ts'
import {
  isTokens,
  leafBeside,
  leafInPlace,
  leafOf,
  isSealedLeaf,
  type StoredLeaf,
  type StoredPlain,
} from './stored-cell.ts'

const { Binary, UUID } = mongo

/** One stored document to open: its cells, and where each stands. */
export interface StoredRow {
  readonly model: StoredModel
  readonly facts: RowFacts
  readonly document: Doc
  /** What `__fieldseal.w` was when the document was read. */
  readonly stamp: unknown
  /** Tokens of several paths together, by id of their index, as they were read. */
  readonly compounds: unknown
  readonly cells: Cell<unknown>[]
  readonly places: Place[]
}
export interface Place {
  readonly holder: Doc | unknown[]
  readonly key: string | number
  /** Path of the cell in its document, with the indexes of array elements. */
  readonly path: string
  readonly tokens: readonly (Uint8Array | undefined)[]
  /** What is stored unencrypted, for values that may be. */
  readonly plain?: StoredPlain
}

/**
 * The encrypted cells of a result, by stored document. `__fieldseal` is taken out of each.
 *
 * @param context undefined where nobody's documents are read: a walk over all of them
 * @param promote how the documents were read
 * @throws FieldsealError ERR_TENANT_MISMATCH when a document is another tenant's
 */
export function collectRows(
  result: unknown,
  root: PathNode,
  context: OperationContext | undefined,
  promote: PromoteOptions = {},
): StoredRow[] {
  const rows: StoredRow[] = []
  visit(result, root, undefined, '', [], { rows, context, promote })
  return rows
}

interface Visit {
  readonly rows: StoredRow[]
  readonly context: OperationContext | undefined
  readonly promote: PromoteOptions
}

function visit(
  value: unknown,
  node: PathNode,
  row: StoredRow | undefined,
  path: string,
  mapKeys: readonly string[],
  visited: Visit,
): void {
  if (value === null || value === undefined || !node.reaches) return
  if (Array.isArray(value)) {
    const element = node.element ?? node
    for (let at = 0; at < value.length; at++) step(value, at, element, row, join(path, at), mapKeys, visited)
    return
  }
  if (node.element !== undefined) {
    if (!isIndexed(value)) return visit(value, node.element, row, path, mapKeys, visited)
    for (const at of Object.keys(value)) step(value, at, node.element, row, join(path, at), mapKeys, visited)
    return
  }
  if (!isDoc(value)) return
  const own = node.model === undefined ? row : begin(value, node.model, visited)
  const at = node.model === undefined ? path : ''
  if (node.values !== undefined) {
    for (const key of Object.keys(value)) step(value, key, node.values, own, join(at, key), [...mapKeys, key], visited)
    return
  }
  for (const [name, child] of node.names) {
    if (child.field !== undefined && child.plainName !== undefined) {
      stepBeside(
        { holder: value, key: name, path: join(at, name) },
        child.plainName,
        child.field,
        own,
        mapKeys,
        visited,
      )
    } else if (child.reaches && child.plainOf === undefined && Object.hasOwn(value, name))
      step(value, name, child, own, join(at, name), mapKeys, visited)
    else if (visited.context === undefined && child.field?.encryptNull === true && child.state !== 'encrypted')
      add(own, child.field, { holder: value, key: name, path: join(at, name) }, NOTHING, mapKeys)
  }
}

function step(
  holder: Doc | unknown[],
  key: string | number,
  node: PathNode,
  row: StoredRow | undefined,
  path: string,
  mapKeys: readonly string[],
  visited: Visit,
): void {
  const stored: unknown = Reflect.get(holder, key)
  if (node.field === undefined) {
    // MongoDB lets one value stand where the schema has an array.
    if (node.element === undefined || Array.isArray(stored) || isIndexed(stored))
      return visit(stored, node, row, path, mapKeys, visited)
    return step(holder, key, node.element, row, path, mapKeys, visited)
  }
  if (stored === undefined || row === undefined) return
  if (stored === null && !node.field.encryptNull) return
  if (node.field.plaintextIn !== undefined && node.plainName === undefined) {
    // A stage has put the plaintext here, where there is some.
    if (isTokens(stored)) Reflect.deleteProperty(holder, key)
    const leaf = leafOf(stored)
    if (isSealedLeaf(node.field, stored)) add(row, node.field, { holder, key, path }, leaf, mapKeys)
    return
  }
  if (Array.isArray(stored)) {
    // Read through arrays that the schema does not know (an $unwind, a $lookup): each element is a value of the path.
    for (let at = 0; at < stored.length; at++) step(stored, at, node, row, join(path, at), mapKeys, visited)
    return
  }
  add(row, node.field, { holder, key, path }, leafInPlace(node.field, stored), mapKeys)
}

/** A field whose old plaintext stands under another name, which is taken out of the document. */
function stepBeside(
  at: { readonly holder: Doc; readonly key: string; readonly path: string },
  plainName: string,
  field: Field,
  row: StoredRow | undefined,
  mapKeys: readonly string[],
  { context }: Visit,
): void {
  const { holder, key } = at
  const [own, old] = [key, plainName].map((name) => (Object.hasOwn(holder, name) ? holder[name] : undefined))
  Reflect.deleteProperty(holder, plainName)
  const leaf = leafBeside(field, own, old)
  if (leaf !== undefined) return add(row, field, at, leaf, mapKeys)
  if (old === null) setKey(holder, key, null)
  else if (own !== null) Reflect.deleteProperty(holder, key)
  if (context !== undefined || field.state === 'encrypted') return
  if (field.encryptNull) add(row, field, at, NOTHING, mapKeys)
  else if (isTokens(own)) add(row, field, at, { ...NOTHING, tokens: leafOf(own).tokens }, mapKeys)
}

/** A null that is to be encrypted once, or whose tokens are to go. */
const NOTHING: StoredLeaf = Object.freeze({ value: null, tokens: [], plain: Object.freeze({ shown: null }) })

function add(
  row: StoredRow | undefined,
  field: Field,
  at: Pick<Place, 'holder' | 'key' | 'path'>,
  { value, ...leaf }: StoredLeaf,
  mapKeys: readonly string[],
): void {
  if (row === undefined) return
  row.cells.push({ field, value, ...(mapKeys.length === 0 ? {} : { mapKeys }) })
  row.places.push({ ...at, ...leaf })
}

const NOBODY: RowFacts = Object.freeze({ tenant: '', keyspace: '', rowId: undefined })

function begin(document: Doc, model: StoredModel, { rows, context, promote }: Visit): StoredRow {
  const facts = context === undefined ? NOBODY : factsOf(document, model, context, promote)
  const stamp = valueAt(document, `${KEYS_PATH}.w`)
  const compounds = valueAt(document, `${KEYS_PATH}.${COMPOUNDS_NAME}`)
  Reflect.deleteProperty(document, KEYS_PATH)
  const row: StoredRow = { model, facts, document, stamp, compounds, cells: [], places: [] }
  rows.push(row)
  return row
}

/**
 * Tenant, keyspace and row id of a document at hand.
 *
 * @throws FieldsealError ERR_TENANT_MISMATCH, ERR_WRITE_UNSUPPORTED when the tenant or keyspace is unknown
 */
export function factsOf(
  document: unknown,
  model: StoredModel,
  context: OperationContext,
  promote: PromoteOptions = {},
): RowFacts {
  const known: Record<string, unknown> = {}
  for (const fact of model.facts)
    known[fact.path] = canonical(asRead(valueAt(document, fact.path), fact, promote), fact)
  return model.map.facts(known, context)
}

/** A UUID that a query read as a Buffer is one again. */
function asRead(value: unknown, { kind }: FactPath, promote: PromoteOptions): unknown {
  const isUuid = kind === 'uuid' && Buffer.isBuffer(value) && value.length === 16 && isPromoted(promote)
  return isUuid ? new UUID(value) : value
}

/** The tokens that a document keeps of several paths together; none where they were not read. */
export function compoundTokens({ compounds }: Pick<StoredRow, 'compounds'>, { id }: BlindIndex): Uint8Array[] {
  return Object.values(SLOT_NAMES).flatMap((slot) => {
    const token = valueAt(valueAt(compounds, id), slot)
    return token instanceof Binary ? [token.value()] : token instanceof Uint8Array ? [token] : []
  })
}

/** A fact as core compares it; undefined where its BSON type is not the declared one, which keeps the row unbound. */
export function canonical(value: unknown, { kind }: FactPath): string | number | bigint | undefined {
  switch (kind) {
    case 'objectid':
      return value instanceof mongo.ObjectId ? value.toHexString() : undefined
    case 'uuid':
      return uuidOf(value)?.toHexString(true)
    case 'integer':
      if (value instanceof mongo.Long) return value.toBigInt()
      if (value instanceof mongo.Int32 || value instanceof mongo.Double) return value.valueOf()
      return typeof value === 'number' || typeof value === 'bigint' ? value : undefined
    case 'string':
      return typeof value === 'string' ? value : undefined
    case 'other':
      return undefined
  }
}

/** A Buffer of Mongoose 8 says as what it is stored. */
function uuidOf(value: unknown): mongo.UUID | undefined {
  const [bytes, subtype] =
    value instanceof Binary
      ? [value.value(), value.sub_type]
      : [value, Buffer.isBuffer(value) ? (Reflect.get(value, '_subtype') as unknown) : undefined]
  const isUuid = bytes instanceof Uint8Array && bytes.length === 16 && subtype === Binary.SUBTYPE_UUID
  return isUuid ? new UUID(bytes) : undefined
}

/** A canonical fact as the database stores it. */
export function stored(text: string, { kind, path }: FactPath): unknown {
  switch (kind) {
    case 'objectid':
      return new mongo.ObjectId(text)
    case 'uuid':
      return new UUID(text)
    case 'integer':
      return Number.isSafeInteger(Number(text)) ? Number(text) : mongo.Long.fromString(text)
    case 'string':
      return text
    case 'other':
      throw new FieldsealError('ERR_CONFIG_INVALID', { field: path })
  }
}

function join(path: string, name: string | number): string {
  return path === '' ? String(name) : `${path}.${name}`
}
