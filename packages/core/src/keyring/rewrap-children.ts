import { DEFAULT_KEYSPACE } from '../context/keyspace.ts'
import { kekRecordMac } from '../keys/record-mac.ts'
import type { KekId, KekRecord, StoredWrap } from '../keys/records.ts'
import { isKek } from './kek-selection.ts'
import type { Keyrings, KeyringSettings } from './keyrings.ts'
import type { LiveKek } from './live-kek.ts'
import { createKekOpener } from './open-kek.ts'
import { PARENT_PROVIDER, unwrapUnderParent, wrapUnderParent } from './parent-wrap.ts'
import { answered } from './snapshots.ts'

export interface RewrappedChildren {
  readonly rewrapped: number
  /** Records that somebody else changed meanwhile: a repeated call finds them. */
  readonly changed: number
  /** Those under a compromised parent: a rewrap would only hide that they may be known. */
  readonly left: number
}

/**
 * Wraps the KEKs of a tenant's data subjects by the tenant's newest KEK, so that an older one can be retired. Each is one
 * compare-and-set, seen to open before it replaces; no value is touched, and a repeated call skips what is done.
 */
export async function rewrapChildren(
  app: string,
  tenant: string,
  keyrings: Keyrings,
  settings: KeyringSettings,
): Promise<RewrappedChildren> {
  const { keyStore } = settings
  const children: KekRecord[] = []
  const compromised = new Set<KekId>()
  for await (const record of keyStore.list({ app, tenant })) {
    if (!isKek(record)) continue
    if (record.compromised) compromised.add(record.id)
    if (record.parent !== undefined && record.wraps.length > 0 && record.denial === undefined) children.push(record)
  }
  const total = { rewrapped: 0, changed: 0, left: 0 }
  if (children.length === 0) return total
  const parent = await keyrings.toWrap({ app, tenant, keyspace: DEFAULT_KEYSPACE }, 'wrap')
  const release = parent.hold()
  using opener = createKekOpener(settings)
  try {
    for (const child of children) {
      if (child.parent === parent.record.id) continue
      if (child.parent !== undefined && compromised.has(child.parent) && !child.compromised) total.left++
      else if (await moveOne(child, parent, opener, settings)) total.rewrapped++
      else total.changed++
    }
  } finally {
    release()
  }
  keyrings.purge(tenant)
  return total
}

async function moveOne(
  child: KekRecord,
  parent: LiveKek,
  opener: ReturnType<typeof createKekOpener>,
  { keyStore, random, clock }: KeyringSettings,
): Promise<boolean> {
  using key = await opener.open(child)
  const { mac: _mac, wraps: _wraps, denial: _denial, rowVersion, ...facts } = child
  const next = { ...facts, parent: parent.record.id, revision: child.revision + 1 }
  const blob = wrapUnderParent(parent, next, key, random)
  unwrapUnderParent(parent, next, blob)[Symbol.dispose]() // Invariant: the only good wrap is never replaced by one that does not open.
  const wrap: StoredWrap = {
    provider: PARENT_PROVIDER,
    uri: parent.record.id,
    blob,
    versionEvidence: 'unknown',
    wrappedAt: clock.now(),
  }
  const mac = kekRecordMac(key.exposeKeyObject(), next)
  const update: KekRecord = { ...next, mac, wraps: [wrap], rowVersion: rowVersion + 1 }
  return (await answered(() => keyStore.update(update), child)) === 'updated'
}
