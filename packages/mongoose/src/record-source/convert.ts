import {
  FieldsealError,
  isEnvelope,
  isPlainCell,
  tokenSlot,
  type Converted,
  type Envelope,
  type IndexToken,
  type PatchedCell,
  type RowPatch,
} from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { AS_STORED } from '../bson/bson-codec.ts'
import type { Doc } from '../bson/documents.ts'
import { toDriverValue } from '../bson/driver-values.ts'
import type { CollectionState, RawCollection } from '../install/collection-state.ts'
import { compoundLeaf, compoundPath } from '../path-graph/compound-paths.ts'
import { besidePath } from '../path-graph/walk-path.ts'
import { SLOT_NAMES } from '../query-rewrite/token-terms.ts'
import { kekIdOf } from '../write-path/draft.ts'
import { cellName, envelopePath, type DocumentKey } from './document-key.ts'
import { DURABLE, sendWithKeys, type KeyedUpdate, type Sending } from './send-with-keys.ts'

const { Binary } = mongo

/** A unique index, and a validator of the collection. */
const REFUSALS: readonly unknown[] = [11_000, 121]

/**
 * `compareAndSet` for cells on their way between plaintext and envelopes, and for their tokens: all places of a document
 * or none, in one statement. Goes to the driver's collection: no middleware, no timestamps, no version key.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED for cells that would leave their envelopes in another state than `plaintext`
 */
export async function convert(
  { raw, collation }: CollectionState,
  patches: readonly RowPatch<PatchedCell>[],
): Promise<readonly Converted[]> {
  // Under a collation a text equals others, and a write of one of them would be lost.
  const sending = { refusals: REFUSALS, ...(collation() ? { collation: { locale: 'simple' } } : {}) }
  const updates = patches.map(updateOf)
  const known = updates.filter((each) => each !== undefined)
  const outcomes = await sendWithKeys(raw, known.filter(keepsKeys), sending)
  return Promise.all(
    updates.map(async (each) => {
      if (each === undefined) return 'changed'
      return outcomes.get(each) ?? sendPlain(raw, each, sending)
    }),
  )
}

/** False for a document without envelopes that gets none: it keeps no keys, and nothing of ours but tokens. */
function keepsKeys({ key, replaced, added }: KeyedUpdate): boolean {
  return key.keys !== undefined || replaced.size > 0 || added.length > 0
}

async function sendPlain(
  raw: RawCollection,
  { filter, update }: KeyedUpdate,
  { refusals = [], collation }: Sending,
): Promise<Converted> {
  try {
    const options = { ...DURABLE, ...(collation && { collation }) }
    return (await raw.updateOne(filter, update, options)).matchedCount > 0 ? 'updated' : 'changed'
  } catch (error) {
    if (refusals.includes(Reflect.get(Object(error), 'code'))) return 'refused'
    throw error
  }
}

/** Undefined for cells of another document. */
function updateOf(patch: RowPatch<PatchedCell>): KeyedUpdate | undefined {
  const key = patch.key as DocumentKey // opaque to core: it gives back what documentKey() made
  const change = changeOf(key, patch.cells)
  if (change === undefined) return undefined
  const { filter, set, unset, replaced, added } = change
  for (const [index, tokens] of patch.tokens ?? []) {
    const leaf = compoundLeaf(tokens)
    if (leaf === undefined) unset[compoundPath(index)] = 1
    else set[compoundPath(index)] = leaf
  }
  const update = Object.fromEntries(
    Object.entries({ $set: set, $unset: unset }).filter(([, paths]) => Object.keys(paths).length > 0),
  )
  return { key, filter, update, replaced, added }
}

interface Change {
  readonly filter: Doc
  readonly set: Doc
  readonly unset: Doc
  /** Names of the cells that are replaced, and the KEKs of those that take their places. */
  readonly replaced: Set<string>
  readonly added: mongo.Binary[]
}

function changeOf(key: DocumentKey, cells: readonly PatchedCell[]): Change | undefined {
  // Plaintext may be the same in a document that has become another tenant's, who could not open what is sealed here.
  const change: Change = { filter: { _id: key.id, ...key.owner }, set: {}, unset: {}, replaced: new Set(), added: [] }
  const nth = new Map<unknown, number>()
  for (const cell of cells) {
    const known = pathsOf(key, cell)
    // Where several are alike each is named once, in order.
    const name = cell.before === null ? cell.field : cell.before
    const path = known[nth.get(name) ?? 0]
    nth.set(name, (nth.get(name) ?? 0) + 1)
    if (path === undefined) return undefined
    expectStill(cell, path, key, change)
    const hasTokens = isPlainCell(cell.before) && key.plain.get(cell.before)?.hasTokens === true
    const isLeaf = hasTokens || (sealedIn(cell.before) !== undefined && !key.bare.has(path))
    if (cell.after !== cell.before) replace(cell, path, isLeaf, change)
    else if (cell.tokens !== undefined) putLeaf(cell, path, sealedIn(cell.before), true, change)
  }
  return change
}

