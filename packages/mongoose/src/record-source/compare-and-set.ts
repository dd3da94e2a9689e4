import type { RecordWriter, RowPatch } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import type { Doc } from '../bson/documents.ts'
import type { RawCollection } from '../install/collection-state.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { kekIdOf, newStamp } from '../write-path/draft.ts'
import { cellName, type DocumentKey } from './document-key.ts'
import { CellsInFlight } from './in-flight.ts'

const { Binary } = mongo

/** A rewrap must not be lost after the old key is gone. */
const DURABLE = { writeConcern: { w: 'majority' } } as const

/** Writes rewraps, and knows those that are under way. */
export interface RewrapWriter extends RecordWriter {
  readonly inFlight: CellsInFlight
}

/**
 * Replaces cells where the stored bytes are still those that were read. Goes to the driver's collection: no middleware,
 * no timestamps, no version key.
 */
export function rewrapWriter(raw: RawCollection): RewrapWriter {
  const inFlight = new CellsInFlight()
  return {
    inFlight,
    async compareAndSet(_map, patches) {
      try {
        return await Promise.all(patches.map((patch) => setOne(raw, patch)))
      } finally {
        for (const { key, cells } of patches)
          for (const { before } of cells) inFlight.release((key as DocumentKey).id, before)
      }
    },
  }
}

async function setOne(raw: RawCollection, { key, cells }: RowPatch): Promise<'updated' | 'changed'> {
  const { id, paths, keys } = key as DocumentKey // opaque to core: it gives back what documentKey() made
  const filter: Doc = { _id: id }
  const set: Doc = {}
  const replaced = new Set<string>()
  const added: mongo.Binary[] = []
  for (const { field, before, after } of cells) {
    replaced.add(cellName(before))
    added.push(kekIdOf(after))
    for (const path of paths.get(cellName(before)) ?? []) {
      const leaf = field.blindIndex === undefined ? path : `${path}.c`
      filter[leaf] = new Binary(before, Binary.SUBTYPE_USER_DEFINED)
      set[leaf] = new Binary(after, Binary.SUBTYPE_USER_DEFINED)
    }
  }
  if (Object.keys(set).length === 0) return 'changed' // cells of another document
  const send = async (criteria: Doc, update: Doc) => (await raw.updateOne(criteria, update, DURABLE)).matchedCount > 0
  if (keys !== undefined) {
    // Nobody has written since it was read, so these are all of its keys.
    const kept = [...keys.keks].filter(([cell]) => !replaced.has(cell)).map(([, kek]) => kek)
    const exact = { k: distinct([...kept, ...added]), w: newStamp() }
    const isWritten = await send(
      { ...filter, [`${KEYS_PATH}.w`]: keys.stamp },
      { $set: { ...set, [KEYS_PATH]: exact } },
    )
    if (isWritten) return 'updated'
  }
  const isWritten = await send(filter, {
    $set: { ...set, [`${KEYS_PATH}.w`]: newStamp() },
    $addToSet: { [`${KEYS_PATH}.k`]: { $each: distinct(added) } },
  })
  return isWritten ? 'updated' : 'changed'
}

function distinct(kekIds: readonly mongo.Binary[]): mongo.Binary[] {
  return [...new Map(kekIds.map((id) => [id.toString('hex'), id])).values()]
}
