import { liveTokens, type PartsOf } from '../blind-index/live-tokens.ts'
import { nodeEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import type { Envelope } from '../envelope/layout.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { sealRows, type RowToSeal, type ValueToSeal } from '../field/seal-rows.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import { resolveKeys, wantedBy, type BatchKeyDeps, type BatchKeys } from './batch-keys.ts'
import { built } from './blind-index-of-model.ts'
import { assertOwnRow } from './key-lookup.ts'
import type { BlindIndex, IndexToken, Row, SealedRow } from './ports.ts'
import { inTimeSlices } from './time-slices.ts'
import { type SealDirectDeps, sealDirectRows } from './seal-direct.ts'
import { isUnreadable } from './unreadable.ts'
import { createWrapFrames, type WrapFrames } from './wrap-frames.ts'

export interface SealDeps extends BatchKeyDeps, SealDirectDeps {
  readonly random: RandomSource
}

/** At most this many values under one DEK. */
const MAX_VALUES_PER_DEK = 2 ** 20

export async function sealBatch(
  rows: readonly Row<unknown>[],
  context: OperationContext,
  via: unknown,
  deps: SealDeps,
): Promise<readonly SealedRow[]> {
  for (const row of rows) assertWritable(row, context)
  const wanted = wantedBy(rows)
  let keys = await resolveKeys(wanted, via, deps)
  try {
    const frames = createWrapFrames()
    const direct = await sealDirect(rows, via, deps)
    const keepAlive = async () => {
      if (keys.alive()) return
      keys.release()
      keys = await resolveKeys(wanted, via, deps) // purged while the event loop turned
    }
    if (direct.size > 0) await keepAlive()
    const sealed: SealedRow[] = []
    await inTimeSlices(
      rows.length,
      (from, to) => sealed.push(...sealSlice(rows.slice(from, to), keys, frames, direct, deps.random)),
      keepAlive,
    )
    return sealed
  } finally {
    keys.release()
  }
}

function sealSlice(
  rows: readonly Row<unknown>[],
  keys: BatchKeys,
  frames: WrapFrames,
  direct: DirectRows,
  random: RandomSource,
): SealedRow[] {
  const toSeal: RowToSeal[] = []
  const places = rows.map((row) => {
    const { map, facts } = row
    if (map.mode === 'direct') return { slots: [], sealedRow: undefined, kek: undefined }
    const { slots, values } = encodeRow(row)
    if (values.length === 0) return { slots, sealedRow: undefined, kek: undefined }
    const bound = map.bindRow !== 'never' && facts.rowId !== undefined
    const kek = keys.kekOf(row)
    const frame = frames.toSeal(kek, bound, { tenant: facts.tenant, keyspace: facts.keyspace, model: map.id })
    return { slots, sealedRow: toSeal.push({ frame, rowId: bound ? facts.rowId : undefined, values }) - 1, kek }
  })
  const envelopes = sealRows(toSeal, nodeEngine, random)
  return rows.map((row, i) => {
    const sealed = direct.get(row)
    if (sealed !== undefined) return { ...sealed, tokens: tokensOf(row, keys) }
    const { slots, sealedRow, kek } = places[i] ?? { slots: [], sealedRow: undefined, kek: undefined }
    return {
      envelopes: slots.map((slot): Envelope | null =>
        sealedRow === undefined ? null : (envelopes[sealedRow]?.[slot] ?? null),
      ),
      tokens: tokensOf(row, keys),
      kekIds: kek === undefined ? [] : [kek.record.id],
    }
  })
}

/** Encoded values of a row, and for each cell its place among them; -1 where a null stays null. */
function encodeRow({ cells }: Row<unknown>): { readonly slots: readonly number[]; readonly values: ValueToSeal[] } {
  const values: ValueToSeal[] = []
  const slots = cells.map(({ field, value, mapKeys }) => {
    const { policy } = built.field(field)
    const encoded = policy.encode(value)
    return encoded === null
      ? -1
      : values.push({ ...encoded, aad: policy.aad(encoded.valueFlags, encoded.typeTag, mapKeys) }) - 1
  })
  return { slots, values }
}

type DirectRows = ReadonlyMap<Row<unknown>, Omit<SealedRow, 'tokens'>>

/** The rows of models of mode `direct`. All are encoded before the first call to a KMS: a value that does not fit costs none. */
async function sealDirect(rows: readonly Row<unknown>[], via: unknown, deps: SealDeps): Promise<DirectRows> {
  const encoded = rows.filter(({ map }) => map.mode === 'direct').map((row) => ({ row, ...encodeRow(row) }))
  if (encoded.length === 0) return new Map()
  const sealed = await sealDirectRows(
    encoded.filter(({ values }) => values.length > 0),
    via,
    deps,
  )
  return new Map(
    encoded.map(({ row, slots }) => {
      const { envelopes = [], recordId } = sealed.get(row) ?? {}
      const kekIds = recordId === undefined ? [] : [recordId]
      return [row, { envelopes: slots.map((slot) => envelopes[slot] ?? null), kekIds }]
    }),
  )
}

/** Tokens of all indexes whose fields are among the cells. */
export function tokensOf(
  { map, facts, cells }: Row<unknown>,
  keys: BatchKeys,
  partsOf: (index: BlindIndex) => PartsOf | undefined = () => undefined,
): SealedRow['tokens'] {
  const tokens = new Map<BlindIndex, readonly (readonly IndexToken[])[]>()
  for (const index of map.indexes) {
    const occurrences = occurrencesOf(index, cells)
    if (occurrences === undefined) continue
    const live = keys.indexKeysOf(index, facts.tenant)
    tokens.set(
      index,
      occurrences.map((occurrence) => liveTokens(live, occurrence, partsOf(index))),
    )
  }
  return tokens
}

/** The values of an index, one list per occurrence; undefined where the cells do not hold all of its fields. */
export function occurrencesOf(
  index: BlindIndex,
  cells: Row<unknown>['cells'],
): readonly (readonly unknown[])[] | undefined {
  const values = index.fields.map((field) => cells.filter((cell) => cell.field === field))
  const [first = []] = values
  if (first.length === 0 || (values.length > 1 && values.some((found) => found.length !== 1))) return undefined
  return values.length > 1 ? [values.map(([cell]) => cell?.value)] : first.map(({ value }) => [value])
}

function assertWritable({ map, facts, cells }: Row<unknown>, context: OperationContext): void {
  assertOwnRow(map.id, facts, context)
  if (map.bindRow === 'require' && facts.rowId === undefined) {
    throw new FieldsealError('ERR_WRITE_UNSUPPORTED', {
      model: map.id,
      reason: 'row-id-unknown',
      hint: "bindRow is 'require': write by the whole primary key",
    })
  }
  if (cells.length > MAX_VALUES_PER_DEK)
    throw new FieldsealError('ERR_WRITE_UNSUPPORTED', { model: map.id, reason: 'too-many-values' })
  for (const { field, value } of cells) {
    if (isUnreadable(value)) throw new FieldsealError('ERR_UNREADABLE_VALUE', { model: map.id, field: field.id })
  }
}
