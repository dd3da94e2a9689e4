import type { KekId } from '../context/record-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { KeyspaceRef } from '../keys/key-store.ts'
import { kekRecordMac } from '../keys/record-mac.ts'
import { DEFAULT_KEYSPACE, SUBJECT_PREFIX } from '../context/keyspace.ts'
import type { KekPurpose, KekRecord } from '../keys/records.ts'
import { createKekMaker } from './create-kek.ts'
import { assertGenuine, keksOf } from './kek-selection.ts'
import type { Keyrings, KeyringSettings } from './keyrings.ts'
import { answered } from './snapshots.ts'

export interface RotateKekOptions {
  /** @defaultValue 'wrap' */
  readonly purpose?: KekPurpose
  /** Makes a new KEK only where the newest is one of these, so that a repeated call makes no other. @defaultValue always */
  readonly leaving?: ReadonlySet<KekId>
}

export interface RotatedKek {
  readonly kekId: KekId
  readonly version: number
  /** KEKs that still open old data but wrap no more. */
  readonly demoted: readonly KekId[]
}

/**
 * Gives a keyspace a new KEK for all that is written from now on; older ones become decrypt-only. No data is touched:
 * values are rewrapped lazily when read, or by a migration.
 *
 * Safe against a crash between any two steps and against a second rotation at the same time: a higher active version
 * always wins, and a repeated call demotes what a crash left active. Other processes follow within their cache limits.
 *
 * @throws FieldsealError kind `denied` or `unavailable` when a CMK does not wrap the new key
 */
export async function rotateKek(
  ref: KeyspaceRef,
  keyrings: Keyrings,
  settings: KeyringSettings,
  { purpose = 'wrap', leaving }: RotateKekOptions = {},
): Promise<RotatedKek> {
  const { deniedKeks } = settings
  const before = keksOf(await keyrings.reload(ref), purpose)
  const { record } = await keyrings.toWrap(ref, purpose) // refuses a keyspace that was erased or retired; makes a first KEK where none is
  const version = (before[0]?.version ?? 0) + 1
  if (before.length > 0 && (leaving === undefined || leaving.has(record.id))) {
    const parent = ref.keyspace.startsWith(SUBJECT_PREFIX)
      ? await keyrings.toWrap({ ...ref, keyspace: DEFAULT_KEYSPACE }, 'wrap')
      : undefined
    const made = await createKekMaker(settings).create({ ref, purpose, version, parent }, undefined)
    made?.[Symbol.dispose]()
  }
  const active = keksOf(await keyrings.reload(ref), purpose).filter((record) => record.state === 'active')
  const [newest, ...older] = active.filter((record) => record.denial === undefined && !deniedKeks.has(record.id))
  if (newest === undefined)
    throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
      tenant: ref.tenant,
      reason: 'the new KEK did not appear in the key store',
    })
  const demoted: KekId[] = []
  for (const record of older) {
    if (await demote(ref, record, keyrings, settings)) demoted.push(record.id)
  }
  await keyrings.reload(ref)
  settings.events.emit('kek.rotated', {
    tenant: ref.tenant,
    keyspace: ref.keyspace,
    kekId: newest.id,
    version: newest.version,
  })
  return { kekId: newest.id, version: newest.version, demoted }
}

async function demote(
  ref: KeyspaceRef,
  record: KekRecord,
  keyrings: Keyrings,
  { keyStore }: KeyringSettings,
): Promise<boolean> {
  const kek = (await keyrings.toUnwrap(ref, [record.id], 'write')).get(record.id)
  if (kek === undefined) return false
  assertGenuine(ref, record, kek.key) // Invariant: no MAC is renewed that did not hold.
  const { mac: _mac, wraps, denial, rowVersion, ...facts } = record
  const next = { ...facts, state: 'decrypt-only' as const, revision: record.revision + 1 }
  const mac = kekRecordMac(kek.key.exposeKeyObject(), next)
  const update: KekRecord = {
    ...next,
    mac,
    wraps,
    rowVersion: rowVersion + 1,
    ...(denial === undefined ? {} : { denial }),
  }
  // `changed`: somebody else rotates or moves this record; a repeated call demotes what is still active.
  return (await answered(() => keyStore.update(update), ref)) === 'updated'
}
