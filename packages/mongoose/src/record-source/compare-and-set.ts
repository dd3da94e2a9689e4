import type { RecordMap, RowPatch } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import type { Doc } from '../bson/documents.ts'
import type { RawCollection } from '../install/collection-state.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { cellName, type DocumentKey } from '../read-path/open-documents.ts'
import { kekIdOf, newStamp } from '../write-path/draft.ts'

const { Binary } = mongo

/** A rewrap must not be lost after the old key is gone. */
const DURABLE = { writeConcern: { w: 'majority' } } as const

/**
 * Replaces cells where the stored bytes are still those that were read. Goes to the driver's collection: no middleware,
 * no timestamps, no version key.
 */
export async function compareAndSet(
  raw: RawCollection,
  _map: RecordMap,
  patches: readonly RowPatch[],
): Promise<readonly ('updated' | 'changed')[]> {
  return Promise.all(patches.map((patch) => setOne(raw, patch)))
}

async function setOne(raw: RawCollection, { key, cells }: RowPatch): Promise<'updated' | 'changed'> {
  const { id, paths } = key as DocumentKey // opaque to core: it gives back what openDocuments offered
  const filter: Doc = { _id: id }
  const set: Doc = { [`${KEYS_PATH}.w`]: newStamp() }
  const keks = new Map<string, unknown>()
  for (const { field, before, after } of cells) {
    for (const path of paths.get(cellName(before)) ?? []) {
      const leaf = field.blindIndex === undefined ? path : `${path}.c`
      filter[leaf] = new Binary(before, Binary.SUBTYPE_USER_DEFINED)
      set[leaf] = new Binary(after, Binary.SUBTYPE_USER_DEFINED)
      const kek = kekIdOf(after)
      keks.set(kek.toString('hex'), kek)
    }
  }
  const update = { $set: set, $addToSet: { [`${KEYS_PATH}.k`]: { $each: [...keks.values()] } } }
  const { matchedCount } = await raw.updateOne(filter, update, DURABLE)
  return matchedCount > 0 ? 'updated' : 'changed'
}
