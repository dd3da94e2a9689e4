import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { Cmk } from '../keys/cmk.ts'
import type { KeyspaceRef } from '../keys/key-store.ts'
import type { DirectKeyRecord, KekRecord, StoredWrap } from '../keys/records.ts'
import { keyspaceOf } from '../keys/records.ts'
import { uriContext } from './direct-keys.ts'
import { assertGenuine, isKek } from './kek-selection.ts'
import { kekContext } from './kek-wraps.ts'
import type { Keyrings, KeyringSettings } from './keyrings.ts'
import { answered } from './snapshots.ts'
import type { ResolvedTenantKeys } from './tenant-keys.ts'

export interface MovedWraps {
  /** KEK records that were rewritten, and those that already agreed with the configuration. */
  readonly rewritten: number
  readonly unchanged: number
  readonly wrapsAdded: number
  readonly wrapsDropped: number
}

/**
 * Makes the wraps of a tenant's KEKs agree with its configured `cmks`: adds missing ones, verifies each by unwrapping it,
 * then drops those of other CMKs. Only key-store records are written, never data. Can be repeated after a crash at any
 * point: a record is replaced in one compare-and-set, and the old wrap is dropped only with the verified new one in
 * place.
 *
 * @throws FieldsealError ERR_KMS_CONFIG when no configured CMK (`cmks` or `formerCmks`) opens a key or a `direct` record needs one that is not
 * configured, and whatever the KMS says
 */
export async function moveWraps(
  app: string,
  tenant: string,
  keyrings: Keyrings,
  settings: KeyringSettings,
): Promise<MovedWraps> {
  const { tenantKeys } = settings
  keyrings.purge(tenant) // the configuration as it is now, not as cached
  const keys = await tenantKeys.get(tenant, 'write')
  const total = { rewritten: 0, unchanged: 0, wrapsAdded: 0, wrapsDropped: 0 }
  for (const record of await keksToMove(app, tenant, keys, settings)) {
    const moved = await moveOne({ app, tenant, keyspace: keyspaceOf(record) }, record, keys, settings)
    total[moved.added + moved.dropped > 0 ? 'rewritten' : 'unchanged']++
    total.wrapsAdded += moved.added
    total.wrapsDropped += moved.dropped
  }
  keyrings.purge(tenant)
  return total
}

/** The KEKs that CMKs have wrapped. All records are looked at before the first is written. */
async function keksToMove(
  app: string,
  tenant: string,
  keys: ResolvedTenantKeys,
  { keyStore, wraps }: KeyringSettings,
): Promise<readonly KekRecord[]> {
  const keks: KekRecord[] = []
  for await (const record of keyStore.list({ app, tenant })) {
    if (record.tenant !== tenant) continue
    if (isKek(record) && record.parent === undefined && record.wraps.length > 0) keks.push(record)
    // A denied record opens nothing, so it needs no CMK.
    if (record.kind !== 'direct' || record.denial !== undefined) continue
    if (await isCurrent(record, { app, tenant, keyspace: record.keyspace }, keys, wraps)) continue
    throw new FieldsealError('ERR_KMS_CONFIG', {
      tenant,
      kekId: record.id,
      reason: 'rows of mode direct need a CMK that is no longer among cmks',
      hint: 'name it under formerCmks, rewrap the rows, retire their direct key record, then move',
    })
  }
  return keks
}

async function isCurrent(
  { provider, uri }: DirectKeyRecord,
  ref: KeyspaceRef,
  keys: ResolvedTenantKeys,
  wraps: KeyringSettings['wraps'],
): Promise<boolean> {
  for (const cmk of keys.cmks)
    if (cmk.provider === provider && (await wraps.canonicalUri(cmk, uriContext(ref), keys)) === uri) return true
  return false
}

async function moveOne(
  ref: KeyspaceRef,
  record: KekRecord,
  keys: ResolvedTenantKeys,
  { wraps, keyStore }: KeyringSettings,
) {
  const context = kekContext(ref, record.purpose, record.id)
  const kept: StoredWrap[] = []
  const missing: Cmk[] = []
  for (const cmk of keys.cmks) {
    const wrap = await wraps.wrapOf(record, cmk, context, keys)
    if (wrap === undefined) missing.push(cmk)
    else kept.push(wrap)
  }
  const dropped = record.wraps.length - kept.length
  if (missing.length === 0 && dropped === 0) return { added: 0, dropped: 0 }
  const { key } = await wraps.unwrap(record, context, keys, undefined)
  try {
    assertGenuine(ref, record, key)
    const added: StoredWrap[] = []
    // Invariant: the last good wrap is never replaced by one that was not seen to open to the same key.
    for (const cmk of missing) added.push(await wraps.verifiedWrap(cmk, key, context, keys))
    const update: KekRecord = { ...record, wraps: [...kept, ...added], rowVersion: record.rowVersion + 1 }
    if ((await answered(() => keyStore.update(update), ref)) === 'changed') {
      throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
        tenant: ref.tenant,
        kekId: record.id,
        reason: 'the record changed meanwhile',
        hint: 'run the move again',
      })
    }
    return { added: added.length, dropped }
  } finally {
    key[Symbol.dispose]()
  }
}
