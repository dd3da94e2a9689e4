import {
  tokenSlot,
  type AdapterHost,
  type Field,
  type KekId,
  type OperationContext,
  type RowFacts,
  type SealedRow,
} from '@fieldseal/core/adapter'
import { randomBytes } from 'node:crypto'
import { mongo } from 'mongoose'
import { setKey, type Doc } from '../bson/documents.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { SLOT_NAMES } from '../query-rewrite/token-terms.ts'

const { Binary } = mongo
const { SUBTYPE_USER_DEFINED } = Binary

/** A value to seal, and where its leaf goes. */
export interface DraftCell {
  readonly field: Field
  readonly mapKeys: readonly string[]
  readonly value: unknown
  readonly holder: Doc | unknown[]
  readonly key: string | number
}

/** What one operation writes into one document, all under one DEK. */
export class Draft {
  readonly model: StoredModel
  readonly cells: DraftCell[] = []
  facts: RowFacts | undefined
  kekIds: readonly KekId[] = []

  constructor(model: StoredModel, facts?: RowFacts) {
    this.model = model
    this.facts = facts
  }
}

/** Seals all drafts in one batch and puts the leaves where they belong. */
export async function sealDrafts(
  drafts: readonly Draft[],
  host: AdapterHost,
  context: OperationContext,
): Promise<void> {
  const filled = drafts.filter(({ cells }) => cells.length > 0)
  if (filled.length === 0) return
  const sealed = await host.cipher.seal(
    filled.map(({ model, facts, cells }) => ({
      map: model.map,
      facts: facts as RowFacts, // set by whoever fills a draft
      cells: cells.map(({ field, mapKeys, value }) => ({ field, value, ...(mapKeys.length === 0 ? {} : { mapKeys }) })),
    })),
    context,
  )
  filled.forEach((draft, at) => {
    const row = sealed[at] as SealedRow // results come in the order of the input
    draft.kekIds = row.kekIds
    const occurrence = new Map<Field, number>()
    draft.cells.forEach((cell, of) => {
      const nth = occurrence.get(cell.field) ?? 0
      occurrence.set(cell.field, nth + 1)
      const leaf = leafOf(cell.field, row, of, nth, host)
      if (Array.isArray(cell.holder)) cell.holder[cell.key as number] = leaf
      else setKey(cell.holder, String(cell.key), leaf)
    })
  })
}

/** What is stored of a value: the envelope, with its tokens where the path is searchable; null for null. */
function leafOf(field: Field, row: SealedRow, cell: number, nth: number, host: AdapterHost): unknown {
  const envelope = row.envelopes[cell] ?? null
  host.guard.assertSealed(field, envelope)
  if (envelope === null) return null
  const sealed = new Binary(envelope, SUBTYPE_USER_DEFINED)
  if (field.blindIndex === undefined) return sealed
  const leaf: Doc = { c: sealed }
  for (const token of row.tokens.get(field.blindIndex)?.[nth] ?? [])
    leaf[SLOT_NAMES[tokenSlot(token)]] = new Binary(token, SUBTYPE_USER_DEFINED)
  return leaf
}

/**
 * The superset of KEK ids that a document keeps: MongoDB cannot look inside Binary. `w` changes with every write, so that
 * a clean-up can tell that nobody wrote since it read.
 */
export function keysOf(kekIds: readonly KekId[]): { readonly k: unknown[]; readonly w: unknown } {
  return { k: [...new Set(kekIds)].map(storedKekId), w: newStamp() }
}

/** Adds KEK ids to the superset of whatever document an update meets. */
export function addKeys(update: Doc, kekIds: readonly KekId[]): Doc {
  if (kekIds.length === 0) return update
  const { k, w } = keysOf(kekIds)
  const { $addToSet = {}, $set = {} } = update as { readonly $addToSet?: Doc; readonly $set?: Doc } // operators hold objects
  return {
    ...update,
    $addToSet: { ...$addToSet, [`${KEYS_PATH}.k`]: { $each: k } },
    $set: { ...$set, [`${KEYS_PATH}.w`]: w },
  }
}

/** 12 bytes. */
export function storedKekId(id: KekId): mongo.Binary {
  return new Binary(Buffer.from(id, 'hex'))
}

/** The id of the KEK that wraps an envelope's DEK: bytes 3–14. */
export function kekIdOf(envelope: Uint8Array): mongo.Binary {
  return new Binary(Buffer.from(envelope.subarray(3, 15)))
}

export function newStamp(): mongo.Binary {
  return new Binary(randomBytes(8))
}
