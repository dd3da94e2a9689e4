import { isEnvelope, isPlainCell, type Field, type PlainCell } from '@fieldseal/core/adapter'
import type { mongo } from 'mongoose'
import type { Doc } from '../bson/documents.ts'
import { compoundsOf } from '../path-graph/compound-paths.ts'
import type { StoredRow } from '../read-path/collect-rows.ts'
import { kekIdOf } from '../write-path/draft.ts'
import { isStill } from '../write-path/still.ts'

/** What is needed to find a document and its cells again. */
export interface DocumentKey {
  readonly id: unknown
  /** What says whose document it is, as conditions that it still is; none when only a part of it was read. */
  readonly owner: Doc
  /** Paths by the bytes of the cell that stands there. */
  readonly paths: ReadonlyMap<string, readonly string[]>
  /** Paths where an envelope stands alone, not in a leaf beside tokens: whatever the annotation says today. */
  readonly bare: ReadonlySet<string>
  /** Paths of values that are stored unencrypted, and whether tokens stand there. */
  readonly plain: ReadonlyMap<PlainCell, { readonly path: string; readonly hasTokens: boolean }>
  /** Paths of nulls that are to be encrypted or lose their tokens, and paths of compound indexes without a value. */
  readonly nulls: ReadonlyMap<Field, readonly string[]>
  /** All KEKs of the document, and the stamp it had; undefined when only a part of it was read. */
  readonly keys?: {
    readonly stamp: unknown
    /** By the bytes of each cell: cells that are replaced count no longer. */
    readonly keks: ReadonlyMap<string, mongo.Binary>
  }
}

/** @param whole every path of the document was read */
export function documentKey({ model, document, stamp, cells, places }: StoredRow, whole: boolean): DocumentKey {
  const paths = new Map<string, string[]>()
  const bare = new Set<string>()
  const plain = new Map<PlainCell, { path: string; hasTokens: boolean }>()
  const nulls = new Map<Field, string[]>()
  const keks = new Map<string, mongo.Binary>()
  cells.forEach(({ field, value }, at) => {
    const { path = '', tokens = [] } = places[at] ?? {}
    if (value === null) nulls.set(field, [...(nulls.get(field) ?? []), path])
    if (isPlainCell(value)) plain.set(value, { path, hasTokens: tokens.some((token) => token !== undefined) })
    const envelope = isPlainCell(value) ? value.outlived : value
    if (!isEnvelope(envelope)) return
    if (tokens.length === 0) bare.add(path) // a leaf has two slots, empty or not
    const name = cellName(envelope)
    keks.set(name, kekIdOf(envelope))
    if (envelope === value) paths.set(name, [...(paths.get(name) ?? []), path])
  })
  if (whole)
    for (const field of compoundsOf(model).flatMap(({ fields }) => fields))
      if (!cells.some((cell) => cell.field === field)) nulls.set(field, [field.path])
  const id = document['_id']
  const facts = whole ? model.facts.filter((fact) => fact !== model.id) : []
  const owner = Object.fromEntries(facts.map(({ path }) => [path, isStill(document, path)]))
  const key = { id, owner, paths, bare, plain, nulls }
  return whole && stamp !== undefined ? { ...key, keys: { stamp, keks } } : key
}

/** Where an envelope stands that was read at a path. */
export function envelopePath({ bare }: DocumentKey, path: string): string {
  return bare.has(path) ? path : `${path}.c`
}

export function cellName(envelope: Uint8Array): string {
  return Buffer.from(envelope.buffer, envelope.byteOffset, envelope.byteLength).toString('latin1')
}
