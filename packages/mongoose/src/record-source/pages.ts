import { createHash } from 'node:crypto'
import {
  FieldsealError,
  isPlainCell,
  type BlindIndex,
  type Envelope,
  type Field,
  type IndexToken,
  type KekId,
  type PageOptions,
  type PlainCell,
  type StoredRow,
} from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { isDoc, valueAt, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import { compoundsOf } from '../path-graph/compound-paths.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { outsideOf } from '../path-graph/unique-where.ts'
import {
  canonical,
  collectRows,
  compoundTokens,
  stored,
  type StoredRow as CollectedRow,
} from '../read-path/collect-rows.ts'
import { kekIdOf, storedKekId } from '../write-path/draft.ts'
import { documentKey } from './document-key.ts'
import { toArray } from './to-array.ts'

const { BSON, Binary } = mongo

/** An `_id` of 64 bits is still one of 64 bits when it is sent back. */
const PRIMARY = { readPreference: mongo.ReadPreference.primary } as const
const AS_STORED = { ...PRIMARY, promoteValues: false, promoteLongs: false, promoteBuffers: false } as const

/**
 * Walks the documents of a collection in the order of `_id`. Every page is a query of its own, so that a long walk holds
 * no cursor open.
 */
export async function* pages(
  state: CollectionState,
  { after, shard, size, kekId, tenant, tokens = false }: PageOptions,
): AsyncGenerator<readonly StoredRow[]> {
  assertPaging(size, shard)
  const model = state.model()
  const criteria = {
    ...(kekId === undefined ? {} : { [`${KEYS_PATH}.k`]: storedKekId(kekId) }),
    ...(tenant === undefined || model.tenant === undefined
      ? {}
      : { [model.tenant.path]: stored(tenant, model.tenant) }),
  }
  let position = after === undefined ? undefined : idOf(after)
  for (;;) {
    const projection = shard === undefined ? projectionOf(model) : { _id: 1 }
    const found = await readAfter(state, criteria, position, projection, size)
    position = found.at(-1)
    const documents = shard === undefined ? found : await readAll(state, model, found.filter(isIn(shard)))
    const rows = documents
      .map((document) => rowOf(document, model, tokens))
      .filter(({ row }) => kekId === undefined || holds(row, kekId))
    if (rows.length > 0) yield rows.map(({ row }) => row)
    if (found.length < size) return
  }
}

/**
 * Counts documents. Those under a KEK are found by the ids that each document keeps, and looked at: a document keeps the
 * id of a KEK for a while after its last value under it was replaced.
 */
export async function count(
  state: CollectionState,
  what: { readonly kekId: KekId } | 'plaintext' | 'all',
): Promise<{ rows: number; exact: boolean }> {
  if (what === 'all') return { rows: await state.raw.countDocuments({}, PRIMARY), exact: true }
  let rows = 0
  const options = { size: PAGE, ...(what === 'plaintext' ? {} : { kekId: what.kekId }) }
  for await (const page of pages(state, options))
    rows +=
      what === 'plaintext' ? page.filter(({ occurrences = [] }) => occurrences.some(isPlaintext)).length : page.length
  return { rows, exact: true }
}
const PAGE = 500

function isPlaintext({ value }: { readonly value: unknown }): boolean {
  return typeof value === 'string' || isPlainCell(value)
}

/** Documents with a value of a field that is not encrypted. */
export async function countPlaintext(state: CollectionState, field: Field): Promise<number> {
  let rows = 0
  for await (const page of pages(state, { size: PAGE }))
    rows += page.filter(({ occurrences = [] }) =>
      occurrences.some((cell) => cell.field === field && (isPlaintext(cell) || cell.value === null)),
    ).length
  return rows
}

function read(state: CollectionState, filter: Doc, projection: Doc, limit: number): Promise<Doc[]> {
  return toArray(state.raw.find(filter, { ...AS_STORED, projection, limit, sort: { _id: 1 } }))
}

async function readAll(state: CollectionState, model: StoredModel, documents: readonly Doc[]): Promise<Doc[]> {
  if (documents.length === 0) return []
  const filter = { _id: { $in: documents.map(({ _id }) => _id) } }
  return toArray(state.raw.find(filter, { ...AS_STORED, projection: projectionOf(model), sort: { _id: 1 } }))
}

/**
 * The next documents by `_id`. `$gt` in a filter is answered by the index, but compares only within the type of its operand:
 * where that gives no more, documents whose ids are of the types behind it are looked for among all.
 */
async function readAfter(
  state: CollectionState,
  criteria: Doc,
  position: Doc | undefined,
  projection: Doc,
  limit: number,
): Promise<Doc[]> {
  if (position === undefined) return read(state, criteria, projection, limit)
  const found = await read(state, { ...criteria, $and: [{ _id: { $gt: position['_id'] } }] }, projection, limit)
  if (found.length === limit) return found
  const { _id } = found.at(-1) ?? position
  const behind = { ...criteria, $expr: { $gt: ['$_id', { $literal: _id }] } }
  return [...found, ...(await read(state, behind, projection, limit - found.length))]
}

function projectionOf({ root, facts, map }: StoredModel): Doc {
  const read = [...facts, ...map.indexes.flatMap(({ uniqueWhere }) => uniqueWhere)]
  const names = [...read.map(({ path }) => path.split('.')[0] as string), KEYS_PATH]
  for (const [name, node] of root.names) if (node.reaches) names.push(name)
  return Object.fromEntries([...new Set(names)].map((name) => [name, 1]))
}

function rowOf(document: Doc, model: StoredModel, withTokens: boolean): { readonly row: StoredRow } {
  const columns = Object.fromEntries(
    model.facts.map((fact) => [fact.path, canonical(valueAt(document, fact.path), fact)]),
  )
  const after = BSON.serialize({ _id: document['_id'] })
  const [collected] = collectRows(document, model.root, undefined) as [CollectedRow] // a document of the collection is one row
  const occurrences = collected.cells.map((cell, at) => ({ ...cell, value: storedValue(collected, at) }))
  const row = {
    key: documentKey(collected, true),
    after,
    columns,
    cells: Object.fromEntries(occurrences.map(({ value }, at) => [collected.places[at]?.path ?? '', value])),
    occurrences,
    outside: outsideOf(document, model),
  }
  return { row: withTokens ? { ...row, tokens: tokensOf(collected, model) } : row }
}

/** An envelope; a text for whatever else stands where one should. */
function storedValue({ cells, places }: CollectedRow, at: number): Envelope | PlainCell | string | null {
  const [cell, place] = [cells[at], places[at]]
  if (isPlainCell(cell?.value)) return cell.value
  const found: unknown = place?.plain === undefined ? place && Reflect.get(place.holder, place.key) : place.plain.shown
  const value = isDoc(found) && found['c'] instanceof Binary ? found['c'] : found
  if (value === null || value === undefined) return null
  if (value instanceof Binary) return value.value() as Envelope // core parses it
  return typeof value === 'string' ? value : BSON.EJSON.stringify({ value })
}

function tokensOf(row: CollectedRow, model: StoredModel): NonNullable<StoredRow['tokens']> {
  const tokens = new Map<BlindIndex, (readonly IndexToken[])[]>(model.map.indexes.map((index) => [index, []]))
  row.cells.forEach(({ field }, at) => {
    const found = (row.places[at]?.tokens ?? []).filter((token) => token !== undefined) as IndexToken[] // bytes of a slot
    if (field.blindIndex !== undefined) tokens.get(field.blindIndex)?.push(found)
  })
  for (const index of compoundsOf(model)) tokens.get(index)?.push(compoundTokens(row, index) as IndexToken[]) // the same
  return tokens
}

function holds({ occurrences = [] }: StoredRow, kekId: KekId): boolean {
  return occurrences.some(({ value }) => value instanceof Uint8Array && kekIdOf(value).toString('hex') === kekId)
}

function idOf(position: Uint8Array): Doc {
  try {
    const document: Doc = BSON.deserialize(position, { promoteValues: false, promoteBuffers: false })
    if (Object.keys(document).join() === '_id') return document
  } catch {
    // Not of ours.
  }
  throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'after', reason: 'not a position of this source' })
}

function isIn([shard, shards]: readonly [number, number]): (document: Doc) => boolean {
  return ({ _id }) =>
    createHash('sha256').update(BSON.serialize({ _id })).digest().readUInt32BE() % shards === shard - 1
}

function assertPaging(size: number, shard: PageOptions['shard']): void {
  if (!Number.isSafeInteger(size) || size < 1)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'size', reason: 'a positive integer' })
  const [at = 1, shards = 1] = shard ?? []
  if (!Number.isSafeInteger(at) || !Number.isSafeInteger(shards) || at < 1 || at > shards)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'shard', reason: '[i, n] with 1 <= i <= n' })
}
