import { createSecretKey } from 'node:crypto'
import { expand, LABELS } from '../../src/cipher/hkdf.ts'
import { contextBytes } from '../../src/context/encryption-context.ts'
import { recordIdFrom } from '../../src/context/record-id.ts'
import { ERROR_CODES, type ErrorCode } from '../../src/errors/codes.ts'
import { kekContext } from '../../src/keyring/kek-wraps.ts'
import type { KeyspaceRef } from '../../src/keys/key-store.ts'
import { recordFromJson, recordToJson } from '../../src/keys/record-json.ts'
import { kekRecordMac } from '../../src/keys/record-mac.ts'
import { type KekFacts, type KekRecord, type KeyStoreRecord, slotOf, type StoredWrap } from '../../src/keys/records.ts'
import { APP, type CmkName, KEY_FILE, localAad, localUri, NOW, TENANT, wrapLocally } from './key-material.ts'
import { kekRecordFacts } from './mac-facts.ts'
import { namedBytes } from './scripted-random.ts'
import { hex, type VectorFile, type VectorTest } from './vector-file.ts'

/** A stored row of the key store and what its reader expects. */
export interface RecordVector extends VectorTest {
  /** The key store's columns. */
  readonly row: ReturnType<typeof storedRow>
  /** Of the key that the reader looks for. */
  readonly id: string
  readonly expected: KeyspaceRef
  /** CMKs of the tenant's configuration, in order. */
  readonly cmks: readonly string[]
  readonly kek?: string
  readonly step?: number
  readonly code?: ErrorCode
  readonly kind?: string
}

type Cmk = Parameters<typeof wrapLocally>[0]

export const EXPECTED: KeyspaceRef = { app: APP, tenant: TENANT, keyspace: 'default' }

/** The row that holds a record. */
export function storedRow(record: KeyStoreRecord, text = recordToJson(recordFromJson(recordToJson(record)))) {
  const { id, kind, app, tenant, rowVersion } = record
  const keyspace = record.kind === 'index' ? 'default' : record.keyspace
  return { id, slot: slotOf(record), kind, app, tenant, keyspace, row_version: rowVersion, record: text }
}

export interface MadeKek {
  readonly record: KekRecord
  readonly kek: Buffer
}

/** A KEK with its record, wrapped by CMKs of the key file. */
export function kekOf(
  name: string,
  facts: Partial<KekFacts> = {},
  cmks: readonly Cmk[] = ['clinic-7'],
  version?: number,
): MadeKek {
  const kek = namedBytes(`record kek ${name}`, 32)
  const all: KekFacts = {
    id: recordIdFrom(namedBytes(`record ${name}`, 12)),
    kind: 'kek',
    ...EXPECTED,
    purpose: 'wrap',
    version: 1,
    revision: 1,
    state: 'active',
    createdAt: NOW,
    compromised: false,
    ...facts,
  }
  const wraps = cmks.map((cmk): StoredWrap => {
    const blob = wrapLocally(cmk, kekContext(all, all.purpose, all.id), kek, `${name} ${cmk}`, version)
    const keyVersion = String(blob.readUInt32BE(1))
    return { provider: 'local', uri: localUri(cmk), blob, keyVersion, versionEvidence: 'reported', wrappedAt: NOW }
  })
  return { kek, record: { ...all, mac: kekRecordMac(createSecretKey(kek), all), wraps, rowVersion: 1 } }
}

const FLAGS = {
  Facts: 'Facts that a record may lack, and the bounds of the others.',
  Wraps: 'Several wraps, or one by an older CMK version.',
  Unread: 'What is beside the MAC and may differ: rowVersion, hints, unknown members.',
  Json: 'Not JSON, or a member that is missing, of another type or out of range.',
  Elsewhere: 'A record of another application, tenant or keyspace, or none of this id.',
  State: 'A state or denial in which the key must not be used. Obeyed before the key is asked for.',
  Parent: 'A parent where none may stand.',
  Cmk: 'No wrap by a CMK that the reader has configured, or a CMK that may not be used.',
  Blob: 'The blob, or the context that it was wrapped under, is another one.',
  Altered: 'A fact changed after the MAC was made.',
} as const
type Flag = keyof typeof FLAGS

