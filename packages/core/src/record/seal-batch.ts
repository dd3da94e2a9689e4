import { indexToken } from '../blind-index/token.ts'
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
import { isUnreadable } from './unreadable.ts'
import { createWrapFrames, type WrapFrames } from './wrap-frames.ts'

export interface SealDeps extends BatchKeyDeps {
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
    const sealed: SealedRow[] = []
    await inTimeSlices(
      rows.length,
      (from, to) => sealed.push(...sealSlice(rows.slice(from, to), keys, frames, deps.random)),
      async () => {
        if (keys.alive()) return
        keys.release()
        keys = await resolveKeys(wanted, via, deps) // purged while the event loop turned
      },
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
  random: RandomSource,
): SealedRow[] {
  const toSeal: RowToSeal[] = []
  const places = rows.map((row) => {
    const { map, facts, cells } = row
    const values: ValueToSeal[] = []
    const slots = cells.map(({ field, value, mapKeys }) => {
      const { policy } = built.field(field)
      const encoded = policy.encode(value)
      return encoded === null
        ? -1
        : values.push({ ...encoded, aad: policy.aad(encoded.valueFlags, encoded.typeTag, mapKeys) }) - 1
    })
    if (values.length === 0) return { slots, sealedRow: undefined, kek: undefined }
    const bound = map.bindRow !== 'never' && facts.rowId !== undefined
    const kek = keys.kekOf(row)
    const frame = frames.toSeal(kek, bound, { tenant: facts.tenant, keyspace: facts.keyspace, model: map.id })
    return { slots, sealedRow: toSeal.push({ frame, rowId: bound ? facts.rowId : undefined, values }) - 1, kek }
  })
  const envelopes = sealRows(toSeal, nodeEngine, random)
  return rows.map((row, i) => {
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

function tokensOf({ map, facts, cells }: Row<unknown>, keys: BatchKeys): SealedRow['tokens'] {
  const tokens = new Map<BlindIndex, readonly (readonly IndexToken[])[]>()
  for (const index of map.indexes) {
    const values = index.fields.map((field) => cells.filter((cell) => cell.field === field))
    const [first = []] = values
    if (first.length === 0 || (values.length > 1 && values.some((found) => found.length !== 1))) continue
    const occurrences = values.length > 1 ? [values.map(([cell]) => cell?.value)] : first.map(({ value }) => [value])
    const live = keys.indexKeysOf(index, facts.tenant)
    tokens.set(
      index,
      occurrences.map((occurrence) => {
        const parts = built.index(index).parts(occurrence)
        return parts === null ? [] : live.map(({ key, epoch }) => indexToken(key, epoch, index.bits, parts))
      }),
    )
  }
  return tokens
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
