import type { Clock } from '../cache/clock.ts'
import { within } from '../cache/deadline.ts'
import { lookUpDeadlineMs, strictest, type KeyCachePolicy } from '../cache/options.ts'
import { createRevalidatingCache, type Use } from '../cache/revalidating-cache.ts'
import type { RecordId } from '../context/record-id.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { KeyspaceRef, KeyStore } from '../keys/key-store.ts'
import { keyspaceOf, type KeyStoreRecord } from '../keys/records.ts'

/** All records of one keyspace, as last read. */
export interface Snapshot {
  readonly tenant: string
  readonly records: ReadonlyMap<RecordId, KeyStoreRecord>
  readonly policy: KeyCachePolicy
}

/** Records of keyspaces, read at most as often as the cache's limits ask for. */
export interface Snapshots {
  get(ref: KeyspaceRef, use: Use, via?: unknown): Promise<Snapshot>
  /** Reads again, beginning after this call. */
  reload(ref: KeyspaceRef, via?: unknown): Promise<Snapshot>
  drop(tenant: string): void
}

export interface SnapshotSettings {
  readonly keyStore: KeyStore
  readonly clock: Clock
  readonly maxEntries: number
  readonly policyOf: (tenant: string) => KeyCachePolicy
}

export function createSnapshots({ keyStore, clock, maxEntries, policyOf }: SnapshotSettings): Snapshots {
  const cache = createRevalidatingCache<Snapshot>({
    clock,
    maxEntries,
    limitsOf: ({ tenant, policy }) => strictest(policy, policyOf(tenant)),
    patienceMs: ({ policy }) => policy.callDeadlineMs,
  })

  async function read(store: Pick<KeyStore, 'load'>, ref: KeyspaceRef): Promise<Snapshot> {
    const deadlineMs = lookUpDeadlineMs(policyOf(ref.tenant))
    const records = await answered(() => within(deadlineMs, store.load([ref]), () => silent(ref)), ref)
    const own = records.filter((r) => r.app === ref.app && r.tenant === ref.tenant && keyspaceOf(r) === ref.keyspace)
    const { tenant } = ref
    return { tenant, records: new Map(own.map((record) => [record.id, record])), policy: policyOf(tenant) }
  }

  /** On an engine with one connection, whoever holds it reads through it and joins nobody who waits for it. */
  async function readThrough(ref: KeyspaceRef, via: unknown): Promise<Snapshot> {
    const asked = cache.asking()
    const snapshot = await read(keyStore.joining?.(via) ?? keyStore, ref)
    cache.put(cacheKey(ref), snapshot, asked)
    return snapshot
  }

  return {
    async get(ref, use, via) {
      const key = cacheKey(ref)
      const fresh = cache.fresh(key)
      if (fresh !== undefined) return fresh
      if (via === undefined || keyStore.joining === undefined) return cache.get(key, use, () => read(keyStore, ref))
      return readThrough(ref, via)
    },
    reload(ref, via) {
      if (via === undefined || keyStore.joining === undefined)
        return cache.renew(cacheKey(ref), () => read(keyStore, ref))
      return readThrough(ref, via)
    },
    drop: (tenant) => cache.drop(`${tenant}\0`),
  }
}

function cacheKey({ tenant, keyspace }: KeyspaceRef): string {
  return `${tenant}\0${keyspace}`
}

/** Runs a call to the key store; whatever it throws unclassified is "no answer". */
export async function answered<R>(run: () => Promise<R>, { tenant }: Pick<KeyspaceRef, 'tenant'>): Promise<R> {
  try {
    return await run()
  } catch (error) {
    throw isFieldsealError(error) ? error : new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', { tenant })
  }
}

function silent({ tenant }: KeyspaceRef): FieldsealError {
  return new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', { tenant, reason: 'no answer in time' })
}
