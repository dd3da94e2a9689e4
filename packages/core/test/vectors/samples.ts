import type { RowKeyKind } from '../../src/record/row-id.ts'
import { TENANT } from './key-material.ts'

/** Where a value stands, as its reader knows it. */
export interface Place {
  readonly tenant: string
  readonly keyspace: string
  readonly model: string
  readonly field: string
  readonly mapKeys?: readonly string[]
}
export interface KeyColumn {
  readonly field: string
  readonly kind: Exclude<RowKeyKind, 'other'>
  readonly value: unknown
}
export interface FieldSettings {
  readonly padToBytes?: number
  readonly encryptNull?: boolean
  readonly values?: readonly string[]
  readonly formerTypes?: readonly string[]
  readonly maxBytes?: number
}
export interface Sample {
  readonly type: string
  readonly value: unknown
  readonly comment: string
  readonly flags?: readonly string[]
  readonly place?: Partial<Place>
  /** By kind of layout `kek`; layout `direct` takes what may stand in a KMS log. */
  readonly row?: readonly KeyColumn[]
  readonly settings?: FieldSettings
  /** Sealed without the padding that is the default of its type. */
  readonly unpadded?: true
}

export const PLACE: Place = { tenant: TENANT, keyspace: 'default', model: 'patients', field: 'secret' }
export const ROW: readonly KeyColumn[] = [{ field: 'id', kind: 'uuid', value: 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01' }]
const COMPOSITE: readonly KeyColumn[] = [
  { field: 'visit', kind: 'integer', value: '-9007199254740993' },
  { field: 'id', kind: 'objectid', value: '65f0c0ffee0123456789abcd' },
]

const bson = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')
const parsed = (text: string): unknown => JSON.parse(text) // the only way to an own member `__proto__`

export const SAMPLES: readonly Sample[] = [
  { type: 'string', value: 'Ada Lovelace', comment: 'a string' },
  { type: 'string', value: '', comment: 'the empty string' },
  { type: 'string', value: 'Zoë 🏥 fs.AAAA', comment: 'a string that is not ASCII and looks like text form' },
  { type: 'string', value: '\ufeffe\u0301\u00e9\u0000', comment: 'BOM, two normal forms and U+0000 are data' },
  { type: 'string', value: 'Übung '.repeat(160), comment: 'a long string', flags: ['Long'] },
  { type: 'number', value: 0.1, comment: 'a number' },
  { type: 'number', value: -0, comment: 'number -0 keeps its sign' },
  { type: 'number', value: 5e-324, comment: 'the smallest number' },
  { type: 'number', value: Number.NaN, comment: 'NaN' },
  { type: 'number', value: Number.NEGATIVE_INFINITY, comment: 'negative infinity' },
  { type: 'boolean', value: true, comment: 'true' },
  { type: 'boolean', value: false, comment: 'false' },
  { type: 'bigint', value: 0n, comment: 'bigint 0', unpadded: true },
  { type: 'bigint', value: 127n, comment: 'bigint 127', unpadded: true },
  { type: 'bigint', value: 128n, comment: 'bigint 128 needs a second byte', unpadded: true },
  { type: 'bigint', value: -128n, comment: 'bigint -128', unpadded: true },
  { type: 'bigint', value: -129n, comment: 'bigint -129, padded as writers do', flags: ['Padded'] },
  { type: 'bigint', value: 2n ** 127n, comment: 'bigint of 17 bytes, padded to 32', flags: ['Padded'] },
  { type: 'date', value: new Date(0), comment: 'the epoch' },
  { type: 'date', value: new Date(-1), comment: 'an instant before the epoch' },
  { type: 'date', value: new Date(-8.64e15), comment: 'the first instant' },
  { type: 'date', value: new Date(8.64e15), comment: 'the last instant' },
  { type: 'bytes', value: Buffer.from('00ff10', 'hex'), comment: 'bytes' },
  { type: 'bytes', value: Buffer.alloc(0), comment: 'no bytes' },
  {
    type: 'json',
    value: parsed('{"b":[1,null,"é"],"a":{"10":true,"2":false}}'),
    comment: 'json: members sorted, integer-like keys too',
  },
  {
    type: 'json',
    value: { '\ufffd': 1, '😀': 2, a: '\u2028\u0007"\\/' },
    comment: 'json: keys sorted by UTF-16 code units, escapes of RFC 8785',
  },
  { type: 'json', value: [1e21, 1e-7, 0.1, 100, -0.5], comment: 'json: numbers as ECMAScript prints them' },
  { type: 'json', value: parsed('{"__proto__":{"admin":true}}'), comment: 'json: __proto__ is data' },
  { type: 'json', value: 'text', comment: 'json: a string alone' },
  { type: 'bson', value: bson('0c000000 10 7600 01000000 00'), comment: 'bson { v: int32 1 }' },
  {
    type: 'bson',
    value: bson('14000000 07 7600 65f0c0ffee0123456789abcd 00'),
    comment: 'bson { v: ObjectId }',
  },
  { type: 'day', value: '1815-12-10', comment: 'a day' },
  { type: 'day', value: '2000-02-29', comment: 'a leap day of a century' },
  { type: 'day', value: '0001-01-01', comment: 'the first day' },
  { type: 'string', value: 'padded', comment: 'padded to 32', flags: ['Padded'], settings: { padToBytes: 32 } },
  { type: 'string', value: '', comment: 'empty, padded to 32', flags: ['Padded'], settings: { padToBytes: 32 } },
  {
    type: 'string',
    value: 'sixteen bytes ok',
    comment: 'as long as the multiple: no zeros',
    flags: ['Padded'],
    settings: { padToBytes: 16 },
  },
  {
    type: 'string',
    value: 'yes',
    comment: 'a declared enumeration is padded to its longest value',
    flags: ['Padded'],
    settings: { values: ['yes', 'no', 'unknown'] },
  },
  {
    type: 'string',
    value: null,
    comment: 'an encrypted null',
    flags: ['Padded', 'EncryptedNull'],
    settings: { encryptNull: true },
  },
  {
    type: 'date',
    value: null,
    comment: 'an encrypted null has the tag of its field',
    flags: ['Padded', 'EncryptedNull'],
    settings: { encryptNull: true },
  },
  {
    type: 'string',
    value: 'in a Map',
    comment: 'two map keys',
    flags: ['MapKeys'],
    place: { field: 'phones.$*.$*', mapKeys: ['home', 'ü'] },
  },
  {
    type: 'string',
    value: 'deep',
    comment: 'a field id with escapes and an array level',
    place: { field: 'a~1b.~2c.$.~0d' },
  },
  { type: 'string', value: 'card', comment: 'a keyspace per data class', place: { keyspace: 'class:payment' } },
  {
    type: 'string',
    value: 'mine',
    comment: 'a keyspace per data subject',
    place: { keyspace: 'subject:person:b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01' },
  },
  { type: 'string', value: 'alone', comment: 'an application without tenants', place: { tenant: '$single' } },
  {
    type: 'string',
    value: 'ünïcode',
    comment: 'names that are not ASCII',
    place: { tenant: 'clinic-ß', model: 'Ärzte' },
  },
  { type: 'string', value: 'key', comment: 'an integer key', row: [{ field: 'id', kind: 'integer', value: 42 }] },
  { type: 'string', value: 'key', comment: 'a composite key, columns sorted by field id', row: COMPOSITE },
  {
    type: 'string',
    value: 'key',
    comment: 'a string key',
    row: [{ field: 'id', kind: 'string', value: 'Größe/1' }],
    flags: ['StringKey'],
  },
]
