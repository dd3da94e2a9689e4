import { randomBytes } from 'node:crypto'
import { recordIdFrom } from '../../src/context/record-id.ts'
import type { DirectKeyRecord, IndexRecord, KekRecord } from '../../src/keys/records.ts'

export const newId = () => recordIdFrom(randomBytes(12))

/** A record of each kind with every optional member set. */
export function kekRecord(change: Partial<KekRecord> = {}): KekRecord {
  return {
    id: newId(),
    kind: 'kek',
    app: 'clinic',
    tenant: 'a',
    keyspace: 'default',
    purpose: 'wrap',
    version: 3,
    revision: 2,
    state: 'decrypt-only',
    createdAt: 1_700_000_000_000,
    notAfter: 1_800_000_000_000,
    destroyAt: 1_900_000_000_000,
    parent: newId(),
    compromised: true,
    mac: randomBytes(32),
    wraps: [
      {
        provider: 'aws-kms',
        uri: 'arn:aws:kms:eu-central-1:111122223333:key/1',
        blob: randomBytes(180),
        keyVersion: '1',
        versionEvidence: 'reported',
        wrappedAt: 1_700_000_000_001,
      },
    ],
    denial: 'retired',
    rowVersion: 7,
    ...change,
  }
}

export function indexRecord(change: Partial<IndexRecord> = {}): IndexRecord {
  return {
    id: newId(),
    kind: 'index',
    app: 'clinic',
    tenant: 'a',
    model: 'patients',
    index: 'email',
    epoch: 1,
    kekId: newId(),
    normalizer: 'email@1',
    bits: 128,
    role: 'current',
    revision: 1,
    mac: randomBytes(32),
    rowVersion: 1,
    ...change,
  }
}

export function directRecord(change: Partial<DirectKeyRecord> = {}): DirectKeyRecord {
  return {
    id: newId(),
    kind: 'direct',
    app: 'clinic',
    tenant: 'a',
    keyspace: 'default',
    provider: 'aws-kms',
    uri: 'arn:aws:kms:eu-central-1:111122223333:key/1',
    createdAt: 1_700_000_000_000,
    denial: 'destroyed',
    rowVersion: 1,
    ...change,
  }
}
