import type { Clock } from '../cache/clock.ts'
import type { KmsCalls } from '../cache/kms-calls.ts'
import { createSingleFlight } from '../cache/single-flight.ts'
import type { Use } from '../cache/revalidating-cache.ts'
import type { RandomSource } from '../cipher/random.ts'
import type { EncryptionContext } from '../context/encryption-context.ts'
import { RECORD_ID_BYTES, recordIdFrom, type RecordId } from '../context/record-id.ts'
import { dispositionOf, FieldsealError } from '../errors/fieldseal-error.ts'
import type { Cmk, CmkWrap, KmsRequest } from '../keys/cmk.ts'
import type { KeyspaceRef, KeyStore } from '../keys/key-store.ts'
import type { DirectKeyRecord, KeyStoreRecord } from '../keys/records.ts'
import { KEY_LENGTH, SecretKey } from '../keys/secret-key.ts'
import type { EventBus, KmsOperation } from '../observe/events.ts'
import { inserterFor } from './create-kek.ts'
import { createRecordFinder } from './find-record.ts'
import { assertStorable, type KekWraps } from './kek-wraps.ts'
import { answered, type Snapshot, type Snapshots } from './snapshots.ts'
import type { ResolvedTenantKeys, TenantKeyring } from './tenant-keys.ts'

/** A direct key record and the configured CMK that it names. */
export interface DirectKey {
  readonly ref: KeyspaceRef
  readonly record: DirectKeyRecord
  readonly cmk: Cmk
  readonly keys: ResolvedTenantKeys
}

/** CMKs that wrap DEKs themselves, each through its record; the record names none that is not configured. */
export interface DirectKeys {
  /** The key that wraps new DEKs: the tenant's first CMK. Makes its record. @throws FieldsealError ERR_KEY_RETIRED, ERR_KEY_ERASED */
  toWrap(ref: KeyspaceRef, via?: unknown): Promise<DirectKey>
  /**
   * The key of a record, current or former.
   * @throws FieldsealError before any call that needs a key: ERR_KEY_NOT_FOUND, ERR_KEY_RETIRED, ERR_KEY_ERASED, and ERR_KMS_CONFIG when the
   * record names a CMK that is not configured; kind `unavailable` when one that may be it does not tell its name
   */
  toUnwrap(ref: KeyspaceRef, id: RecordId, use: Use, via?: unknown): Promise<DirectKey>
  /** The record id that `toWrap` would use now; undefined where it would make one or may not. */
  newestId(ref: KeyspaceRef, via?: unknown): Promise<RecordId | undefined>
  /** The CMK version that this process has last seen to make wraps: a hint. */
  versionOf(id: RecordId): string | undefined
  newDek(key: DirectKey, context: EncryptionContext): Promise<{ readonly dek: SecretKey; readonly wrap: CmkWrap }>
  unwrap(key: DirectKey, wrap: CmkWrap, context: EncryptionContext): Promise<SecretKey>
  /** The same DEK wrapped anew by `key`, seen to open to it: inside the KMS where `from` is a wrap of the same key and it can. */
  renew(key: DirectKey, dek: SecretKey, context: EncryptionContext, from: CmkWrap | undefined): Promise<CmkWrap>
  forget(tenant: string): void
}

export interface DirectKeySettings {
  readonly keyStore: KeyStore
  readonly snapshots: Snapshots
  readonly tenantKeys: TenantKeyring
  readonly wraps: KekWraps
  readonly calls: KmsCalls
  readonly clock: Clock
  readonly random: RandomSource
  readonly events: EventBus
  readonly deniedKeks: ReadonlySet<RecordId>
  readonly maxEntries: number
}

const MAX_VERSIONS = 10_000

