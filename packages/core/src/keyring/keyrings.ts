import type { Clock } from '../cache/clock.ts'
import { strictest } from '../cache/options.ts'
import { createRevalidatingCache, type Asked, type Use } from '../cache/revalidating-cache.ts'
import { createSingleFlight } from '../cache/single-flight.ts'
import type { RandomSource } from '../cipher/random.ts'
import type { KekId } from '../context/record-id.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { KeyspaceRef, KeyStore } from '../keys/key-store.ts'
import { DEFAULT_KEYSPACE, SUBJECT_PREFIX } from '../context/keyspace.ts'
import type { KekPurpose, KekRecord } from '../keys/records.ts'
import type { EventBus } from '../observe/events.ts'
import { createKekMaker } from './create-kek.ts'
import { assertGenuine, assertReadable, isKek, keksOf, toWrapWith } from './kek-selection.ts'
import type { DirectDeks } from './direct-deks.ts'
import type { DirectKeys } from './direct-keys.ts'
import { createRecordFinder } from './find-record.ts'
import { kekContext, type KekWraps } from './kek-wraps.ts'
import { createLiveKek, type LiveKek } from './live-kek.ts'
import { PARENT_PROVIDER, unwrapUnderParent } from './parent-wrap.ts'
import type { Snapshot, Snapshots } from './snapshots.ts'
import type { ResolvedTenantKeys, TenantKeyring } from './tenant-keys.ts'

/** The KEKs of all keyspaces: one to wrap with, all to unwrap with. Every key given out is checked against its record. */
export interface Keyrings {
  /** The newest KEK of a keyspace, confirmed within `validForMs`; makes the first one. */
  toWrap(ref: KeyspaceRef, purpose: KekPurpose, via?: unknown): Promise<LiveKek>
  /** KEKs by id, for reading. @throws FieldsealError ERR_KEY_NOT_FOUND for an id that is not of this keyspace */
  toUnwrap(ref: KeyspaceRef, ids: Iterable<KekId>, use: Use, via?: unknown): Promise<ReadonlyMap<KekId, LiveKek>>
  /** The id that `toWrap` would use now, undefined where it would make one: what is under another one is outdated. */
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
  readonly directKeys: DirectKeys
  readonly directDeks: DirectDeks
}

const MAX_CHECKED = 100_000

