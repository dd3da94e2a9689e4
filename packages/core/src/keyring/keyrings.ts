import { momentOf, type Clock } from '../cache/clock.ts'
import { createRevalidatingCache, type Use } from '../cache/revalidating-cache.ts'
import { createSingleFlight } from '../cache/single-flight.ts'
import type { RandomSource } from '../cipher/random.ts'
import type { KekId } from '../context/record-id.ts'
import { ERROR_CODES } from '../errors/codes.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { KeyspaceRef, KeyStore } from '../keys/key-store.ts'
import { DEFAULT_KEYSPACE, type KekPurpose, type KekRecord } from '../keys/records.ts'
import type { EventBus } from '../observe/events.ts'
import { createKekMaker } from './create-kek.ts'
import { assertGenuine, assertReadable, isKek, keksOf, toWrapWith } from './kek-selection.ts'
import { kekContext, type KekWraps } from './kek-wraps.ts'
import { createLiveKek, type LiveKek } from './live-kek.ts'
import { PARENT_PROVIDER, unwrapUnderParent } from './parent-wrap.ts'
import type { Snapshot, Snapshots } from './snapshots.ts'
import type { TenantKeyring } from './tenant-keys.ts'

/** The KEKs of all keyspaces: one to wrap with, all to unwrap with. Every key given out is checked against its record. */
export interface Keyrings {
  /** The newest KEK of a keyspace, confirmed within `validForMs`; makes the first one. */
  toWrap(ref: KeyspaceRef, purpose: KekPurpose, via?: unknown): Promise<LiveKek>
  /** KEKs by id, for reading. @throws FieldsealError ERR_KEY_NOT_FOUND for an id that is not of this keyspace */
  toUnwrap(ref: KeyspaceRef, ids: Iterable<KekId>, use: Use, via?: unknown): Promise<ReadonlyMap<KekId, LiveKek>>
  /** The id that `toWrap` would use now, if known without asking: what is under another one is outdated. */
  newestId(ref: KeyspaceRef, via?: unknown): Promise<KekId | undefined>
  snapshot(ref: KeyspaceRef, use: Use, via?: unknown): Promise<Snapshot>
  reload(ref: KeyspaceRef, via?: unknown): Promise<Snapshot>
  /** Drops keys, records, configuration and remembered denials of a tenant. */
  purge(tenant: string): void
  /** Drops the keys of a tenant, so that each is asked for again. */
  dropKeys(tenant: string): void
  /** Zeroes everything. */
  close(): void
}

export interface KeyringSettings {
  readonly keyStore: KeyStore
  readonly snapshots: Snapshots
  readonly tenantKeys: TenantKeyring
  readonly wraps: KekWraps
  readonly clock: Clock
  readonly random: RandomSource
  readonly events: EventBus
  readonly deniedKeks: ReadonlySet<KekId>
  readonly maxEntries: number
}

const UNKNOWN_ID_MS = 10_000
const MAX_CHECKED = 100_000