export function createDirectKeys(settings: DirectKeySettings): DirectKeys {
  const { keyStore, snapshots, tenantKeys, wraps, calls, clock, random, events, deniedKeks } = settings
  const finder = createRecordFinder(settings)
  const creations = createSingleFlight<void>()
  const versions = new Map<RecordId, string>()

  function call<R>(
    { cmk, keys }: DirectKey,
    operation: KmsOperation,
    context: EncryptionContext,
    run: (request: KmsRequest) => Promise<R>,
  ): Promise<R> {
    return calls.call(cmk, { operation, context, deadlineMs: keys.policy.callDeadlineMs }, run)
  }

  function seen({ cmk, record }: DirectKey, wrap: CmkWrap): CmkWrap {
    assertStorable(cmk, wrap)
    if (wrap.keyVersion !== undefined) {
      if (versions.size >= MAX_VERSIONS) versions.clear()
      versions.set(record.id, wrap.keyVersion)
    }
    return wrap
  }

  /** The record of the tenant's first CMK, if it was made. */
  async function current(ref: KeyspaceRef, keys: ResolvedTenantKeys, snapshot: Snapshot) {
    const records = directsOf(snapshot)
    assertSomeUsable(ref, records, deniedKeks)
    const cmk = keys.cmks[0] as Cmk // a configuration has at least one
    const uri = await wraps.canonicalUri(cmk, uriContext(ref), keys)
    return { cmk, uri, record: records.find((one) => one.provider === cmk.provider && one.uri === uri) }
  }

  async function createRecord(ref: KeyspaceRef, provider: string, uri: string, via: unknown): Promise<void> {
    const record: DirectKeyRecord = {
      id: recordIdFrom(random.bytes(RECORD_ID_BYTES)),
      kind: 'direct',
      ...ref,
      provider,
      uri,
      createdAt: clock.now(),
      rowVersion: 1,
    }
    if ((await answered(() => inserterFor(keyStore, ref, via)(record), ref)) === 'inserted')
      events.emit('direct-key.created', { tenant: ref.tenant, keyspace: ref.keyspace, kekId: record.id, provider, uri })
  }

  async function unwrap(key: DirectKey, wrap: CmkWrap, context: EncryptionContext): Promise<SecretKey> {
    return call(key, 'unwrap', context, (request) => key.cmk.unwrap(wrap, request))
  }

  return {
    unwrap,
    versionOf: (id) => versions.get(id),
    forget: (tenant) => finder.forget(tenant),

    async toWrap(ref, via) {
      const keys = await tenantKeys.get(ref.tenant, 'write')
      let snapshot = await snapshots.get(ref, 'write', via)
      for (let attempt = 0; attempt < 3; attempt++) {
        const { cmk, uri, record } = await current(ref, keys, snapshot)
        if (record !== undefined) {
          assertUsable(record, deniedKeks)
          return { ref, record, cmk, keys }
        }
        const make = () => createRecord(ref, cmk.provider, uri, via)
        // Whoever holds the only connection waits for nobody who waits for it.
        await (via === undefined ? creations.run(JSON.stringify([ref, cmk.provider, uri]), make) : make())
        snapshot = await snapshots.reload(ref, via)
      }
      throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
        tenant: ref.tenant,
        reason: 'the new direct key record did not appear in the key store',
      })
    },

    async toUnwrap(ref, id, use, via) {
      const keys = await tenantKeys.get(ref.tenant, use)
      const record = await finder.find(ref, id, await snapshots.get(ref, use, via), via)
      if (record?.kind !== 'direct') throw new FieldsealError('ERR_KEY_NOT_FOUND', { tenant: ref.tenant, kekId: id })
      assertUsable(record, deniedKeks)
      // Invariant: a record's uri counts only if it is one of the tenant's configured CMKs.
      let silence: { readonly error: unknown } | undefined
      for (const cmk of [...keys.cmks, ...keys.formerCmks]) {
        if (cmk.provider !== record.provider) continue
        try {
          if ((await wraps.canonicalUri(cmk, uriContext(ref), keys)) === record.uri) return { ref, record, cmk, keys }
        } catch (error) {
          if (dispositionOf(error) !== 'serve-stale') throw error
          silence ??= { error } // another one may be the record's
        }
      }
      if (silence !== undefined) throw silence.error
      throw new FieldsealError('ERR_KMS_CONFIG', {
        tenant: ref.tenant,
        kekId: id,
        reason: 'the CMK of this direct key record is not configured',
        hint: 'name it under formerCmks until a rewrap has moved its rows',
      })
    },

    async newestId(ref, via) {
      const keys = await tenantKeys.get(ref.tenant, 'read')
      const { record } = await current(ref, keys, await snapshots.get(ref, 'read', via))
      return record !== undefined && isUsable(record, deniedKeks) ? record.id : undefined
    },

    async newDek(key, context) {
      const { cmk } = key
      const generated =
        cmk.generate && (await call(key, 'generate', context, async (request) => cmk.generate?.(request)))
      const dek = generated?.key ?? new SecretKey(random.bytes(KEY_LENGTH))
      try {
        const wrap = generated?.wrap ?? (await call(key, 'wrap', context, (request) => cmk.wrap(dek, request)))
        return { dek, wrap: seen(key, wrap) }
      } catch (error) {
        dek[Symbol.dispose]()
        throw error
      }
    },

    async renew(key, dek, context, from) {
      const { cmk } = key
      const inside = from !== undefined && cmk.rewrap !== undefined
      const wrap = inside
        ? await call(key, 'rewrap', context, async (request) => cmk.rewrap?.(from, request) ?? from)
        : await call(key, 'wrap', context, (request) => cmk.wrap(dek, request))
      // Invariant: the only good wrap is never replaced by one that was not seen to open to the same DEK.
      const back = await unwrap(key, wrap, context)
      try {
        if (back.equals(dek)) return seen(key, wrap)
      } finally {
        back[Symbol.dispose]()
      }
      throw new FieldsealError('ERR_KMS_INTEGRITY_FAILED', {
        provider: cmk.provider,
        reason: 'the new wrap opens to another key',
      })
    },
  }
}

