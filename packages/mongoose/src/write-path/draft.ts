import {
  tokenSlot,
  type AdapterHost,
  type BlindIndex,
  type Cell,
  type Field,
  type IndexToken,
  type KekId,
  type OperationContext,
  type Row,
  type RowFacts,
  type SealedRow,
} from '@fieldseal/core/adapter'
import { randomBytes } from 'node:crypto'
import { mongo } from 'mongoose'
import { setKey, type Doc } from '../bson/documents.ts'
import { compoundsOf } from '../path-graph/compound-paths.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { SLOT_NAMES } from '../query-rewrite/token-terms.ts'

const { Binary } = mongo
const { SUBTYPE_USER_DEFINED } = Binary

/** A value to seal, or to make tokens of, and where its leaf goes. */
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
  /** Values that are stored and stay as they are: tokens of several paths are made of them too. */
  known: readonly Cell<unknown>[] = []
  /** Tokens of several paths together, once it is sealed. */
  compounds: ReadonlyMap<BlindIndex, readonly IndexToken[]> = new Map()

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
  for (const draft of drafts) assertSingle(draft)
  const sealed = partsOf(drafts, ({ field }) => field.state !== 'plaintext')
  const indexed = partsOf(drafts, ({ field }) => field.state === 'plaintext')
  if (sealed.length > 0) {
    const rows = await host.cipher.seal(sealed.map(rowOf), context)
    sealed.forEach(({ draft, cells }, at) => {
      const row = rows[at] as SealedRow // results come in the order of the input
      draft.kekIds = row.kekIds
      draft.compounds = compoundsIn(row.tokens)
      fill(cells, ({ field }, of, nth) => leafOf(field, row, of, nth, host))
    })
  }
  const completed = sealed.filter(({ draft }) => draft.known.length > 0)
  if (completed.length > 0) {
    const rows = completed.map((part) => {
      const row = rowOf(part)
      return { ...row, cells: [...row.cells, ...part.draft.known] }
    })
    const tokens = await host.cipher.index(rows, context)
    completed.forEach(({ draft }, at) => {
      draft.compounds = compoundsIn(tokens[at] as SealedRow['tokens']) // results come in the order of the input
    })
  }
  if (indexed.length > 0) {
    const rows = await host.cipher.index(indexed.map(rowOf), context)
    indexed.forEach(({ cells }, at) => {
      const tokens = rows[at] as SealedRow['tokens'] // results come in the order of the input
      fill(cells, ({ field }, _of, nth) => {
        const leaf = tokenLeaf(field, tokens, nth)
        return Object.keys(leaf).length === 0 ? null : leaf
      })
    })
  }
}

/** Tokens of several paths are made of one value of each. An array may stand where the schema has none. */
function assertSingle({ model, cells }: Draft): void {
  for (const { id, fields } of compoundsOf(model))
    if (fields.some((field) => cells.filter((cell) => cell.field === field).length > 1))
      refuseWrite(model.map.id, id, 'compound-index', 'one of its paths has several values: write one')
}

/** An index over several fields has one occurrence. */
function compoundsIn(tokens: SealedRow['tokens']): Draft['compounds'] {
  return new Map([...tokens].flatMap(([index, [own = []]]) => (index.fields.length > 1 ? [[index, own] as const] : [])))
}

/** Some of the cells of a draft. */
interface Part {
  readonly draft: Draft
  readonly cells: readonly DraftCell[]
}

function partsOf(drafts: readonly Draft[], isMeant: (cell: DraftCell) => boolean): Part[] {
  return drafts.map((draft) => ({ draft, cells: draft.cells.filter(isMeant) })).filter(({ cells }) => cells.length > 0)
}

function rowOf({ draft: { model, facts }, cells }: Part): Row<unknown> {
  return {
    map: model.map,
    facts: facts as RowFacts, // set by whoever fills a draft
    cells: cells.map(({ field, mapKeys, value }) => ({ field, value, ...(mapKeys.length === 0 ? {} : { mapKeys }) })),
  }
}

/** @param leafOfCell told the place of a cell among all, and among those of its field */
function fill(cells: readonly DraftCell[], leafOfCell: (cell: DraftCell, of: number, nth: number) => unknown): void {
  const occurrence = new Map<Field, number>()
  cells.forEach((cell, of) => {
    const nth = occurrence.get(cell.field) ?? 0
    occurrence.set(cell.field, nth + 1)
    const leaf = leafOfCell(cell, of, nth)
    if (Array.isArray(cell.holder)) cell.holder[cell.key as number] = leaf
    else setKey(cell.holder, String(cell.key), leaf)
  })
}

/** What is stored of a value: the envelope, with its tokens where the path is searchable; null for null. */
function leafOf(field: Field, row: SealedRow, cell: number, nth: number, host: AdapterHost): unknown {
  const envelope = row.envelopes[cell] ?? null
  host.guard.assertSealed(field, envelope)
  if (envelope === null) return null
  const sealed = new Binary(envelope, SUBTYPE_USER_DEFINED)
  if (field.blindIndex === undefined) return sealed
  return { c: sealed, ...tokenLeaf(field, row.tokens, nth) }
}

function tokenLeaf({ blindIndex }: Field, tokens: SealedRow['tokens'], nth: number): Doc {
  const leaf: Doc = {}
  for (const token of (blindIndex && tokens.get(blindIndex)?.[nth]) ?? [])
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