export function createKeyrings(settings: KeyringSettings): Keyrings {
  const { snapshots, tenantKeys, wraps, clock, events, deniedKeks } = settings
  const creations = createSingleFlight<void>()
  const maker = createKekMaker(settings)
  /** The record of the highest revision that this process has checked, per KEK. */
  const checked = new Map<KekId, KekRecord>()
  const unknownIds = new Map<string, number>()
  const cache = createRevalidatingCache<LiveKek>({
    clock,
    maxEntries: settings.maxEntries,
    limitsOf: ({ policy, legLagMs }) => ({ ...policy, validForMs: Math.max(0, policy.validForMs - legLagMs) }),
    dispose: (kek) => kek[Symbol.dispose](),
    onRevoked(key, kek, error) {
      const [tenant = '', , kekId = ''] = key.split('\0')
      if (isFieldsealError(error)) {
        events.emit('key.revoked', { tenant, kekId, code: error.code })
        // A denial by a KMS is about a CMK: what else it opened for this tenant is asked for again.
        if (ERROR_CODES[error.code].kind === 'denied') cache.drop(`${tenant}\0`)
      }
      if (kek !== undefined) dropChildren(kek)
    },
    onRestored: (_key, kek) => events.emit('key.restored', { tenant: kek.record.tenant, kekId: kek.record.id }),
    onStale: (_key, kek, ageMs) =>
      events.emit('key.stale-served', { tenant: kek.record.tenant, kekId: kek.record.id, ageMs }),
    onBackgroundFailure: (_key, kek, error) =>
      events.emit('background.failed', {
        operation: 'refresh',
        tenant: kek.record.tenant,
        code: isFieldsealError(error) ? error.code : 'unclassified',
      }),
  })

  /** Purging a KEK purges everything derived from it. */
  function dropChildren(parent: LiveKek): void {
    if (parent.record.keyspace === DEFAULT_KEYSPACE) cache.drop(`${parent.record.tenant}\0subject:`)
  }

  /** The stored record, unless this process has checked a higher revision of its facts: then that one stands. */
  function standing(record: KekRecord): KekRecord {
    const known = checked.get(record.id)
    if (known === undefined || record.revision >= known.revision) return record
    const { wraps: storedWraps, rowVersion, denial } = record
    const { denial: _dropped, ...facts } = known
    return { ...facts, wraps: storedWraps, rowVersion, ...(denial === undefined ? {} : { denial }) }
  }

  function remember(record: KekRecord): void {
    if (checked.size >= MAX_CHECKED) checked.delete(checked.keys().next().value ?? record.id)
    checked.set(record.id, record)
  }

  async function confirm(
    ref: KeyspaceRef,
    record: KekRecord,
    previous: LiveKek | undefined,
    use: Use,
    via: unknown,
  ): Promise<LiveKek> {
    const keys = await tenantKeys.get(ref.tenant, use)
    const opened =
      record.parent === undefined
        ? await wraps.unwrap(record, kekContext(ref, record.purpose, record.id), keys, previous?.legsCheckedAt)
        : { key: await openChild(ref, record, use, via), legsCheckedAt: new Map<string, number>() }
    try {
      assertGenuine(ref, record, opened.key)
      if (previous !== undefined && !previous.key.disposed && !previous.key.equals(opened.key)) {
        events.emit('key.changed', { tenant: ref.tenant, kekId: record.id })
        throw new FieldsealError('ERR_KEY_CHANGED', { tenant: ref.tenant, kekId: record.id })
      }
    } catch (error) {
      opened.key[Symbol.dispose]()
      throw error
    }
    remember(record)
    return createLiveKek(record, opened, keys.policy, settings)
  }

  async function openChild(ref: KeyspaceRef, record: KekRecord, use: Use, via: unknown) {
    const parent = await parentOf(ref, record, use, via)
    const wrap = record.wraps.find(
      (candidate) => candidate.provider === PARENT_PROVIDER && candidate.uri === parent.record.id,
    )
    if (wrap === undefined) throw new FieldsealError('ERR_KEY_RECORD_INVALID', { tenant: ref.tenant, kekId: record.id })
    return unwrapUnderParent(
      parent,
      { ...ref, id: record.id, purpose: record.purpose, version: record.version },
      wrap.blob,
    )
  }

  async function parentOf(ref: KeyspaceRef, record: KekRecord, use: Use, via: unknown): Promise<LiveKek> {
    const id = record.parent ?? record.id
    const found = await keyrings.toUnwrap({ ...ref, keyspace: DEFAULT_KEYSPACE }, [id], use, via)
    return found.get(id) ?? notFound(ref, id)
  }

  async function live(ref: KeyspaceRef, stored: KekRecord, use: Use, via: unknown): Promise<LiveKek> {
    const record = standing(stored)
    try {
      assertReadable(record, deniedKeks)
    } catch (error) {
      cache.drop(cacheKey(ref, record.id))
      throw error
    }
    // Invariant: a data subject's key is never used longer than the tenant's key above it.
    if (record.parent !== undefined) await parentOf(ref, record, use, via)
    const key = cacheKey(ref, record.id)
    const kek = cache.fresh(key) ?? (await cache.get(key, use, (previous) => confirm(ref, record, previous, use, via)))
    if (kek.record.revision < record.revision && (checked.get(record.id)?.revision ?? 0) < record.revision) {
      assertGenuine(ref, record, kek.key) // re-read with higher revision: checked with the cached key
      remember(record)
    }
    return kek
  }

  async function find(ref: KeyspaceRef, id: KekId, snapshot: Snapshot, via: unknown): Promise<KekRecord> {
    const record = snapshot.records.get(id)
    if (record !== undefined && isKek(record)) return record
    const name = cacheKey(ref, id)
    const askedAt = unknownIds.get(name)
    if (askedAt !== undefined && clock.monotonic() - askedAt < UNKNOWN_ID_MS) return notFound(ref, id)
    const again = (await snapshots.reload(ref, via)).records.get(id) // another process may just have made it
    if (again !== undefined && isKek(again)) return again
    if (unknownIds.size >= settings.maxEntries) unknownIds.clear()
    unknownIds.set(name, clock.monotonic())
    return notFound(ref, id)
  }

  const keyrings: Keyrings = {
    async toWrap(ref, purpose, via) {
      let snapshot = await snapshots.get(ref, 'write', via)
      for (let attempt = 0; attempt < 5; attempt++) {
        const chosen = toWrapWith(keksOf(snapshot, purpose).map(standing), deniedKeks, clock.now())
        if (!('nextVersion' in chosen)) return live(ref, chosen, 'write', via)
        const parent = ref.keyspace.startsWith('subject:')
          ? await keyrings.toWrap({ ...ref, keyspace: DEFAULT_KEYSPACE }, 'wrap', via)
          : undefined
        const since = momentOf(clock)
        const make = async () => {
          const made = await maker.create({ ref, purpose, version: chosen.nextVersion, parent }, via)
          if (made !== undefined) cache.put(cacheKey(ref, made.record.id), made, since)
        }
        // Whoever holds the only connection waits for nobody who waits for it.
        await (via === undefined ? creations.run(`${ref.tenant}\0${ref.keyspace}\0${purpose}`, make) : make())
        snapshot = await snapshots.reload(ref, via)
      }
      throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
        tenant: ref.tenant,
        reason: 'the new KEK did not appear in the key store',
      })
    },
    async toUnwrap(ref, ids, use, via) {
      const snapshot = await snapshots.get(ref, use, via)
      const found = await Promise.all(
        [...new Set(ids)].map(
          async (id) => [id, await live(ref, await find(ref, id, snapshot, via), use, via)] as const,
        ),
      )
      return new Map(found)
    },
    async newestId(ref, via) {
      const keks = keksOf(await snapshots.get(ref, 'read', via), 'wrap').map(standing)
      return keks.find((record) => record.state === 'active' && record.denial === undefined && !record.compromised)?.id
    },
    snapshot: (ref, use, via) => snapshots.get(ref, use, via),
    reload: (ref, via) => snapshots.reload(ref, via),
    purge(tenant) {
      cache.drop(`${tenant}\0`)
      cache.forgive(`${tenant}\0`)
      snapshots.drop(tenant)
      tenantKeys.purge(tenant)
    },
    dropKeys: (tenant) => cache.drop(`${tenant}\0`),
    close: () => cache.drop(''),
  }

  return keyrings
}

function cacheKey({ tenant, keyspace }: KeyspaceRef, id: KekId): string {
  return `${tenant}\0${keyspace}\0${id}`
}

function notFound(ref: KeyspaceRef, id: KekId): never {
  throw new FieldsealError('ERR_KEY_NOT_FOUND', { tenant: ref.tenant, kekId: id })
}
