import type { KeyObject } from 'node:crypto'
import type { Use } from '../cache/revalidating-cache.ts'
import { createSingleFlight } from '../cache/single-flight.ts'
import type { RandomSource } from '../cipher/random.ts'
import { RECORD_ID_BYTES, recordIdFrom } from '../context/record-id.ts'
import { SHARED_TENANT } from '../context/tenant-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { inserterFor } from '../keyring/create-kek.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import { answered, type Snapshot } from '../keyring/snapshots.ts'
import type { KeyspaceRef, KeyStore } from '../keys/key-store.ts'
import { indexRecordMac, macHolds } from '../keys/record-mac.ts'
import { DEFAULT_KEYSPACE } from '../context/keyspace.ts'
import { FIRST_EPOCH, type IndexRecord, type LiveRole } from '../keys/records.ts'
import { type IndexDescription, type IndexShape, newestShape, shapeOf } from './index-shape.ts'
import { indexKey } from './token.ts'

export type { IndexDescription }

/** One live epoch of an index. */
export interface LiveIndexKey {
  readonly epoch: number
  readonly role: LiveRole
  /** What tokens of this epoch are made of. */
  readonly shape: IndexShape
  readonly key: KeyObject
  /** What `key` is derived from: when it is purged, `key` is not to be used any more. */
  readonly kek: LiveKek
}

/** Index keys per (tenant or `$shared`, model, index, epoch). */
export interface IndexKeys {
  /**
   * Keys of all live epochs; makes the first epoch.
   * @throws FieldsealError ERR_INDEX_UNKNOWN when a live epoch is not what the annotation describes, or none is looked up
   */
  live(tenant: string, index: IndexDescription, use: Use, via?: unknown): Promise<readonly LiveIndexKey[]>
  /** The same for look-ups that make nothing: none where no token can be stored yet. No KMS is asked then. */
  known(tenant: string, index: IndexDescription, via?: unknown): Promise<readonly LiveIndexKey[]>
}

export interface IndexKeySettings {
  readonly app: string
  readonly keyrings: Keyrings
  readonly keyStore: KeyStore
  readonly random: RandomSource
}

export function createIndexKeys({ app, keyrings, keyStore, random }: IndexKeySettings): IndexKeys {
  const creations = createSingleFlight<void>()

  /** The first epoch. Another process may be faster: then its record counts. */
  async function createRecord(ref: KeyspaceRef, index: IndexDescription, via: unknown): Promise<void> {
    const kek = await keyrings.toWrap(ref, 'index', via)
    const record = newIndexRecord(ref, index, { epoch: FIRST_EPOCH, role: 'current', kek, random })
    await answered(() => inserterFor(keyStore, ref, via)(record), ref)
  }

  /** Records of live epochs; none only where the index never had any. */
  async function knownRecords(
    ref: KeyspaceRef,
    index: IndexDescription,
    use: Use,
    via: unknown,
  ): Promise<readonly LiveRecord[]> {
    const known = indexRecordsOf(await keyrings.snapshot(ref, use, via), index)
    if (known.some(isLive)) return known.filter(isLive)
    const again = indexRecordsOf(await keyrings.reload(ref, via), index)
    if (again.some(isLive)) return again.filter(isLive)
    // An index that has had epochs has stored tokens: a new first epoch would find none of them.
    if (again.length > 0) await refuseOld(ref, index, again, use, via)
    return []
  }

  async function recordsOf(
    ref: KeyspaceRef,
    index: IndexDescription,
    use: Use,
    via: unknown,
  ): Promise<readonly LiveRecord[]> {
    const known = await knownRecords(ref, index, use, via)
    if (known.length > 0) return known
    const create = () => createRecord(ref, index, via)
    // Whoever holds the only connection waits for nobody who waits for it.
    const name = JSON.stringify([ref.tenant, index.model, index.index])
    await (via === undefined ? creations.run(name, create) : create())
    const made = indexRecordsOf(await keyrings.reload(ref, via), index).filter(isLive)
    // A row stored without its token would never be found.
    if (made.length === 0)
      throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
        tenant: ref.tenant,
        reason: 'the new index record did not appear in the key store',
      })
    return made
  }

  async function refuseOld(
    ref: KeyspaceRef,
    index: IndexDescription,
    records: readonly IndexRecord[],
    use: Use,
    via: unknown,
  ): Promise<never> {
    const ids = records.map(({ kekId }) => kekId)
    const keks = await keyrings.toUnwrap(ref, ids, use, via)
    for (const record of records) {
      const kek = keks.get(record.kekId)
      if (kek !== undefined) assertGenuineIndex(ref, index, record, kek.key.exposeKeyObject())
    }
    throw unknown(ref.tenant, index, 'no epoch is live')
  }

  async function keysOf(
    ref: KeyspaceRef,
    index: IndexDescription,
    records: readonly LiveRecord[],
    use: Use,
    via: unknown,
  ): Promise<readonly LiveIndexKey[]> {
    const shapes = records.map((record) => describedShape(record, index))
    assertSlots(records, index)
    const keks = await keyrings.toUnwrap(
      ref,
      records.map((record) => record.kekId),
      use,
      via,
    )
    return records.map((record, i): LiveIndexKey => {
      const kek = keks.get(record.kekId)
      if (kek === undefined || kek.record.purpose !== 'index') throw invalid(ref, record)
      const shape = shapes[i] as IndexShape // one for each record
      return { epoch: record.epoch, role: record.role, shape, key: keyOf(ref, index, record, kek), kek }
    })
  }

  const refOf = (tenant: string, { acrossTenants }: IndexDescription): KeyspaceRef => ({
    app,
    tenant: acrossTenants ? SHARED_TENANT : tenant,
    keyspace: DEFAULT_KEYSPACE,
  })

  return {
    async live(tenant, index, use, via) {
      const ref = refOf(tenant, index)
      return keysOf(ref, index, await recordsOf(ref, index, use, via), use, via)
    },
    async known(tenant, index, via) {
      const ref = refOf(tenant, index)
      const records = await knownRecords(ref, index, 'read', via)
      return records.length === 0 ? [] : keysOf(ref, index, records, 'read', via)
    },
  }

  /** Invariant: an index key is used only under a record that was checked with its KEK, each time the record is read again. */
  function keyOf(ref: KeyspaceRef, index: IndexDescription, record: IndexRecord, kek: LiveKek): KeyObject {
    return kek.derived(record, (master) => {
      assertGenuineIndex(ref, index, record, master)
      const { epoch, normalizer, bits } = record
      return indexKey(master, { model: index.model, index: index.index, epoch, normalizer, bits })
    })
  }
}

