import type { IndexKeys, LiveIndexKey } from '../blind-index/index-keys.ts'
import { indexToken } from '../blind-index/token.ts'
import { nodeEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import type { Envelope } from '../envelope/layout.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { sealRows, type RowToSeal, type ValueToSeal } from '../field/seal-rows.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import { built } from './blind-index-of-model.ts'
import { assertOwnRow } from './key-lookup.ts'
import type { BlindIndex, IndexToken, Row, SealedRow } from './ports.ts'
import { inTimeSlices } from './time-slices.ts'
import { isUnreadable } from './unreadable.ts'
import { createWrapFrames, type WrapFrames } from './wrap-frames.ts'

export interface SealDeps {
  readonly app: string
  readonly keyrings: Keyrings
  readonly indexKeys: IndexKeys
  readonly random: RandomSource
}

/** At most this many values under one DEK. */
const MAX_VALUES_PER_DEK = 2 ** 20

/** Keys that the rows of a batch need, each resolved once. */
interface BatchKeys {
  kekOf(row: Row<unknown>): LiveKek
  indexKeysOf(index: BlindIndex, tenant: string): readonly LiveIndexKey[]
}

export async function sealBatch(
  rows: readonly Row<unknown>[],
  context: OperationContext,
  via: unknown,
  deps: SealDeps,
): Promise<readonly SealedRow[]> {
  for (const row of rows) assertWritable(row, context)
  let keys = await resolveKeys(rows, via, deps)
  const frames = createWrapFrames()
  const sealed: SealedRow[] = []
  await inTimeSlices(
    rows.length,
    (from, to) => sealed.push(...sealSlice(rows.slice(from, to), keys, frames, deps.random)),
    async () => {
      keys = await resolveKeys(rows, via, deps) // revoked or replaced while the event loop turned
    },
  )
  return sealed
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

function tokensOf(
  { map, facts, cells }: Row<unknown>,
  keys: BatchKeys,
): ReadonlyMap<BlindIndex, readonly IndexToken[]> {
  const tokens = new Map<BlindIndex, readonly IndexToken[]>()
  for (const index of map.indexes) {
    const values = index.fields.map((field) => cells.filter((cell) => cell.field === field))
    if (values.some((found) => found.length !== 1)) continue
    const parts = built.index(index).parts(values.map(([cell]) => cell?.value))
    const live = parts === null ? [] : keys.indexKeysOf(index, facts.tenant)
    tokens.set(
      index,
      live.map(({ key, epoch }) => indexToken(key, epoch, index.bits, parts ?? [])),
    )
  }
  return tokens
}

async function resolveKeys(
  rows: readonly Row<unknown>[],
  via: unknown,
  { app, keyrings, indexKeys }: SealDeps,
): Promise<BatchKeys> {
  const keks = new Map<string, LiveKek>()
  const live = new Map<BlindIndex, Map<string, readonly LiveIndexKey[]>>()
  for (const { map, facts, cells } of rows) {
    const name = `${facts.tenant}\0${facts.keyspace}`
    if (!keks.has(name))
      keks.set(name, await keyrings.toWrap({ app, tenant: facts.tenant, keyspace: facts.keyspace }, 'wrap', via))
    for (const index of map.indexes) {
      if (!index.fields.every((field) => cells.some((cell) => cell.field === field))) continue
      let byTenant = live.get(index)
      if (byTenant === undefined) live.set(index, (byTenant = new Map()))
      if (!byTenant.has(facts.tenant))
        byTenant.set(facts.tenant, await indexKeys.live(facts.tenant, built.index(index).description, 'write', via))
    }
  }
  return {
    kekOf({ facts }) {
      const kek = keks.get(`${facts.tenant}\0${facts.keyspace}`)
      if (kek === undefined) throw new FieldsealError('ERR_KEY_NOT_FOUND', { tenant: facts.tenant })
      return kek
    },
    indexKeysOf: (index, tenant) => live.get(index)?.get(tenant) ?? [],
  }
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