function pathsOf({ paths, plain, nulls }: DocumentKey, { field, before }: PatchedCell): readonly string[] {
  if (before === null) return nulls.get(field) ?? []
  if (!isPlainCell(before)) return paths.get(cellName(before)) ?? []
  const found = plain.get(before)
  return found === undefined ? [] : [found.path]
}

/** Where the envelope of a field is put, and where its old plaintext does if that is another place. */
function placesOf({ field }: PatchedCell, path: string): { readonly leaf: string; readonly old: string | undefined } {
  const oldName = field.plaintextIn?.split('.').at(-1)
  return {
    leaf: field.blindIndex === undefined ? path : `${path}.c`,
    old: oldName === undefined ? undefined : besidePath(path, unescaped(oldName)),
  }
}

function unescaped(name: string): string {
  return name.replace(/^~2/, '$').replaceAll('~1', '.').replaceAll('~0', '~')
}

/** What must stand there still. */
function expectStill(cell: PatchedCell, path: string, key: DocumentKey, { filter }: Change): void {
  const { before } = cell
  const { leaf, old } = placesOf(cell, path)
  const envelope = sealedIn(before)
  if (isPlainCell(before) && old === undefined) {
    filter[path] = { $eq: before.stored ?? before.value }
    return
  }
  if (envelope !== undefined) filter[envelopePath(key, path)] = binary(envelope)
  else if (before === null && cell.field.blindIndex === undefined) filter[path] = null
  else if (before === null) Object.assign(filter, { [path]: { $not: { $type: 'binData' } }, [`${path}.c`]: null })
  else filter[leaf] = leaf === path ? { $not: { $type: 'binData' } } : { $exists: false }
  if (old !== undefined) filter[old] = isPlainCell(before) ? { $eq: before.stored ?? before.value } : null
}

function replace(cell: PatchedCell, path: string, isLeaf: boolean, change: Change): void {
  const { before, after } = cell
  const { set, unset, replaced, added } = change
  const { old } = placesOf(cell, path)
  if (!isEnvelope(after)) assertMayOpen(cell)
  const envelope = sealedIn(before)
  if (envelope !== undefined) replaced.add(cellName(envelope))
  if (isPlainCell(after)) {
    const value = after.stored ?? toDriverValue(after.value, AS_STORED)
    set[old ?? path] = value
    if (old !== undefined) putLeaf(cell, path, undefined, true, change)
    return
  }
  if (old !== undefined) unset[old] = 1
  if (after === null) {
    unset[path] = 1
    return
  }
  added.push(kekIdOf(after))
  putLeaf(cell, path, after, isLeaf, change)
}

/** Only while a field is `plaintext` may a value leave its envelope. */
function assertMayOpen({ field, before, after }: PatchedCell): void {
  if (field.state === 'plaintext' || (after === null && before === null)) return
  throw new FieldsealError('ERR_WRITE_UNSUPPORTED', { model: field.model, field: field.id, reason: 'not-an-envelope' })
}

/** @param isLeaf whether `{ c, b, n }` stands there, whose tokens stay where no others are given */
function putLeaf(
  { field, tokens }: PatchedCell,
  path: string,
  envelope: Envelope | undefined,
  isLeaf: boolean,
  { set, unset }: Change,
): void {
  const sealed = envelope && binary(envelope)
  if (field.blindIndex !== undefined && tokens === undefined && isLeaf) {
    if (sealed === undefined) unset[`${path}.c`] = 1
    else set[`${path}.c`] = sealed
    return
  }
  const leaf = field.blindIndex === undefined ? sealed : leafOf(sealed, tokens ?? [])
  if (leaf === undefined) unset[path] = 1
  else set[path] = leaf
}

function leafOf(sealed: mongo.Binary | undefined, tokens: readonly IndexToken[]): Doc | undefined {
  const slots = tokens.map((token) => [SLOT_NAMES[tokenSlot(token)], binary(token)] as const)
  const leaf = { ...(sealed && { c: sealed }), ...Object.fromEntries(slots) }
  return Object.keys(leaf).length === 0 ? undefined : leaf
}

function sealedIn(cell: PatchedCell['before']): Envelope | undefined {
  return isPlainCell(cell) ? cell.outlived : (cell ?? undefined)
}

function binary(bytes: Uint8Array): mongo.Binary {
  return new Binary(bytes, Binary.SUBTYPE_USER_DEFINED)
}
