import type { KekId } from '../context/record-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { KeyspaceRef } from '../keys/key-store.ts'
import { kekRecordMac, macHolds } from '../keys/record-mac.ts'
import type { KekPurpose, KekRecord, KeyStoreRecord } from '../keys/records.ts'
import type { SecretKey } from '../keys/secret-key.ts'
import type { Snapshot } from './snapshots.ts'

export function isKek(record: KeyStoreRecord): record is KekRecord {
  return record.kind === 'kek'
}

/** KEK records of one purpose, newest version first. */
export function keksOf(snapshot: Snapshot, purpose: KekPurpose): KekRecord[] {
  const keks = [...snapshot.records.values()].filter(isKek)
  return keks.filter((record) => record.purpose === purpose).sort((a, b) => b.version - a.version)
}

/**
 * Readable: `active` and `decrypt-only` without denial. The record's state is believed as far as it restricts.
 * @throws FieldsealError ERR_KEY_ERASED, ERR_KEY_RETIRED
 */
export function assertReadable(record: KekRecord, deniedKeks: ReadonlySet<KekId>): void {
  const facts = { tenant: record.tenant, kekId: record.id }
  if (isErased(record)) throw new FieldsealError('ERR_KEY_ERASED', facts)
  if (record.state === 'retired' || record.denial !== undefined) throw new FieldsealError('ERR_KEY_RETIRED', facts)
  if (deniedKeks.has(record.id))
    throw new FieldsealError('ERR_KEY_RETIRED', { ...facts, reason: 'named in deniedKeks' })
}

/**
 * The KEK that wraps new DEKs: the newest that is active, not denied, not compromised and not past `notAfter`; or the
 * version that a new one must have.
 *
 * @throws FieldsealError ERR_KEY_ERASED, ERR_KEY_RETIRED for a keyspace that was shredded or retired as a whole: it makes no new
 * KEK, or an erased person would come back
 */
export function toWrapWith(
  keks: readonly KekRecord[],
  deniedKeks: ReadonlySet<KekId>,
  now: number,
): KekRecord | { readonly nextVersion: number } {
  const readable = keks.filter((record) => isReadable(record, deniedKeks))
  const newest = readable.find(
    (r) => r.state === 'active' && !r.compromised && (r.notAfter === undefined || now < r.notAfter),
  )
  if (newest !== undefined) return newest
  const [first] = keks
  if (readable.length === 0 && first !== undefined) {
    assertReadable(keks.find(isErased) ?? first, deniedKeks)
  }
  return { nextVersion: (first?.version ?? 0) + 1 }
}

function isErased({ state, denial }: KekRecord): boolean {
  return [state, denial].some((word) => word === 'destroyed' || word === 'pending-destruction')
}

export function isReadable(record: KekRecord, deniedKeks: ReadonlySet<KekId>): boolean {
  return (
    (record.state === 'active' || record.state === 'decrypt-only') &&
    record.denial === undefined &&
    !deniedKeks.has(record.id)
  )
}

/**
 * A key is used only under a record whose facts are those that the key's holder wrote, for the keyspace that the reader
 * expects. @throws FieldsealError ERR_KEY_RECORD_INVALID
 */
export function assertGenuine(ref: KeyspaceRef, record: KekRecord, key: SecretKey): void {
  const expected = { ...record, app: ref.app, tenant: ref.tenant, keyspace: ref.keyspace }
  if (!macHolds(kekRecordMac(key.exposeKeyObject(), expected), record.mac)) {
    throw new FieldsealError('ERR_KEY_RECORD_INVALID', { tenant: ref.tenant, kekId: record.id })
  }
}
