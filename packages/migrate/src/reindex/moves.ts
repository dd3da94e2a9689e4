import {
  type BlindIndex,
  type RecordMap,
  FieldsealError,
  type IndexTarget,
  indexEpochs,
  type IndexEpochs,
  type KekId,
  type KeyInfo,
  listKeys,
} from '@fieldseal/core/adapter'
import { compoundOf, fieldOf, type Surroundings, type Target } from '../engine/target.ts'

export type IndexInfo = Extract<KeyInfo, { readonly kind: 'index' }>

/** One index of one tenant, or of all together. */
export interface Move {
  readonly index: BlindIndex
  /** As records name it. */
  readonly owner: string
  readonly target: IndexTarget
}

export interface StandingMove extends Move {
  readonly epochs: IndexEpochs
}

/** The epochs of all indexes; KEKs, of which there may be one per data subject, are not kept. */
export async function indexRecords(
  { fieldseal }: Surroundings,
  tenant: string | undefined,
): Promise<readonly IndexInfo[]> {
  const records: IndexInfo[] = []
  for await (const record of listKeys(fieldseal, tenant === undefined ? {} : { tenant }))
    if (record.kind === 'index') records.push(record)
  return records
}

/** The indexes that a reindex is about. @throws FieldsealError ERR_ARGUMENT_INVALID when it names a field without one */
export function indexesOf(targets: readonly Target[]): readonly BlindIndex[] {
  const found = new Map<string, BlindIndex>()
  for (const { map, what } of targets) {
    const named = what.field === undefined ? undefined : indexNamed(map, what.field)
    for (const index of map.indexes)
      if (what.field === undefined || index === named) found.set(`${index.model}\0${index.id}`, index)
    if (what.field !== undefined && named === undefined)
      throw new FieldsealError('ERR_ARGUMENT_INVALID', {
        model: map.id,
        field: 'field',
        reason: 'it has no blindIndex',
      })
  }
  return [...found.values()]
}

/** The index of a field, or the one over several fields that has this id. */
function indexNamed(map: RecordMap, name: string): BlindIndex | undefined {
  const field = fieldOf(map, name)
  return field === undefined ? compoundOf(map, name) : field.blindIndex
}

/**
 * Where each of the indexes stands, per tenant that has tokens in it. A tenant without an index record has none, and will
 * begin with the newest.
 */
export async function movesOf(
  { fieldseal, host }: Surroundings,
  indexes: readonly BlindIndex[],
  records: readonly IndexInfo[],
  leaving: readonly KekId[],
): Promise<readonly StandingMove[]> {
  const known = new Map(indexes.map((index) => [`${index.model}\0${index.id}`, index]))
  const moves = new Map<string, Move>()
  for (const record of records) {
    const index = known.get(`${record.model}\0${record.index}`)
    if (index === undefined) continue
    if (index.acrossTenants !== isShared(record.tenant)) continue // of another annotation, under which nobody looks
    const named = host.tenancy === 'single' || index.acrossTenants ? {} : { tenant: record.tenant }
    const move = { index, owner: record.tenant, target: { index, leaving, ...named } }
    moves.set(`${index.model}\0${index.id}\0${record.tenant}`, move)
  }
  const standing: StandingMove[] = []
  for (const move of moves.values()) {
    const epochs = await indexEpochs(fieldseal, move.target)
    if (epochs !== undefined) standing.push({ ...move, target: { ...move.target, expected: epochs.live }, epochs })
  }
  return standing
}

/** The keys of live epochs: what a new key leaves. */
export function liveKeys(records: readonly IndexInfo[], moves: readonly Move[]): readonly KekId[] {
  const names = new Set(moves.map(({ index, owner }) => `${index.model}\0${index.id}\0${owner}`))
  const live = records.filter(
    (record) => record.role !== 'old' && names.has(`${record.model}\0${record.index}\0${record.tenant}`),
  )
  return [...new Set(live.map(({ kekId }) => kekId))].toSorted()
}

export function isShared(tenant: string): boolean {
  return tenant === '$shared'
}