export function kekRecords(): VectorFile & {
  readonly testGroups: readonly { readonly tests: readonly RecordVector[] }[]
} {
  return {
    algorithm: 'FIELDSEAL-KEK-RECORD',
    header: [
      'Rows of the key store, each with the KEK in it; bytes are hex, times milliseconds. `keyFile` is a key file of kms-local.',
      'The reader looks for the key `id` of `expected` and unwraps it with the first of `cmks` that has wrapped it.',
      '`macFacts` is LP(facts), `macKey` the key of the MAC; `context` and `contextBytes` are what a KMS authenticates, `blobAAD` what kms-local makes of it.',
    ],
    notes: FLAGS,
    testGroups: [
      { type: 'records', keyFile: KEY_FILE, tests: validRecords() } as { type: string; tests: RecordVector[] },
      { type: 'records to refuse', keyFile: KEY_FILE, tests: invalidRecords() } as {
        type: string
        tests: RecordVector[]
      },
    ],
  }
}

function valid(comment: string, flags: readonly Flag[], { record, kek }: MadeKek): RecordVector {
  const { tenant, keyspace, app } = record
  const context = kekContext(record, record.purpose, record.id)
  const key = createSecretKey(kek)
  const wrap = record.wraps.find(({ uri }) => uri === localUri('clinic-7'))
  const version = Buffer.from(wrap?.blob ?? []).readUInt32BE(1)
  return {
    comment,
    flags,
    row: storedRow(record),
    id: record.id,
    expected: { app, tenant, keyspace },
    cmks: [localUri('clinic-7')],
    context,
    contextBytes: hex(contextBytes(context)),
    blobAAD: hex(localAad(wrap?.uri ?? '', version, context)),
    kek: hex(kek),
    macFacts: hex(kekRecordFacts(record)),
    macKey: hex(expand(key, LABELS.record)),
    mac: hex(record.mac),
    result: 'valid',
  } as RecordVector
}

function validRecords(): RecordVector[] {
  const compromised = kekOf('compromised', { compromised: true, version: 3 })
  const hints = kekOf('hints')
  const [wrap] = hints.record.wraps
  const otherHints = {
    ...(wrap as StoredWrap),
    keyVersion: 'anything',
    versionEvidence: 'unknown',
    wrappedAt: 0,
  } as const
  const withHints = { ...hints, record: { ...hints.record, wraps: [otherHints], rowVersion: 77 } }
  const unknown = valid('unknown members are ignored', ['Unread'], kekOf('unknown'))
  return [
    valid('the first KEK of a tenant', [], kekOf('first')),
    valid('purpose index', [], kekOf('index', { purpose: 'index' })),
    valid(
      'all facts that may be absent but the parent',
      ['Facts'],
      kekOf('all', { notAfter: NOW + 1, destroyAt: NOW + 2, state: 'decrypt-only' }),
    ),
    valid(
      'version 2^32 - 1, revision 2^53 - 1',
      ['Facts'],
      kekOf('bounds', { version: 2 ** 32 - 1, revision: Number.MAX_SAFE_INTEGER }),
    ),
    valid('createdAt 0', ['Facts'], kekOf('zero', { createdAt: 0 })),
    valid('compromised: no more wraps, reading goes on', ['Facts'], compromised),
    valid('a data class', ['Facts'], kekOf('class', { keyspace: 'class:payment' })),
    valid('names that are not ASCII or have quotes', ['Facts'], kekOf('names', { tenant: 'clinic-ß "7"\\' })),
    valid('reserved tenants', ['Facts'], kekOf('shared', { tenant: '$shared', purpose: 'index' })),
    valid('wraps of two CMKs, the second configured alone', ['Wraps'], kekOf('two', {}, ['clinic-8', 'clinic-7'])),
    valid('a wrap by version 1 of the CMK', ['Wraps'], kekOf('old', {}, ['clinic-7'], 1)),
    valid('hints and rowVersion say something else', ['Unread'], withHints),
    { ...unknown, row: { ...unknown.row, record: unknown.row.record.replace('{', '{"x":{"y":[null]},') } },
  ]
}

interface Refusal {
  readonly step: number
  readonly code: ErrorCode
  readonly flag: Flag
}
const JSON_STEP: Refusal = { step: 1, code: 'ERR_KEY_RECORD_INVALID', flag: 'Json' }
const ELSEWHERE: Refusal = { step: 2, code: 'ERR_KEY_NOT_FOUND', flag: 'Elsewhere' }
const ERASED: Refusal = { step: 3, code: 'ERR_KEY_ERASED', flag: 'State' }
const RETIRED: Refusal = { step: 3, code: 'ERR_KEY_RETIRED', flag: 'State' }
const PARENT: Refusal = { step: 4, code: 'ERR_KEY_RECORD_INVALID', flag: 'Parent' }
const CMK: Refusal = { step: 5, code: 'ERR_KMS_CONFIG', flag: 'Cmk' }
const BLOB: Refusal = { step: 6, code: 'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', flag: 'Blob' }
const ALTERED: Refusal = { step: 7, code: 'ERR_KEY_RECORD_INVALID', flag: 'Altered' }

