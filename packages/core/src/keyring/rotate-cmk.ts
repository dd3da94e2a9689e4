import type { Cmk } from '../keys/cmk.ts'
import { keyspaceOf, type KekRecord, type StoredWrap } from '../keys/records.ts'
import { assertGenuine, isKek } from './kek-selection.ts'
import { kekContext } from './kek-wraps.ts'
import type { Keyrings, KeyringSettings } from './keyrings.ts'
import { answered } from './snapshots.ts'
import type { ResolvedTenantKeys } from './tenant-keys.ts'

export interface RotatedCmk {
  /** KEK records that were rewritten, and those whose wraps were all of the newest version. */
  readonly rewritten: number
  readonly unchanged: number
  readonly wraps: number
  /** Records that somebody else changed meanwhile: a repeated call finds them. */
  readonly changed: number
}

/**
 * Wraps a tenant's KEKs anew by the newest version of the CMKs that have wrapped them, inside the KMS where it can. Writes
 * key records only; a wrap is replaced when the new one was seen to open to the same key. Can be repeated after a crash
 * at any point: what is of the newest version already is left alone where the KMS tells versions.
 *
 * @throws FieldsealError whatever the KMS says
 */
export async function rotateCmk(
  app: string,
  tenant: string,
  keyrings: Keyrings,
  settings: KeyringSettings,
): Promise<RotatedCmk> {
  const { keyStore, tenantKeys } = settings
  keyrings.purge(tenant)
  const keys = await tenantKeys.get(tenant, 'write')
  const records: KekRecord[] = []
  for await (const record of keyStore.list({ app, tenant }))
    if (isKek(record) && record.parent === undefined && record.denial === undefined && record.wraps.length > 0)
      records.push(record)
  const newest = new Map<Cmk, string | undefined>()
  const total = { rewritten: 0, unchanged: 0, wraps: 0, changed: 0 }
  for (const record of records) {
    const renewed = await renewOne(record, keys, newest, settings)
    if (renewed === 'changed') total.changed++
    else {
      total[renewed > 0 ? 'rewritten' : 'unchanged']++
      total.wraps += renewed
    }
  }
  keyrings.purge(tenant)
  return total
}

async function renewOne(
  record: KekRecord,
  keys: ResolvedTenantKeys,
  newest: Map<Cmk, string | undefined>,
  { wraps, keyStore }: KeyringSettings,
): Promise<number | 'changed'> {
  const context = kekContext(record, record.purpose, record.id)
  const due: { readonly cmk: Cmk; readonly wrap: StoredWrap }[] = []
  for (const cmk of keys.cmks) {
    const wrap = await wraps.wrapOf(record, cmk, context, keys)
    if (wrap === undefined) continue // a move brings it
    if (!newest.has(cmk)) newest.set(cmk, await wraps.currentVersion(cmk, context, keys))
    const version = newest.get(cmk)
    if (version === undefined || wrap.keyVersion !== version) due.push({ cmk, wrap })
  }
  if (due.length === 0) return 0
  const { key } = await wraps.unwrap(record, context, keys, undefined)
  try {
    assertGenuine({ app: record.app, tenant: record.tenant, keyspace: keyspaceOf(record) }, record, key)
    const renewed = new Map<StoredWrap, StoredWrap>()
    for (const { cmk, wrap } of due) renewed.set(wrap, await wraps.renewedWrap(cmk, wrap, key, context, keys))
    const update: KekRecord = {
      ...record,
      wraps: record.wraps.map((wrap) => renewed.get(wrap) ?? wrap),
      rowVersion: record.rowVersion + 1,
    }
    return (await answered(() => keyStore.update(update), record)) === 'updated' ? due.length : 'changed'
  } finally {
    key[Symbol.dispose]()
  }
}
