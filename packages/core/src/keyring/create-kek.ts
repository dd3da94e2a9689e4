import type { Clock } from '../cache/clock.ts'
import type { RandomSource } from '../cipher/random.ts'
import { RECORD_ID_BYTES, recordIdFrom, type KekId } from '../context/record-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { KeyspaceRef, KeyStore } from '../keys/key-store.ts'
import { kekRecordMac } from '../keys/record-mac.ts'
import type { KekFacts, KekPurpose, KekRecord, KeyStoreRecord, StoredWrap } from '../keys/records.ts'
import { KEY_LENGTH, SecretKey } from '../keys/secret-key.ts'
import type { EventBus } from '../observe/events.ts'
import { kekContext, type KekWraps } from './kek-wraps.ts'
import { createLiveKek, type LiveKek } from './live-kek.ts'
import { PARENT_PROVIDER, wrapUnderParent } from './parent-wrap.ts'
import { answered } from './snapshots.ts'
import type { TenantKeyring } from './tenant-keys.ts'

export interface NewKek {
  readonly ref: KeyspaceRef
  readonly purpose: KekPurpose
  readonly version: number
  /** The tenant's KEK, for the key of a data subject. */
  readonly parent: LiveKek | undefined
}

export interface KekMaker {
  /**
   * Makes a KEK and stores its record; usable only because that record is durable.
   * @returns undefined when another process was faster: its KEK counts
   */
  create(facts: NewKek, via: unknown): Promise<LiveKek | undefined>
}

export interface KekMakerSettings {
  readonly keyStore: KeyStore
  readonly tenantKeys: TenantKeyring
  readonly wraps: KekWraps
  readonly clock: Clock
  readonly random: RandomSource
  readonly events: EventBus
}

export function createKekMaker(settings: KekMakerSettings): KekMaker {
  const { keyStore, tenantKeys, wraps, clock, random, events } = settings
  return {
    async create({ ref, purpose, version, parent }, via) {
      const insert = inserterFor(keyStore, ref, via)
      const keys = await tenantKeys.get(ref.tenant, 'write')
      const id: KekId = recordIdFrom(random.bytes(RECORD_ID_BYTES))
      const { key, wraps: made } =
        parent === undefined
          ? await wraps.create(kekContext(ref, purpose, id), keys)
          : underParent(parent, { ref, purpose, version, id })
      const facts: KekFacts = {
        id,
        kind: 'kek',
        ...ref,
        purpose,
        version,
        revision: 1,
        state: 'active',
        createdAt: clock.now(),
        ...(parent === undefined ? {} : { parent: parent.record.id }),
        compromised: false,
      }
      const record: KekRecord = {
        ...facts,
        mac: kekRecordMac(key.exposeKeyObject(), facts),
        wraps: made,
        rowVersion: 1,
      }
      try {
        if ((await answered(() => insert(record), ref)) === 'exists') {
          key[Symbol.dispose]()
          return undefined
        }
      } catch (error) {
        key[Symbol.dispose]()
        throw error
      }
      events.emit('kek.created', { tenant: ref.tenant, keyspace: ref.keyspace, kekId: id, version })
      return createLiveKek(key, { record, legsCheckedAt: legsOf(made, clock), policy: keys.policy }, settings)
    },
  }

  function underParent(
    parent: LiveKek,
    { ref, purpose, version, id }: Omit<NewKek, 'parent'> & { readonly id: KekId },
  ) {
    const key = new SecretKey(random.bytes(KEY_LENGTH))
    const wrap: StoredWrap = {
      provider: PARENT_PROVIDER,
      uri: parent.record.id,
      blob: wrapUnderParent(parent, { ...ref, id, purpose, version }, key, random),
      versionEvidence: 'unknown',
      wrappedAt: clock.now(),
    }
    return { key, wraps: [wrap] }
  }
}

/**
 * How a record may be inserted from here. Inside a transaction on an engine with one connection it may not: the record
 * would be rolled back with it.
 *
 * @throws FieldsealError ERR_KEY_MISSING naming `prepare`
 */
export function inserterFor(
  keyStore: KeyStore,
  ref: KeyspaceRef,
  via: unknown,
): (record: KeyStoreRecord) => Promise<'inserted' | 'exists'> {
  if (via === undefined || keyStore.joining === undefined) return (record) => keyStore.insert(record)
  const { insert } = keyStore.joining(via)
  if (insert !== undefined) return insert
  throw new FieldsealError('ERR_KEY_MISSING', {
    tenant: ref.tenant,
    reason: `keyspace ${ref.keyspace}, inside a transaction on an engine with one connection`,
    hint: `await fieldseal.prepare(tenant, { keyspaces: ['${ref.keyspace}'] }) before the transaction begins`,
  })
}

function legsOf(wraps: readonly StoredWrap[], clock: Clock): ReadonlyMap<string, number> {
  return new Map(wraps.map((wrap) => [`${wrap.provider} ${wrap.uri}`, clock.monotonic()]))
}