function invalidRecords(): RecordVector[] {
  const good = kekOf('good', { revision: 5, version: 4, notAfter: NOW + 1 })
  const { record, kek } = good
  const refusal = (
    { step, code, flag }: Refusal,
    reason: string,
    made: MadeKek,
    cmks: readonly CmkName[] = ['clinic-7'],
  ): RecordVector => {
    const { kind } = ERROR_CODES[code]
    const described = { comment: reason, flags: [flag], reason, row: storedRow(made.record), id: made.record.id }
    return { ...described, expected: EXPECTED, cmks: cmks.map(localUri), step, code, kind, result: 'invalid' }
  }
  const changed = (facts: object): MadeKek => ({ kek, record: { ...record, ...facts } })
  const inState = (name: string, facts: Partial<KekFacts>, beside: object = {}): MadeKek => {
    const made = kekOf(name, facts)
    return { ...made, record: { ...made.record, ...beside } }
  }
  const cell = (reason: string, change: (text: string) => string): RecordVector => {
    const vector = refusal(JSON_STEP, reason, good)
    const text = change(vector.row.record)
    if (text === vector.row.record) throw new Error(`${reason}: nothing changed`)
    return { ...vector, row: { ...vector.row, record: text } }
  }
  const member = (reason: string, name: string, value: unknown) =>
    cell(reason, (text) => JSON.stringify({ ...(JSON.parse(text) as object), [name]: value }))
  const flipped = (at: number) => {
    const [wrap] = record.wraps
    const blob = Buffer.from(wrap?.blob ?? [])
    blob[at] = (blob[at] ?? 0) ^ 1
    return changed({ wraps: [{ ...wrap, blob }] })
  }
  const macFlipped = Buffer.from(record.mac)
  macFlipped[31] = (macFlipped[31] ?? 0) ^ 1
  return [
    cell('record: not JSON', (text) => text.slice(0, -1)),
    cell('record: an array', () => '[]'),
    cell('record: an unknown kind', (text) => text.replace('"kind":"kek"', '"kind":"kex"')),
    member('record: no id', 'id', undefined),
    member('record: an id in capitals', 'id', record.id.toUpperCase()),
    member('record: an empty tenant', 'tenant', ''),
    member('record: version 0', 'version', 0),
    member('record: version 2^32', 'version', 2 ** 32),
    member('record: a version as text', 'version', '4'),
    member('record: revision 2^53', 'revision', 2 ** 53),
    member('record: an unknown state', 'state', 'suspended'),
    member('record: createdAt with a fraction', 'createdAt', NOW + 0.5),
    member('record: a createdAt before the epoch', 'createdAt', -1),
    member('record: compromised as a number', 'compromised', 0),
    member('record: a MAC of 31 bytes', 'mac', Buffer.from(record.mac.subarray(1)).toString('base64url')),
    member('record: a MAC with padding', 'mac', `${Buffer.from(record.mac).toString('base64url')}=`),
    member('record: an unknown denial', 'denial', 'perhaps'),
    member('record: a parent that is no id', 'parent', 'tenant'),
    member(
      'record: 17 wraps',
      'wraps',
      Array.from({ length: 17 }, () => JSON.parse(recordToJson(record)).wraps[0]),
    ),
    member('record: rowVersion 0', 'rowVersion', 0),
    refusal(ELSEWHERE, 'app altered', changed({ app: 'other' })),
    refusal(ELSEWHERE, 'tenant altered', changed({ tenant: 'clinic-8' })),
    refusal(ELSEWHERE, 'keyspace altered', changed({ keyspace: 'class:payment' })),
    {
      ...refusal(
        ELSEWHERE,
        'id altered, the reader looks for the old one',
        changed({ id: recordIdFrom(namedBytes('x', 12)) }),
      ),
      id: record.id,
    },
    refusal(RETIRED, 'retired', inState('retired', { state: 'retired' })),
    refusal(ERASED, 'pending destruction', inState('pending', { state: 'pending-destruction', destroyAt: NOW + 9 })),
    refusal(ERASED, 'destroyed, with its wrap still there', inState('destroyed', { state: 'destroyed' })),
    refusal(RETIRED, 'active, denial retired', inState('denied 1', {}, { denial: 'retired' })),
    refusal(ERASED, 'active, denial pending-destruction', inState('denied 2', {}, { denial: 'pending-destruction' })),
    refusal(ERASED, 'active, denial destroyed', inState('denied 3', {}, { denial: 'destroyed' })),
    refusal(ERASED, 'retired, denial destroyed', inState('denied 4', { state: 'retired' }, { denial: 'destroyed' })),
    refusal(RETIRED, 'state altered to retired: obeyed unverified', changed({ state: 'retired' })),
    refusal(ERASED, 'state altered to destroyed: obeyed unverified', changed({ state: 'destroyed' })),
    refusal(PARENT, 'parent added in keyspace default', changed({ parent: recordIdFrom(namedBytes('parent', 12)) })),
    refusal(CMK, 'wrapped by a CMK that is not configured', kekOf('foreign', {}, ['clinic-8'])),
    refusal(
      CMK,
      'uri altered to a CMK that is not configured',
      changed({ wraps: record.wraps.map((wrap) => ({ ...wrap, uri: localUri('clinic-8') })) }),
    ),
    refusal(
      CMK,
      'provider altered',
      changed({ wraps: record.wraps.map((wrap) => ({ ...wrap, provider: 'aws-kms' })) }),
    ),
    refusal(CMK, 'no wrap', changed({ wraps: [] })),
    refusal(
      { ...CMK, step: 6, code: 'ERR_KMS_KEY_DISABLED' },
      'its CMK is disabled',
      kekOf('off', {}, ['switched-off']),
      ['switched-off'],
    ),
    refusal(
      { ...CMK, step: 6, code: 'ERR_KMS_KEY_PENDING_DELETION' },
      'its CMK is pending deletion',
      kekOf('leaving', {}, ['leaving']),
      ['leaving'],
    ),
    refusal(
      { ...CMK, step: 6, code: 'ERR_KMS_KEY_DESTROYED' },
      'its CMK was pending deletion until a time that has passed',
      kekOf('left', {}, ['left']),
      ['left'],
    ),
    refusal(
      { ...CMK, step: 6, code: 'ERR_KMS_KEY_DESTROYED' },
      'its CMK is destroyed',
      changed({ wraps: record.wraps.map((wrap) => ({ ...wrap, uri: localUri('gone') })) }),
      ['gone'],
    ),
    refusal(
      BLOB,
      'uri altered to another configured CMK',
      changed({ wraps: record.wraps.map((wrap) => ({ ...wrap, uri: localUri('clinic-8') })) }),
      ['clinic-8'],
    ),
    ...[
      [0, 'format'],
      [4, 'version'],
      [5, 'nonce'],
      [17, 'wrapped key'],
      [64, 'tag'],
    ].map(([at, part]) => refusal(BLOB, `blob flipped: ${part}`, flipped(Number(at)))),
    refusal(
      BLOB,
      'blob cut',
      changed({ wraps: record.wraps.map((wrap) => ({ ...wrap, blob: wrap.blob.subarray(0, 64) })) }),
    ),
    refusal(BLOB, 'blob of another record', changed({ wraps: kekOf('other').record.wraps })),
    refusal(BLOB, 'id altered: the context names another key', changed({ id: recordIdFrom(namedBytes('y', 12)) })),
    refusal(BLOB, 'purpose altered: the context names another purpose', changed({ purpose: 'index' })),
    refusal(ALTERED, 'version altered', changed({ version: 5 })),
    refusal(ALTERED, 'revision altered', changed({ revision: 6 })),
    refusal(ALTERED, 'state altered to decrypt-only', changed({ state: 'decrypt-only' })),
    refusal(ALTERED, 'createdAt altered', changed({ createdAt: NOW + 1 })),
    refusal(ALTERED, 'notAfter altered', changed({ notAfter: NOW + 2 })),
    refusal(ALTERED, 'notAfter removed', changed({ notAfter: undefined })),
    refusal(ALTERED, 'destroyAt added', changed({ destroyAt: NOW })),
    refusal(ALTERED, 'notAfter moved to destroyAt', changed({ notAfter: undefined, destroyAt: record.notAfter })),
    refusal(ALTERED, 'compromised altered', changed({ compromised: true })),
    refusal(ALTERED, 'MAC flipped', changed({ mac: macFlipped })),
    refusal(ALTERED, 'MAC of another record', changed({ mac: kekOf('other').record.mac })),
  ]
}