/** What a KMS authenticates with a DEK of mode `direct`: from the reader's expectation, never from a record or envelope. */
export function directContext(
  ref: KeyspaceRef,
  id: RecordId,
  { model, row }: { readonly model: string; readonly row: string },
): EncryptionContext {
  const { app, tenant, keyspace } = ref
  return { app, fieldseal: '1', tenant, keyspace, purpose: 'direct', kek: id, model, row }
}

/** For the question under which name a CMK's wraps are stored. */
export function uriContext({ app, tenant, keyspace }: KeyspaceRef): EncryptionContext {
  return { app, fieldseal: '1', tenant, keyspace, purpose: 'direct' }
}

export function directsOf({ records }: Pick<Snapshot, 'records'>): DirectKeyRecord[] {
  return [...records.values()].filter((record: KeyStoreRecord) => record.kind === 'direct')
}

function isUsable({ denial, id }: DirectKeyRecord, deniedKeks: ReadonlySet<RecordId>): boolean {
  return denial === undefined && !deniedKeks.has(id)
}

/** @throws FieldsealError ERR_KEY_ERASED, ERR_KEY_RETIRED */
function assertUsable(record: DirectKeyRecord, deniedKeks: ReadonlySet<RecordId>): void {
  if (isUsable(record, deniedKeks)) return
  const erased = record.denial === 'destroyed' || record.denial === 'pending-destruction'
  throw new FieldsealError(erased ? 'ERR_KEY_ERASED' : 'ERR_KEY_RETIRED', { tenant: record.tenant, kekId: record.id })
}

/** A keyspace that was shredded or retired as a whole makes no new record, or an erased person would come back. */
function assertSomeUsable(
  ref: KeyspaceRef,
  records: readonly DirectKeyRecord[],
  deniedKeks: ReadonlySet<RecordId>,
): void {
  const [first] = records
  if (first === undefined || records.some((record) => isUsable(record, deniedKeks))) return
  assertUsable(records.find(({ denial }) => denial !== undefined && denial !== 'retired') ?? first, deniedKeks)
}
