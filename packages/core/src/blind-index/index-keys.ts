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
import type { IndexRecord, IndexRole } from '../keys/records.ts'
import { indexKey, type IndexKeyFacts } from './token.ts'

/** A blind index as its annotation describes it. */
export interface IndexDescription extends Omit<IndexKeyFacts, 'epoch'> {
  readonly acrossTenants: boolean
}

/** One live epoch of an index. */
export interface LiveIndexKey {
  readonly epoch: number
  readonly role: IndexRole
  readonly key: KeyObject
  /** What `key` is derived from: when it is purged, `key` is not to be used any more. */
  readonly kek: LiveKek
}

/** Index keys per (tenant or `$shared`, model, index, epoch). */
export interface IndexKeys {
  /** Keys of all live epochs; makes the first epoch. @throws FieldsealError ERR_INDEX_UNKNOWN when a live epoch is not what the annotation describes */
  live(tenant: string, index: IndexDescription, use: Use, via?: unknown): Promise<readonly LiveIndexKey[]>
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
    const facts = {
      id: recordIdFrom(random.bytes(RECORD_ID_BYTES)),
      kind: 'index' as const,
      app,
      tenant: ref.tenant,
      model: index.model,
      index: index.index,
      epoch: 1,
      kekId: kek.record.id,
      normalizer: index.normalizer,
      bits: index.bits,
      role: 'current' as const,
      revision: 1,
    }
    const record: IndexRecord = { ...facts, mac: indexRecordMac(kek.key.exposeKeyObject(), facts), rowVersion: 1 }
    await answered(() => inserterFor(keyStore, ref, via)(record), ref)
  }

  async function recordsOf(
    ref: KeyspaceRef,
    index: IndexDescription,
    use: Use,
    via: unknown,
  ): Promise<readonly IndexRecord[]> {
    const known = select(await keyrings.snapshot(ref, use, via), index)
    if (known.length > 0) return known
    const again = select(await keyrings.reload(ref, via), index)
    if (again.length > 0) return again
    const create = () => createRecord(ref, index, via)
    // Whoever holds the only connection waits for nobody who waits for it.
    const name = JSON.stringify([ref.tenant, index.model, index.index])
    await (via === undefined ? creations.run(name, create) : create())
    const made = select(await keyrings.reload(ref, via), index)
    // A row stored without its token would never be found.
    if (made.length === 0)
      throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
        tenant: ref.tenant,
        reason: 'the new index record did not appear in the key store',
      })
    return made
  }

  return {
    async live(tenant, index, use, via) {
      const ref = { app, tenant: index.acrossTenants ? SHARED_TENANT : tenant, keyspace: DEFAULT_KEYSPACE }
      const records = await recordsOf(ref, index, use, via)
      for (const record of records) assertDescribed(record, index)
      const keks = await keyrings.toUnwrap(
        ref,
        records.map((record) => record.kekId),
        use,
        via,
      )
      return records.map((record) => {
        const kek = keks.get(record.kekId)
        if (kek === undefined || kek.record.purpose !== 'index') throw invalid(ref, record)
        return { epoch: record.epoch, role: record.role, key: keyOf(ref, index, record, kek), kek }
      })
    },
  }

  /** Invariant: an index key is used only under a record that was checked with its KEK, each time the record is read again. */
  function keyOf(ref: KeyspaceRef, index: IndexDescription, record: IndexRecord, kek: LiveKek): KeyObject {
    return kek.derived(record, (master) => {
      const expected = { ...record, app, tenant: ref.tenant, model: index.model, index: index.index }
      if (!macHolds(indexRecordMac(master, expected), record.mac)) throw invalid(ref, record)
      return indexKey(master, { ...index, epoch: record.epoch })
    })
  }
}

function select(snapshot: Snapshot, { model, index }: IndexDescription): readonly IndexRecord[] {
  const records = [...snapshot.records.values()].filter((record) => record.kind === 'index')
  return records.filter((record) => record.model === model && record.index === index)
}

/** A changed normaliser must not silently find nothing. */
function assertDescribed(record: IndexRecord, index: IndexDescription): void {
  if (record.normalizer === index.normalizer && record.bits === index.bits) return
  throw new FieldsealError('ERR_INDEX_UNKNOWN', {
    tenant: record.tenant,
    model: index.model,
    field: index.index,
    reason: `stored tokens are ${record.normalizer} with ${record.bits} bits, the annotation says ${index.normalizer} with ${index.bits}`,
    hint: 'put the annotation back: a reindex is needed before it may change',
  })
}

function invalid(ref: KeyspaceRef, { model, index }: IndexRecord): FieldsealError {
  return new FieldsealError('ERR_KEY_RECORD_INVALID', { tenant: ref.tenant, model, field: index })
}