type LiveRecord = IndexRecord & { readonly role: LiveRole }

function isLive(record: IndexRecord): record is LiveRecord {
  return record.role !== 'old'
}

/** All epochs of an index that a keyspace's records name. */
export function indexRecordsOf(snapshot: Snapshot, { model, index }: IndexDescription): readonly IndexRecord[] {
  const records = [...snapshot.records.values()].filter((record) => record.kind === 'index')
  return records.filter((record) => record.model === model && record.index === index)
}

/** A record of an epoch that begins. */
export function newIndexRecord(
  { app, tenant }: KeyspaceRef,
  index: IndexDescription,
  {
    epoch,
    role,
    kek,
    random,
  }: { readonly epoch: number; readonly role: LiveRole; readonly kek: LiveKek; readonly random: RandomSource },
): IndexRecord {
  const { normalizer, bits } = newestShape(index)
  const facts = {
    id: recordIdFrom(random.bytes(RECORD_ID_BYTES)),
    kind: 'index' as const,
    app,
    tenant,
    model: index.model,
    index: index.index,
    epoch,
    kekId: kek.record.id,
    normalizer,
    bits,
    role,
    revision: 1,
  }
  return { ...facts, mac: indexRecordMac(kek.key.exposeKeyObject(), facts), rowVersion: 1 }
}

/** @throws FieldsealError ERR_KEY_RECORD_INVALID for a record that the holder of its KEK did not write, or not for this index */
export function assertGenuineIndex(
  ref: KeyspaceRef,
  { model, index }: IndexDescription,
  record: IndexRecord,
  master: KeyObject,
): void {
  const expected = { ...record, app: ref.app, tenant: ref.tenant, model, index }
  if (!macHolds(indexRecordMac(master, expected), record.mac)) throw invalid(ref, record)
}

/** The epoch that look-ups ask: while two are filled for them, the one that an index moves to. */
export function soughtEpoch<E extends Pick<LiveIndexKey, 'epoch' | 'role'>>(live: readonly E[]): E | undefined {
  return live.filter(({ role }) => role === 'current').sort((a, b) => b.epoch - a.epoch)[0]
}

/** A changed normaliser must not silently find nothing. */
function describedShape(record: IndexRecord, index: IndexDescription): IndexShape {
  const shape = shapeOf(index, record)
  if (shape !== undefined) return shape
  const described = index.shapes.flatMap((one) => (one === undefined ? [] : [`${one.normalizer} with ${one.bits}`]))
  throw unknown(
    record.tenant,
    index,
    `stored tokens are ${record.normalizer} with ${record.bits} bits, the annotation says ${described.join(' and ')}`,
    'put the annotation back, with what it is to become as next: a reindex is needed before it may change',
  )
}

/** A row has one slot for odd epochs and one for even ones. */
function assertSlots(records: readonly IndexRecord[], index: IndexDescription): void {
  const slots = new Set(records.map(({ epoch }) => epoch % 2))
  if (slots.size < records.length) throw unknown(records[0]?.tenant ?? '', index, 'two live epochs share a slot')
}

function unknown(tenant: string, { model, index }: IndexDescription, reason: string, hint?: string): FieldsealError {
  return new FieldsealError('ERR_INDEX_UNKNOWN', {
    tenant,
    model,
    field: index,
    reason,
    ...(hint === undefined ? {} : { hint }),
  })
}

function invalid(ref: KeyspaceRef, { model, index }: IndexRecord): FieldsealError {
  return new FieldsealError('ERR_KEY_RECORD_INVALID', { tenant: ref.tenant, model, field: index })
}
