import { createSecretKey } from 'node:crypto'
import { lp } from '../../src/bytes/lp.ts'
import { expand, LABELS } from '../../src/cipher/hkdf.ts'
import { recordIdBytes, recordIdFrom } from '../../src/context/record-id.ts'
import { ERROR_CODES, type ErrorCode } from '../../src/errors/codes.ts'
import type { LiveKek } from '../../src/keyring/live-kek.ts'
import { kekContext } from '../../src/keyring/kek-wraps.ts'
import { wrapUnderParent } from '../../src/keyring/parent-wrap.ts'
import type { KeyspaceRef } from '../../src/keys/key-store.ts'
import { kekRecordMac } from '../../src/keys/record-mac.ts'
import type { KekFacts, KekRecord, StoredWrap } from '../../src/keys/records.ts'
import { SecretKey } from '../../src/keys/secret-key.ts'
import { EXPECTED, kekOf, type MadeKek, storedRow } from './kek-record-vectors.ts'
import { KEY_FILE, localUri, NOW, wrapLocally } from './key-material.ts'
import { kekRecordFacts, unsigned } from './mac-facts.ts'
import { namedBytes, scriptedRandom } from './scripted-random.ts'
import { hex, type VectorFile, type VectorTest } from './vector-file.ts'

export interface SubjectVector extends VectorTest {
  readonly row: ReturnType<typeof storedRow>
  readonly id: string
  readonly expected: KeyspaceRef
  readonly kek?: string
  readonly step?: number
  readonly code?: ErrorCode
  readonly kind?: string
}

/** The tenant's KEK, parent of all vectors here. */
export const PARENT = kekOf('first')
const OTHER_PARENT = kekOf('other parent', { version: 2 })
const SUBJECT = 'subject:person:b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01'

const NOTES = {
  Parent: 'A parent is missing, or is not the one that wrapped the key.',
  Blob: 'The blob, or what it is bound to, is another one.',
  Altered: 'A fact changed that the MAC covers and the blob does not.',
  State: 'A state in which the key must not be used.',
} as const

function childOf(
  parent: MadeKek,
  name: string,
  facts: Partial<KekFacts> = {},
): MadeKek & { readonly blob: Uint8Array } {
  const kek = namedBytes(`subject kek ${name}`, 32)
  const all: KekFacts = {
    id: recordIdFrom(namedBytes(`subject record ${name}`, 12)),
    kind: 'kek',
    ...EXPECTED,
    keyspace: SUBJECT,
    purpose: 'wrap',
    version: 1,
    revision: 1,
    state: 'active',
    createdAt: NOW,
    parent: parent.record.id,
    compromised: false,
    ...facts,
  }
  const live = {
    key: new SecretKey(Uint8Array.from(parent.kek)),
    idBytes: recordIdBytes(parent.record.id),
  } as unknown as LiveKek // all that a wrap needs of it
  const blob = wrapUnderParent(live, all, new SecretKey(Uint8Array.from(kek)), scriptedRandom(`subject wrap ${name}`))
  const wrap: StoredWrap = { provider: 'kek', uri: parent.record.id, blob, versionEvidence: 'unknown', wrappedAt: NOW }
  return { kek, blob, record: { ...all, mac: kekRecordMac(createSecretKey(kek), all), wraps: [wrap], rowVersion: 1 } }
}

export function subjectKeks(): VectorFile & {
  readonly testGroups: readonly { readonly tests: readonly SubjectVector[] }[]
} {
  const parents = [PARENT, OTHER_PARENT].map(({ record, kek }) => ({ kek: hex(kek), row: storedRow(record) }))
  const shared = { parents, keyFile: KEY_FILE, cmks: [localUri('clinic-7')] }
  return {
    algorithm: 'FIELDSEAL-SUBJECT-KEK',
    header: [
      'KEKs of data subjects, each wrapped by a KEK of its tenant, keyspace default; bytes are hex.',
      '`parents` are stored in the same key store; `wrapKeyInfo` is LP(…) of the derivation, `aad` the additional data.',
    ],
    notes: NOTES,
    testGroups: [{ type: 'subject keks', ...shared, tests: [...validOnes(), ...invalidOnes()] }] as never,
  }
}

function validOnes(): SubjectVector[] {
  const valid = (comment: string, parent: MadeKek, name: string, facts: Partial<KekFacts> = {}): SubjectVector => {
    const { record, kek, blob } = childOf(parent, name, facts)
    const { app, tenant, keyspace, purpose, version } = record
    const salt = blob.subarray(0, 6)
    const ids = [recordIdBytes(record.id), recordIdBytes(parent.record.id)] as const
    return {
      comment,
      flags: [],
      row: storedRow(record),
      id: record.id,
      expected: { app, tenant, keyspace },
      salt: hex(salt),
      nonce: hex(blob.subarray(6, 18)),
      wrapKeyInfo: hex(lp(LABELS.kekWrap, salt)),
      wrapKey: hex(expand(createSecretKey(parent.kek), LABELS.kekWrap, salt)),
      aad: hex(lp(LABELS.kekWrapAad, ...ids, app, tenant, keyspace, purpose, unsigned(version, 4))),
      blob: hex(blob),
      kek: hex(kek),
      macFacts: hex(kekRecordFacts(record)),
      mac: hex(record.mac),
      result: 'valid',
    } as SubjectVector
  }
  return [
    valid('a subject named by a uuid', PARENT, 'uuid'),
    valid('a subject named by an integer, version 2', PARENT, 'integer', {
      keyspace: 'subject:patient:42',
      version: 2,
    }),
    valid('a subject named by a text that is not ASCII and has colons', PARENT, 'text', {
      keyspace: 'subject:person:Zoë:1:2',
    }),
    valid('another KEK of the tenant as parent', OTHER_PARENT, 'other'),
  ]
}

