import { createSecretKey } from 'node:crypto'
import { lp } from '../../src/bytes/lp.ts'
import type { NormalizerName } from '../../src/blind-index/normalize.ts'
import { indexKey, indexToken } from '../../src/blind-index/token.ts'
import { expand, hmac, LABELS } from '../../src/cipher/hkdf.ts'
import { recordIdFrom } from '../../src/context/record-id.ts'
import { ERROR_CODES, type ErrorCode } from '../../src/errors/codes.ts'
import { recordToJson } from '../../src/keys/record-json.ts'
import { indexRecordMac } from '../../src/keys/record-mac.ts'
import type { IndexRecord } from '../../src/keys/records.ts'
import { type BuiltIndex, built, createBlindIndex } from '../../src/record/blind-index-of-model.ts'
import { defineModel } from '../../src/record/define-model.ts'
import { kekOf, storedRow } from './kek-record-vectors.ts'
import { APP, KEY_FILE, localUri, TENANT } from './key-material.ts'
import { indexRecordFacts, unsigned } from './mac-facts.ts'
import { namedBytes } from './scripted-random.ts'
import { CODECS, toJson } from './value-json.ts'
import { hex, type VectorFile, type VectorTest } from './vector-file.ts'

export interface Component {
  readonly field: string
  readonly type: string
  readonly normaliser: NormalizerName
  readonly value: unknown
}
export interface TokenVector extends VectorTest {
  readonly model: string
  readonly index: string
  readonly epoch: number
  readonly bits: number
  readonly normaliser: string
  readonly components: readonly Component[]
  readonly token: string | null
}
export interface IndexRecordVector extends VectorTest {
  readonly row: ReturnType<typeof storedRow>
  readonly described: {
    readonly model: string
    readonly index: string
    readonly normaliser: string
    readonly bits: number
  }
  readonly step?: number
  readonly code?: ErrorCode
  readonly kind?: string
}

/** The index KEK of all vectors here: a record of purpose index. */
export const INDEX_KEK = kekOf('index', { purpose: 'index' })

const NOTES = {
  Compound: 'More than one component, each under its own normaliser.',
  Truncated: 'Fewer than 128 bits: different values may share a token.',
  Slot: 'An even epoch: the token stands in the column <column>_bidx_next.',
  Null: 'A null component: no token.',
  Equal: 'The same token as another value: equal after normalisation.',
  Json: 'A member that is missing, of another type or out of range.',
  Elsewhere: 'The index record names a KEK that is not one of purpose index for this tenant.',
  Altered: 'A fact changed after the MAC was made.',
  Described: 'Genuine, but not what the annotation describes.',
} as const
type Flag = keyof typeof NOTES

/** Models that hold one field per component, so that core's own index normalises and encodes. */
export function indexOver(
  model: string,
  id: string,
  components: readonly Omit<Component, 'value'>[],
  bits: number,
): BuiltIndex {
  const map = defineModel(
    {
      id: model,
      options: { tenantBy: 'tenant' },
      fields: components.map(({ field, type }) => ({ path: field, type, options: {} })),
      rowKey: [],
    },
    { tenancy: 'multi', codecs: new Map(CODECS.map((codec) => [codec.type, codec])), hasSharedKeys: false },
  )
  const fields = map.fields.map((field) => built.field(field))
  const normalize = components.map(({ normaliser }) => normaliser)
  return createBlindIndex(model, id, fields, { now: { bits, normalize }, unique: false, acrossTenants: false })
}

export function indexesAndTokens(): VectorFile & {
  readonly testGroups: readonly {
    readonly type: string
    readonly tests: readonly (TokenVector & IndexRecordVector)[]
  }[]
} {
  const kek = { kekId: INDEX_KEK.record.id, kek: hex(INDEX_KEK.kek) }
  return {
    algorithm: 'FIELDSEAL-BLIND-INDEX',
    header: [
      'Blind indexes: keys, tokens and index records under one KEK of purpose index; bytes are hex.',
      '`indexKeyInfo` is LP(…) of the derivation; `message` is LP(LP(tag, bytes), …); `mac` the whole HMAC of which a token has the leftmost bits.',
      'In groups of records `described` is what the annotation says, and `kekRow` the stored row of the KEK.',
    ],
    notes: NOTES,
    testGroups: [
      { type: 'tokens', ...kek, tests: tokens() },
      {
        type: 'records',
        ...kek,
        kekRow: storedRow(INDEX_KEK.record),
        keyFile: KEY_FILE,
        cmks: [localUri('clinic-7')],
        expected: { app: APP, tenant: TENANT },
        tests: [...validRecords(), ...invalidRecords()],
      },
    ] as never,
  }
}

interface TokenChoice {
  readonly index?: string
  readonly epoch?: number
  readonly bits?: number
}

