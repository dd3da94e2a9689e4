import type { RecordWriter, RowPatch } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import type { Doc } from '../bson/documents.ts'
import type { RawCollection } from '../install/collection-state.ts'
import { kekIdOf } from '../write-path/draft.ts'
import { cellName, envelopePath, type DocumentKey } from './document-key.ts'
import { CellsInFlight } from './in-flight.ts'
import { sendWithKeys, type KeyedUpdate } from './send-with-keys.ts'

const { Binary } = mongo

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
        const updates = patches.map(updateOf)
        const outcomes = await sendWithKeys(
          raw,
          updates.filter((each) => each !== undefined),
        )
        return updates.map((each) => (each && outcomes.get(each) === 'updated' ? 'updated' : 'changed'))
      } finally {
        for (const { key, cells } of patches)
          for (const { before } of cells) inFlight.release((key as DocumentKey).id, before)
      }
    },
  }
}

/** Undefined for cells of another document. */
function updateOf({ key, cells }: RowPatch): KeyedUpdate | undefined {
  const found = key as DocumentKey // opaque to core: it gives back what documentKey() made
  const filter: Doc = { _id: found.id }
  const set: Doc = {}
  const replaced = new Set<string>()
  const added: mongo.Binary[] = []
  for (const { before, after } of cells) {
    replaced.add(cellName(before))
    added.push(kekIdOf(after))
    for (const path of found.paths.get(cellName(before)) ?? []) {
      const leaf = envelopePath(found, path)
      filter[leaf] = new Binary(before, Binary.SUBTYPE_USER_DEFINED)
      set[leaf] = new Binary(after, Binary.SUBTYPE_USER_DEFINED)
    }
  }
  if (Object.keys(set).length === 0) return undefined
  return { key: found, filter, update: { $set: set }, replaced, added }
}
