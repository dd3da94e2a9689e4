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
export const DURABLE = { writeConcern: { w: 'majority' } } as const

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

function setOne(raw: RawCollection, { key, cells }: RowPatch): Promise<'updated' | 'changed'> {
  const found = key as DocumentKey // opaque to core: it gives back what documentKey() made
  const filter: Doc = { _id: found.id }
  const set: Doc = {}
  const replaced = new Set<string>()
  const added: mongo.Binary[] = []
  for (const { field, before, after } of cells) {
    replaced.add(cellName(before))
    added.push(kekIdOf(after))
    for (const path of found.paths.get(cellName(before)) ?? []) {
      const leaf = field.blindIndex === undefined ? path : `${path}.c`
      filter[leaf] = new Binary(before, Binary.SUBTYPE_USER_DEFINED)
      set[leaf] = new Binary(after, Binary.SUBTYPE_USER_DEFINED)
    }
  }
  if (Object.keys(set).length === 0) return Promise.resolve('changed') // cells of another document
  return sendWithKeys(raw, found, { filter, update: { $set: set }, replaced, added, options: DURABLE })
}

interface KeyedUpdate {
  readonly filter: Doc
  readonly update: Doc
  /** Names of the cells that are replaced. */
  readonly replaced: ReadonlySet<string>
  /** KEKs of those that take their places. */
  readonly added: readonly mongo.Binary[]
  readonly options: unknown
}

/** Updates a document that is still as the filter says, and the ids of the KEKs that it keeps. */
export async function sendWithKeys(
  raw: RawCollection,
  { keys }: DocumentKey,
  { filter, update, replaced, added, options }: KeyedUpdate,
): Promise<'updated' | 'changed'> {
  const send = async (criteria: Doc, more: Doc) => {
    const changes = { ...update, ...more, $set: { ...(update['$set'] as Doc | undefined), ...(more['$set'] as Doc) } }
    return (await raw.updateOne(criteria, changes, options)).matchedCount > 0
  }
  if (keys !== undefined) {
    // Nobody has written since it was read, so these are all of its keys.
    const kept = [...keys.keks].filter(([cell]) => !replaced.has(cell)).map(([, kek]) => kek)
    const exact = { k: distinct([...kept, ...added]), w: newStamp() }
    if (await send({ ...filter, [`${KEYS_PATH}.w`]: keys.stamp }, { $set: { [KEYS_PATH]: exact } })) return 'updated'
  }
  const isWritten = await send(filter, {
    $set: { [`${KEYS_PATH}.w`]: newStamp() },
    $addToSet: { [`${KEYS_PATH}.k`]: { $each: distinct(added) } },
  })
  return isWritten ? 'updated' : 'changed'
}

function distinct(kekIds: readonly mongo.Binary[]): mongo.Binary[] {
  return [...new Map(kekIds.map((id) => [id.toString('hex'), id])).values()]
}
