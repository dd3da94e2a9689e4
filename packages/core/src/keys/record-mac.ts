import { timingSafeEqual, type KeyObject } from 'node:crypto'
import { lp } from '../bytes/lp.ts'
import { expandKey, hmac, LABELS } from '../cipher/hkdf.ts'
import { recordIdBytes, type RecordId } from '../context/record-id.ts'
import type { IndexRecord, KekFacts } from './records.ts'

const EMPTY = new Uint8Array(0)

/**
 * MAC of a KEK record under a key that only the KEK gives: HMAC-SHA-256(Expand(KEK, LP("fieldseal/1/record"), 32),
 * LP(id, kind, app, tenant, keyspace, purpose, version u32, revision u64, state, createdAt i64, notAfter i64,
 * destroyAt i64, parent, compromised u8)); what is absent is an empty item. 32 bytes.
 */
export function kekRecordMac(kek: KeyObject, facts: KekFacts): Buffer {
  return hmac(
    expandKey(kek, LABELS.record),
    lp(
      recordIdBytes(facts.id),
      facts.kind,
      facts.app,
      facts.tenant,
      facts.keyspace,
      facts.purpose,
      u32(facts.version),
      u64(facts.revision),
      facts.state,
      i64(facts.createdAt),
      i64(facts.notAfter),
      i64(facts.destroyAt),
      optionalId(facts.parent),
      Uint8Array.of(facts.compromised ? 1 : 0),
    ),
  )
}

/**
 * MAC of an index record under its index KEK: HMAC-SHA-256(Expand(KEK, LP("fieldseal/1/index-record"), 32), LP(tenant,
 * model, index, epoch u8, KEK id, normaliser@version, bits u16, role, id, kind, app, revision u64)). 32 bytes.
 */
export function indexRecordMac(kek: KeyObject, record: Omit<IndexRecord, 'mac' | 'rowVersion'>): Buffer {
  return hmac(
    expandKey(kek, LABELS.indexRecord),
    lp(
      record.tenant,
      record.model,
      record.index,
      Uint8Array.of(record.epoch),
      recordIdBytes(record.kekId),
      record.normalizer,
      u16(record.bits),
      record.role,
      recordIdBytes(record.id),
      record.kind,
      record.app,
      u64(record.revision),
    ),
  )
}

/** Compares in constant time. */
export function macHolds(expected: Uint8Array, actual: Uint8Array): boolean {
  return expected.length === actual.length && timingSafeEqual(expected, actual)
}

export function u16(value: number): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(2)
  bytes.writeUInt16BE(value)
  return bytes
}

export function u32(value: number): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function u64(value: number): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}

function i64(value: number | undefined): Uint8Array {
  if (value === undefined) return EMPTY
  const bytes = Buffer.allocUnsafeSlow(8)
  bytes.writeBigInt64BE(BigInt(value))
  return bytes
}

function optionalId(id: RecordId | undefined): Uint8Array {
  return id === undefined ? EMPTY : recordIdBytes(id)
}