export function createKeyrings(settings: KeyringSettings): Keyrings {
  const { snapshots, tenantKeys, wraps, clock, events, deniedKeks } = settings
  const creations = createSingleFlight<void>()
  const maker = createKekMaker(settings)
  /** The record of the highest revision that this process has checked, per KEK. */
  const checked = new Map<KekId, KekRecord>()
  /** Under which key the facts of a stored record were found genuine. */
  const genuine = new WeakMap<KekRecord, LiveKek>()
  const finder = createRecordFinder(settings)
  /** Keys that left the cache while somebody may still use them. */
  const leaving = new Set<LiveKek>()
  let closed = false
  const cache = createRevalidatingCache<LiveKek>({
    clock,
    maxEntries: settings.maxEntries,
    limitsOf({ record, policy, legLagMs }) {
      const limits = strictest(policy, tenantKeys.policyOf(record.tenant))
      return legLagMs === 0 ? limits : { ...limits, validForMs: Math.max(0, limits.validForMs - legLagMs) }
    },
    dispose: (kek) => kek[Symbol.dispose](),
    release,
    onRevoked: (_key, kek, error) => reportRevoked(kek, error),
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

  function release(kek: LiveKek): void {
    if (kek.key.disposed) return
    leaving.add(kek)
    kek.retire(() => leaving.delete(kek))
  }

  function drop(prefix: string): void {
    cache.drop(prefix)
    settings.directDeks.drop(prefix) // named by tenant and record: a prefix with a keyspace matches none
    for (const kek of leaving) if (cacheKey(kek.record, kek.record.id).startsWith(prefix)) kek[Symbol.dispose]()
  }

  /** Purging a KEK purges everything derived from it; `kek` itself has left the cache already. */
  function reportRevoked({ record }: LiveKek, error: unknown): void {
    if (!isFieldsealError(error)) return
    events.emit('key.revoked', { tenant: record.tenant, kekId: record.id, code: error.code })
    // A denial by a KMS is about a CMK: what else it opened for this tenant is asked for again.
    if (isKmsDenial(error)) drop(`${record.tenant}\0`)
    else if (record.keyspace === DEFAULT_KEYSPACE) drop(`${record.tenant}\0${SUBJECT_PREFIX}`)
  }

  /** The key store or the configuration says that a key may not be used: it leaves now. */
  function forget(ref: KeyspaceRef, id: KekId, error: unknown): void {
    const kek = cache.peek(cacheKey(ref, id))
    if (kek === undefined) return
    drop(cacheKey(ref, id))
    reportRevoked(kek, error)
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
    if ((checked.get(record.id)?.revision ?? 0) > record.revision) return
    if (checked.size >= MAX_CHECKED) checked.delete(checked.keys().next().value ?? record.id)
    checked.set(record.id, record)
  }

  /** The tenant's configuration before anything else: a tenant that the registry no longer knows has no keys. */
  async function known(ref: KeyspaceRef, use: Use, via: unknown) {
    if (closed) throw new FieldsealError('ERR_CLOSED')
    const from = cache.asking()
    const keys = await tenantKeys.get(ref.tenant, use)
    return { config: { keys, from }, snapshot: await snapshots.get(ref, use, via) }
  }

  /** A tenant's configuration, and since when it was asked for. */
  interface Config {
    readonly keys: ResolvedTenantKeys
    readonly from: Asked
  }

  interface Wanted {
    readonly ref: KeyspaceRef
    readonly record: KekRecord
    readonly keys: ResolvedTenantKeys
    readonly parent: LiveKek | undefined
  }

  /** Asks the CMKs, and nobody else: whoever holds the only connection to the key store may wait for it. */
  async function confirm(wanted: Wanted, previous: LiveKek | undefined): Promise<LiveKek> {
    const { ref, record, keys } = wanted
    const { key, legsCheckedAt } = await unwrap(wanted, previous)
    const confirmation = { record, legsCheckedAt, policy: keys.policy }
    const cached = previous === undefined || previous.key.disposed || previous.retired ? undefined : previous
    try {
      if (cached !== undefined && !cached.key.equals(key)) {
        events.emit('key.changed', { tenant: ref.tenant, kekId: record.id })
        throw new FieldsealError('ERR_KEY_CHANGED', { tenant: ref.tenant, kekId: record.id })
      }
      assertGenuine(ref, record, key)
    } catch (error) {
      key[Symbol.dispose]()
      throw error
    }
    remember(record)
    if (cached === undefined) return createLiveKek(key, confirmation, settings)
    key[Symbol.dispose]()
    cached.confirmed(confirmation)
    return cached
  }

  async function unwrap({ ref, record, keys, parent }: Wanted, previous: LiveKek | undefined) {
    if (parent === undefined)
      return wraps.unwrap(record, kekContext(ref, record.purpose, record.id), keys, previous?.legsCheckedAt)
    const wrap = record.wraps.find(({ provider, uri }) => provider === PARENT_PROVIDER && uri === parent.record.id)
    if (wrap === undefined) throw new FieldsealError('ERR_KEY_RECORD_INVALID', { tenant: ref.tenant, kekId: record.id })
    const child = { ...ref, id: record.id, purpose: record.purpose, version: record.version }
    return { key: unwrapUnderParent(parent, child, wrap.blob), legsCheckedAt: new Map<string, number>() }
  }

  async function parentOf(ref: KeyspaceRef, id: KekId, use: Use, via: unknown): Promise<LiveKek> {
    const found = await keyrings.toUnwrap({ ...ref, keyspace: DEFAULT_KEYSPACE }, [id], use, via)
    const parent = found.get(id)
    return parent?.record.purpose === 'wrap' ? parent : notFound(ref, id)
  }

  async function live(
    ref: KeyspaceRef,
    stored: KekRecord,
    { keys, from }: Config,
    use: Use,
    via: unknown,
  ): Promise<LiveKek> {
    const record = standing(stored)
    try {
      assertReadable(record, deniedKeks)
    } catch (error) {
      forget(ref, record.id, error)
      throw error
    }
    assertPlace(ref, record)
    // Invariant: a data subject's key is never used longer than the tenant's key above it.
    const parent = record.parent === undefined ? undefined : await parentOf(ref, record.parent, use, via)
    const key = cacheKey(ref, record.id)
    const wanted = { ref, record, keys, parent }
    const kek = cache.fresh(key) ?? (await cache.get(key, use, (previous) => confirm(wanted, previous), from))
    // Invariant: a key is used only under a record that was checked with it, each time the record is read again.
    if (genuine.get(record) !== kek) {
      assertGenuine(ref, record, kek.key)
      genuine.set(record, kek)
      remember(record)
    }
    return kek
  }

  async function find(ref: KeyspaceRef, id: KekId, snapshot: Snapshot, via: unknown): Promise<KekRecord> {
    const record = await finder.find(ref, id, snapshot, via)
    if (record !== undefined && isKek(record)) return record
    forget(ref, id, new FieldsealError('ERR_KEY_NOT_FOUND'))
    return notFound(ref, id)
  }

  /** What new DEKs are to be wrapped with. A keyspace that may not be used any more is forgotten at once. */
  function choose(ref: KeyspaceRef, keks: readonly KekRecord[]): ReturnType<typeof toWrapWith> {
    try {
      return toWrapWith(keks.map(standing), deniedKeks, clock.now())
    } catch (error) {
      for (const { id } of keks) forget(ref, id, error)
      throw error
    }
  }

  const keyrings: Keyrings = {
    async toWrap(ref, purpose, via) {
      const { config, snapshot: first } = await known(ref, 'write', via)
      let snapshot = first
      for (let attempt = 0; attempt < 5; attempt++) {
        const chosen = choose(ref, keksOf(snapshot, purpose))
        if (!('nextVersion' in chosen)) return live(ref, chosen, config, 'write', via)
        const parent = ref.keyspace.startsWith(SUBJECT_PREFIX)
          ? await keyrings.toWrap({ ...ref, keyspace: DEFAULT_KEYSPACE }, 'wrap', via)
          : undefined
        const make = async () => {
          const asked = cache.asking()
          const made = await maker.create({ ref, purpose, version: chosen.nextVersion, parent }, via)
          if (made !== undefined) cache.put(cacheKey(ref, made.record.id), made, asked)
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
      const { config, snapshot } = await known(ref, use, via)
      const found = await Promise.all(
        [...new Set(ids)].map(
          async (id) => [id, await live(ref, await find(ref, id, snapshot, via), config, use, via)] as const,
        ),
      )
      return new Map(found)
    },
    async newestId(ref, via) {
      const { snapshot } = await known(ref, 'read', via)
      const chosen = toWrapWith(keksOf(snapshot, 'wrap').map(standing), deniedKeks, clock.now())
      return 'nextVersion' in chosen ? undefined : chosen.id
    },
    snapshot: async (ref, use, via) => (await known(ref, use, via)).snapshot,
    reload: (ref, via) => snapshots.reload(ref, via),
    purge(tenant) {
      drop(`${tenant}\0`)
      cache.forgive(`${tenant}\0`)
      finder.forget(tenant)
      settings.directKeys.forget(tenant)
      settings.directDeks.purge(tenant)
      snapshots.drop(tenant)
      tenantKeys.purge(tenant)
    },
    dropKeys: (tenant) => drop(`${tenant}\0`),
    close() {
      closed = true
      drop('')
      settings.directDeks.close()
    },
  }

  return keyrings
}

/**
 * Only a data subject's KEK has a parent, and it has one: else records that name each other could be followed for ever.
 * @throws FieldsealError ERR_KEY_RECORD_INVALID
 */
function assertPlace(ref: KeyspaceRef, record: KekRecord): void {
  if ((record.parent !== undefined) !== ref.keyspace.startsWith(SUBJECT_PREFIX))
    throw new FieldsealError('ERR_KEY_RECORD_INVALID', { tenant: ref.tenant, kekId: record.id })
}

function isKmsDenial({ code, kind }: FieldsealError): boolean {
  return kind === 'denied' && code.startsWith('ERR_KMS_')
}

function cacheKey({ tenant, keyspace }: Pick<KeyspaceRef, 'tenant' | 'keyspace'>, id: KekId): string {
  return `${tenant}\0${keyspace}\0${id}`
}

function notFound(ref: KeyspaceRef, id: KekId): never {
  throw new FieldsealError('ERR_KEY_NOT_FOUND', { tenant: ref.tenant, kekId: id })
}
