import { FieldsealError, type KekId, type KeyInfo, listKeys } from '@fieldseal/core/adapter'
import type { Surroundings, What } from '../engine/target.ts'

export type KekInfo = Extract<KeyInfo, { readonly kind: 'kek' }>

/** The KEK versions of one keyspace and purpose, newest first. */
export interface KekVersions {
  readonly tenant: string
  readonly keyspace: string
  readonly purpose: KekInfo['purpose']
  readonly versions: readonly KekInfo[]
}

/** All key records of a tenant, or of all. */
export async function keyRecords({ fieldseal }: Surroundings, tenant: string | undefined): Promise<readonly KeyInfo[]> {
  const records: KeyInfo[] = []
  for await (const record of listKeys(fieldseal, tenant === undefined ? {} : { tenant })) records.push(record)
  return records
}

/** What somebody has named, each undefined where it was left out. */
interface Named {
  readonly tenant?: string | undefined
  readonly keyspace?: string | undefined
}

/** The same, as `assertKnown` lets them pass. */
export async function knownKeys(surroundings: Surroundings, named: Named): Promise<readonly KeyInfo[]> {
  await assertKnown(surroundings, named)
  return keyRecords(surroundings, named.tenant)
}

/**
 * Asks for no more keys than it takes to know, and for none where nothing is named.
 * @throws FieldsealError ERR_ARGUMENT_INVALID when the key store knows nothing of the tenant or keyspace
 */
export async function assertKnown({ fieldseal }: Surroundings, { tenant, keyspace }: Named): Promise<void> {
  if (tenant === undefined && keyspace === undefined) return
  let isTenantKnown = tenant === undefined
  for await (const record of listKeys(fieldseal, tenant === undefined ? {} : { tenant })) {
    isTenantKnown = true
    if (keyspace === undefined || (record.kind !== 'index' && record.keyspace === keyspace)) return
  }
  const field = isTenantKnown ? 'keyspace' : 'tenant'
  throw new FieldsealError('ERR_ARGUMENT_INVALID', {
    field,
    reason: `the key store has no key of this ${field}`,
    hint: 'check the spelling',
  })
}

export function isKek(record: KeyInfo): record is KekInfo {
  return record.kind === 'kek'
}

/** Active and decrypt-only without denial. */
export function isReadable({ state, denial }: KekInfo): boolean {
  return (state === 'active' || state === 'decrypt-only') && denial === undefined
}

/** By its state, or without its key. */
export function isDestroyed(key: KeyInfo): boolean {
  return (isKek(key) && key.state === 'destroyed') || ('denial' in key && key.denial === 'destroyed')
}

export function versionsOf(records: readonly KeyInfo[], what: Pick<What, 'keyspace'> = {}): readonly KekVersions[] {
  const groups = new Map<string, KekInfo[]>()
  for (const record of records) {
    if (!isKek(record) || (what.keyspace !== undefined && record.keyspace !== what.keyspace)) continue
    const name = JSON.stringify([record.tenant, record.keyspace, record.purpose])
    groups.set(name, [...(groups.get(name) ?? []), record])
  }
  return [...groups.values()].map((keks) => {
    const versions = keks.toSorted((a, b) => b.version - a.version)
    const [first] = versions as [KekInfo, ...KekInfo[]] // a group has a member
    return { tenant: first.tenant, keyspace: first.keyspace, purpose: first.purpose, versions }
  })
}

/** The version that wraps new DEKs, as far as the records tell. */
export function newestOf({ versions }: KekVersions, now: number): KekInfo | undefined {
  return versions.find(
    (kek) =>
      kek.state === 'active' &&
      kek.denial === undefined &&
      !kek.compromised &&
      (kek.notAfter === undefined || now < kek.notAfter),
  )
}

/** Readable KEKs whose values a rewrap moves to a newer one; those of compromised KEKs wait for a re-encryption. */
export function outdatedIds(groups: readonly KekVersions[], now: number): readonly KekId[] {
  return groups.flatMap((group) => {
    if (group.purpose !== 'wrap') return []
    const newest = newestOf(group, now)
    return group.versions
      .filter((kek) => kek.id !== newest?.id && isReadable(kek) && !kek.compromised)
      .map(({ id }) => id)
  })
}
