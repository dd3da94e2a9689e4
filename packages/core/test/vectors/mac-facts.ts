import { lp } from '../../src/bytes/lp.ts'
import { recordIdBytes } from '../../src/context/record-id.ts'
import type { IndexRecord, KekFacts } from '../../src/keys/records.ts'

/** LP(facts) of a KEK record: what its MAC is over. Written a second time here, so that the vectors show it. */
export function kekRecordFacts(facts: KekFacts): Uint8Array {
  return lp(
    recordIdBytes(facts.id),
    facts.kind,
    facts.app,
    facts.tenant,
    facts.keyspace,
    facts.purpose,
    unsigned(facts.version, 4),
    unsigned(facts.revision, 8),
    facts.state,
    ...[facts.createdAt, facts.notAfter, facts.destroyAt].map((at) => (at === undefined ? '' : unsigned(at, 8))),
    facts.parent === undefined ? '' : recordIdBytes(facts.parent),
    unsigned(facts.compromised ? 1 : 0, 1),
  )
}

/** LP(all fields but the MAC) of an index record. */
export function indexRecordFacts(record: Omit<IndexRecord, 'mac' | 'rowVersion'>): Uint8Array {
  return lp(
    record.tenant,
    record.model,
    record.index,
    unsigned(record.epoch, 1),
    recordIdBytes(record.kekId),
    record.normalizer,
    unsigned(record.bits, 2),
    record.role,
    recordIdBytes(record.id),
    record.kind,
    record.app,
    unsigned(record.revision, 8),
  )
}

export function unsigned(value: number, bytes: number): Buffer {
  const out = Buffer.alloc(8)
  out.writeBigUInt64BE(BigInt(value))
  return out.subarray(8 - bytes)
}
