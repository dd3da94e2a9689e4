import { isEnvelope } from '@fieldseal/core/adapter'
import type { mongo } from 'mongoose'
import type { StoredRow } from '../read-path/collect-rows.ts'
import { kekIdOf } from '../write-path/draft.ts'

/** What is needed to find a document and its cells again. */
export interface DocumentKey {
  readonly id: unknown
  /** Paths by the bytes of the cell that stands there. */
  readonly paths: ReadonlyMap<string, readonly string[]>
  /** All KEKs of the document, and the stamp it had; undefined when only a part of it was read. */
  readonly keys?: {
    readonly stamp: unknown
    /** By the bytes of each cell: cells that are replaced count no longer. */
    readonly keks: ReadonlyMap<string, mongo.Binary>
  }
}

/** @param whole every path of the document was read */
export function documentKey({ document, stamp, cells, places }: StoredRow, whole: boolean): DocumentKey {
  const paths = new Map<string, string[]>()
  const keks = new Map<string, mongo.Binary>()
  cells.forEach(({ value }, at) => {
    if (!isEnvelope(value)) return
    const name = cellName(value)
    paths.set(name, [...(paths.get(name) ?? []), places[at]?.path ?? ''])
    keks.set(name, kekIdOf(value))
  })
  const id = document['_id']
  return whole && stamp !== undefined ? { id, paths, keys: { stamp, keks } } : { id, paths }
}

export function cellName(envelope: Uint8Array): string {
  return Buffer.from(envelope.buffer, envelope.byteOffset, envelope.byteLength).toString('latin1')
}