function invalidOnes(): SubjectVector[] {
  const { record, kek, blob } = childOf(PARENT, 'uuid')
  const refusal = (
    step: number,
    code: ErrorCode,
    flag: keyof typeof NOTES,
    reason: string,
    stored: KekRecord,
  ): SubjectVector => ({
    comment: reason,
    flags: [flag],
    reason,
    row: storedRow(stored),
    id: stored.id,
    expected: { ...EXPECTED, keyspace: stored.keyspace },
    step,
    code,
    kind: ERROR_CODES[code].kind,
    result: 'invalid',
  })
  const changed = (facts: object): KekRecord => ({ ...record, ...facts })
  /** The same wrap, the MAC right: only the blob can tell. */
  const remade = (facts: Partial<KekFacts>): KekRecord => {
    const all = { ...record, ...facts }
    return { ...all, mac: kekRecordMac(createSecretKey(kek), all) }
  }
  const withBlob = (other: Uint8Array) => changed({ wraps: record.wraps.map((wrap) => ({ ...wrap, blob: other })) })
  const flipped = (at: number) => {
    const copy = Buffer.from(blob)
    copy[at] = (copy[at] ?? 0) ^ 1
    return withBlob(copy)
  }
  const orphan = remade({ parent: undefined } as never)
  const byCmk = wrapLocally(
    'clinic-7',
    kekContext({ ...EXPECTED, keyspace: SUBJECT }, 'wrap', record.id),
    kek,
    'subject by cmk',
  )
  const cmkWrap: StoredWrap = {
    provider: 'local',
    uri: localUri('clinic-7'),
    blob: byCmk,
    versionEvidence: 'reported',
    wrappedAt: NOW,
  }
  const INVALID = 'ERR_KEY_RECORD_INVALID'
  return [
    refusal(3, 'ERR_KEY_RETIRED', 'State', 'a retired subject KEK', remade({ state: 'retired' })),
    refusal(3, 'ERR_KEY_ERASED', 'State', 'an erased subject: tombstone without wraps', {
      ...remade({ state: 'destroyed' }),
      wraps: [],
    }),
    refusal(4, INVALID, 'Parent', 'a subject keyspace without parent, wrapped by a CMK', {
      ...orphan,
      wraps: [cmkWrap],
    }),
    refusal(
      5,
      'ERR_KEY_NOT_FOUND',
      'Parent',
      'a parent that does not exist',
      changed({ parent: recordIdFrom(namedBytes('p', 12)) }),
    ),
    refusal(5, 'ERR_KEY_NOT_FOUND', 'Parent', 'its own parent', changed({ parent: record.id })),
    refusal(6, INVALID, 'Parent', 'no wrap by the parent', changed({ wraps: [] })),
    refusal(6, INVALID, 'Parent', 'wrapped by a CMK only', changed({ wraps: [cmkWrap] })),
    refusal(6, INVALID, 'Parent', 'parent altered, uri not', changed({ parent: OTHER_PARENT.record.id })),
    refusal(
      6,
      INVALID,
      'Parent',
      'parent and uri altered',
      changed({
        parent: OTHER_PARENT.record.id,
        wraps: record.wraps.map((wrap) => ({ ...wrap, uri: OTHER_PARENT.record.id })),
      }),
    ),
    ...[
      [0, 'salt'],
      [6, 'nonce'],
      [18, 'wrapped key'],
      [65, 'tag'],
    ].map(([at, part]) => refusal(6, INVALID, 'Blob', `subject blob flipped: ${part}`, flipped(Number(at)))),
    refusal(6, INVALID, 'Blob', 'subject blob cut', withBlob(blob.subarray(0, 65))),
    refusal(6, INVALID, 'Blob', 'subject blob extended', withBlob(Buffer.concat([blob, Buffer.of(0)]))),
    refusal(
      6,
      INVALID,
      'Blob',
      'blob of another subject',
      withBlob(childOf(PARENT, 'integer', { keyspace: 'subject:patient:42', version: 2 }).blob),
    ),
    refusal(6, INVALID, 'Blob', 'another id, the MAC right', remade({ id: recordIdFrom(namedBytes('q', 12)) })),
    refusal(6, INVALID, 'Blob', 'another keyspace, the MAC right', remade({ keyspace: 'subject:person:else' })),
    refusal(6, INVALID, 'Blob', 'another purpose, the MAC right', remade({ purpose: 'index' })),
    refusal(6, INVALID, 'Blob', 'another version, the MAC right', remade({ version: 2 })),
    refusal(7, INVALID, 'Altered', 'subject revision altered', changed({ revision: 2 })),
    refusal(7, INVALID, 'Altered', 'subject state altered', changed({ state: 'decrypt-only' })),
    refusal(7, INVALID, 'Altered', 'subject MAC of another record', changed({ mac: PARENT.record.mac })),
  ]
}
