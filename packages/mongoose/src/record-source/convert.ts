import {
  FieldsealError,
  isEnvelope,
  tokenSlot,
  type Converted,
  type PatchedCell,
  type RowPatch,
} from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import type { Doc } from '../bson/documents.ts'
import type { RawCollection } from '../install/collection-state.ts'
import { SLOT_NAMES } from '../query-rewrite/token-terms.ts'
import { cellName, type DocumentKey } from './document-key.ts'

const { Binary } = mongo
const DURABLE = { writeConcern: { w: 'majority' } } as const
/** A duplicate key, and a document that a validator does not let in. */
const REFUSALS: readonly unknown[] = [11_000, 121]

/**
 * Gives cells other tokens where the stored bytes are still those that were read: all cells of a document or none. Goes to
 * the driver's collection: no middleware, no timestamps, no version key.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED for cells whose value is to be stored in another form
 */
export async function convert(
  raw: RawCollection,
  patches: readonly RowPatch<PatchedCell>[],
): Promise<readonly Converted[]> {
  return Promise.all(patches.map((patch) => setTokens(raw, patch)))
}

async function setTokens(raw: RawCollection, { key, cells }: RowPatch<PatchedCell>): Promise<Converted> {
  const { id, paths } = key as DocumentKey // opaque to core: it gives back what documentKey() made
  const filter: Doc = { _id: id }
  const [set, unset]: [Doc, Doc] = [{}, {}]
  for (const { field, before, after, tokens } of cells) {
    if (before !== after || !isEnvelope(before) || tokens === undefined)
      throw new FieldsealError('ERR_WRITE_UNSUPPORTED', {
        model: field.model,
        field: field.id,
        reason: 'not-an-envelope',
      })
    for (const path of paths.get(cellName(before)) ?? []) {
      filter[`${path}.c`] = new Binary(before, Binary.SUBTYPE_USER_DEFINED)
      for (const [slot, name] of Object.entries(SLOT_NAMES)) {
        const token = tokens.find((one) => tokenSlot(one) === slot)
        if (token === undefined) unset[`${path}.${name}`] = 1
        else set[`${path}.${name}`] = new Binary(token, Binary.SUBTYPE_USER_DEFINED)
      }
    }
  }
  const update = {
    ...(Object.keys(set).length === 0 ? {} : { $set: set }),
    ...(Object.keys(unset).length === 0 ? {} : { $unset: unset }),
  }
  if (Object.keys(update).length === 0) return 'changed' // cells of another document
  try {
    const { matchedCount } = await raw.updateOne(filter, update, DURABLE)
    return matchedCount > 0 ? 'updated' : 'changed'
  } catch (error) {
    if (REFUSALS.includes(Reflect.get(Object(error), 'code'))) return 'refused'
    throw error
  }
}