function token(
  comment: string,
  flags: readonly Flag[],
  components: readonly (readonly [type: string, normaliser: NormalizerName, value: unknown])[],
  { index = 'email', epoch = 1, bits = 128 }: TokenChoice = {},
): TokenVector {
  const model = 'patients'
  const described = components.map(([type, normaliser, value], i) => ({ field: `field-${i}`, type, normaliser, value }))
  const of = indexOver(model, index, described, bits)
  const { normalizer: normaliser } = of.description.shapes[0]
  const facts = { model, index, epoch, normalizer: normaliser, bits }
  const key = indexKey(createSecretKey(INDEX_KEK.kek), facts)
  const parts = of.parts(described.map(({ value }) => value))
  const message = parts === null ? null : lp(...parts.map(({ tag, bytes }) => lp(Uint8Array.of(tag), bytes)))
  return {
    comment,
    flags,
    model,
    index,
    epoch,
    bits,
    normaliser,
    indexKeyInfo: hex(lp(LABELS.index, model, index, unsigned(epoch, 1), normaliser, unsigned(bits, 2))),
    indexKey: hex(
      expand(
        createSecretKey(INDEX_KEK.kek),
        LABELS.index,
        model,
        index,
        unsigned(epoch, 1),
        normaliser,
        unsigned(bits, 2),
      ),
    ),
    components: described.map((component, i) => {
      const part = parts?.[i]
      const { value, ...rest } = component
      return {
        ...rest,
        value: toJson(rest.type, value),
        ...(part === undefined ? {} : { tag: part.tag, bytes: hex(part.bytes) }),
      }
    }),
    ...(message === null ? {} : { message: hex(message), mac: hex(hmac(key, message)) }),
    token: parts === null ? null : hex(indexToken(key, epoch, bits, parts)),
    result: 'valid',
  } as TokenVector
}

const OBJECT_ID = Buffer.from('140000000776' + '00' + '65f0c0ffee0123456789abcd' + '00', 'hex')

function tokens(): TokenVector[] {
  return [
    token('none: the text itself', [], [['string', 'none', ' Ada ']]),
    token('trim', [], [['string', 'trim', '\u00a0 Ada\u3000']]),
    token('lower', [], [['string', 'lower', ' ADA Lovelace ']]),
    token('email', [], [['string', 'email', ' Ada@Example.ORG ']]),
    token('email, already normal', ['Equal'], [['string', 'email', 'ada@example.org']]),
    token('digits', [], [['string', 'digits', '+43 (0) 660 / 123']]),
    token('the empty string has a token', [], [['string', 'email', '']]),
    token('a number', [], [['number', 'none', 0]]),
    token('number -0 has the token of 0', ['Equal'], [['number', 'none', -0]]),
    token('a boolean', [], [['boolean', 'none', true]]),
    token('a bigint, without padding', [], [['bigint', 'none', -129n]]),
    token('an instant', [], [['date', 'none', new Date(1_760_000_000_000)]]),
    token('bytes', [], [['bytes', 'none', Buffer.from('00ff10', 'hex')]]),
    token('bson: the stored document of an ObjectId', [], [['bson', 'none', OBJECT_ID]]),
    token('a day', [], [['day', 'none', '1815-12-10']]),
    token('a null', ['Null'], [['string', 'email', null]]),
    token(
      'two components',
      ['Compound'],
      [
        ['string', 'email', 'Ada@Example.org'],
        ['day', 'none', '1815-12-10'],
      ],
      { index: 'email+born' },
    ),
    token(
      'three components, two normalisers',
      ['Compound'],
      [
        ['string', 'lower', 'Ada'],
        ['string', 'lower', 'LOVELACE'],
        ['string', 'digits', '12-34'],
      ],
      { index: 'person' },
    ),
    token(
      'a component that is null',
      ['Compound', 'Null'],
      [
        ['string', 'email', 'ada@example.org'],
        ['day', 'none', null],
      ],
      { index: 'email+born' },
    ),
    token('epoch 2', ['Slot'], [['string', 'email', 'ada@example.org']], { epoch: 2 }),
    token('epoch 255', [], [['string', 'email', 'ada@example.org']], { epoch: 255 }),
    token('another index', [], [['string', 'email', 'ada@example.org']], { index: 'login' }),
    token('16 bits', ['Truncated'], [['string', 'email', 'ada@example.org']], { bits: 16 }),
    token('64 bits', ['Truncated'], [['string', 'email', 'ada@example.org']], { bits: 64 }),
    token('256 bits', [], [['string', 'email', 'ada@example.org']], { bits: 256 }),
  ]
}

type Facts = Omit<IndexRecord, 'mac' | 'rowVersion'>

function recordOf(changes: Partial<Facts> = {}): IndexRecord {
  const facts: Facts = {
    id: recordIdFrom(namedBytes('index record', 12)),
    kind: 'index',
    app: APP,
    tenant: TENANT,
    model: 'patients',
    index: 'email',
    epoch: 1,
    kekId: INDEX_KEK.record.id,
    normalizer: 'email@1',
    bits: 128,
    role: 'current',
    revision: 1,
    ...changes,
  }
  return { ...facts, mac: indexRecordMac(createSecretKey(INDEX_KEK.kek), facts), rowVersion: 1 }
}

function described({ model, index, normalizer, bits }: Facts) {
  return { model, index, normaliser: normalizer, bits }
}

function validRecords(): IndexRecordVector[] {
  const valid = (comment: string, flags: readonly Flag[], changes: Partial<Facts> = {}): IndexRecordVector => {
    const record = recordOf(changes)
    return {
      comment,
      flags,
      row: storedRow(record),
      described: described(record),
      macFacts: hex(indexRecordFacts(record)),
      macKey: hex(expand(createSecretKey(INDEX_KEK.kek), LABELS.indexRecord)),
      mac: hex(record.mac),
      result: 'valid',
    } as IndexRecordVector
  }
  return [
    valid('the first epoch of an index', []),
    valid('epoch 2, role next', ['Slot'], { epoch: 2, role: 'next' }),
    valid('epoch 255, a high revision', [], { epoch: 255, revision: Number.MAX_SAFE_INTEGER }),
    valid('a compound index', ['Compound'], { index: 'email+born', normalizer: 'email@1+none@1' }),
    valid('16 bits, a normaliser of the application', ['Truncated'], { bits: 16, normalizer: 'iban@3' }),
  ]
}

function invalidRecords(): IndexRecordVector[] {
  const record = recordOf()
  const refusal = (
    step: number,
    code: ErrorCode,
    flag: Flag,
    reason: string,
    changes: object,
    of: Facts = record,
  ): IndexRecordVector => ({
    comment: reason,
    flags: [flag],
    reason,
    row: storedRow({ ...record, ...changes }),
    described: described(of),
    step,
    code,
    kind: ERROR_CODES[code].kind,
    result: 'invalid',
  })
  const member = (reason: string, name: string, value: unknown): IndexRecordVector => {
    const vector = refusal(1, 'ERR_KEY_RECORD_INVALID', 'Json', reason, {})
    const text = JSON.stringify({ ...(JSON.parse(recordToJson(record)) as object), [name]: value })
    return { ...vector, row: { ...vector.row, record: text } }
  }
  const altered = (reason: string, changes: object, of: Facts = record) =>
    refusal(4, 'ERR_KEY_RECORD_INVALID', 'Altered', reason, changes, of)
  const other = kekOf('first').record.id
  const mac = Buffer.from(record.mac)
  mac[0] = (mac[0] ?? 0) ^ 1
  return [
    member('epoch 0', 'epoch', 0),
    member('epoch 256', 'epoch', 256),
    member('no KEK id', 'kekId', undefined),
    member('8 bits', 'bits', 8),
    member('264 bits', 'bits', 264),
    member('an unknown role', 'role', 'former'),
    member('a MAC of 33 bytes', 'mac', Buffer.concat([mac, mac.subarray(0, 1)]).toString('base64url')),
    refusal(
      2,
      'ERR_INDEX_UNKNOWN',
      'Described',
      'another normaliser than the annotation',
      {},
      recordOf({ normalizer: 'lower@1' }),
    ),
    refusal(
      2,
      'ERR_INDEX_UNKNOWN',
      'Described',
      'another version of the normaliser',
      {},
      recordOf({ normalizer: 'email@2' }),
    ),
    refusal(2, 'ERR_INDEX_UNKNOWN', 'Described', 'other bits than the annotation', {}, recordOf({ bits: 64 })),
    refusal(2, 'ERR_INDEX_UNKNOWN', 'Described', 'normaliser altered', { normalizer: 'none@1' }),
    refusal(3, 'ERR_KEY_NOT_FOUND', 'Elsewhere', 'KEK id altered to one that does not exist', {
      kekId: recordIdFrom(namedBytes('none', 12)),
    }),
    refusal(3, 'ERR_KEY_RECORD_INVALID', 'Elsewhere', 'KEK id altered to a KEK of purpose wrap', { kekId: other }),
    refusal(5, 'ERR_INDEX_UNKNOWN', 'Described', 'an old epoch, and no other', recordOf({ role: 'old', revision: 4 })),
    altered('epoch altered', { epoch: 3 }),
    altered('role altered', { role: 'old' }),
    altered('record id altered', { id: recordIdFrom(namedBytes('z', 12)) }),
    altered('record revision altered', { revision: 2 }),
    altered(
      'normaliser altered, and the annotation with it',
      { normalizer: 'none@1' },
      recordOf({ normalizer: 'none@1' }),
    ),
    altered('bits altered, and the annotation with them', { bits: 64 }, recordOf({ bits: 64 })),
    altered('the record of another index', { index: 'login', mac: record.mac }, recordOf({ index: 'login' })),
    altered('the record of another model', { model: 'staff', mac: record.mac }, recordOf({ model: 'staff' })),
    altered('record MAC flipped', { mac }),
  ]
}
