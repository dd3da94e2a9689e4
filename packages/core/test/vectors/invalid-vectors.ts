import { createSecretKey } from 'node:crypto'
import { nodeEngine } from '../../src/cipher/aead.ts'
import { expandKey, LABELS } from '../../src/cipher/hkdf.ts'
import { envelopeToText } from '../../src/envelope/text-form.ts'
import type { Envelope } from '../../src/envelope/layout.ts'
import { ERROR_CODES, type ErrorCode } from '../../src/errors/codes.ts'
import { createWrapFrame, kekHeader } from '../../src/field/dek-wrap.ts'
import { sealDirect } from '../../src/field/direct-value.ts'
import { valueAad } from '../../src/field/field-policy.ts'
import { sealRows } from '../../src/field/seal-rows.ts'
import { DIRECT_ID, directVector, type EnvelopeVector, kekVector } from './envelope-vectors.ts'
import type { Reader } from './reader.ts'
import type { Sample } from './samples.ts'
import { scriptedRandom } from './scripted-random.ts'
import { hex, unhex, type VectorFile, type VectorTest } from './vector-file.ts'

/** A cell that a reader must refuse. What is not said of the reader is as in the group. */
export interface InvalidEnvelope extends VectorTest {
  /** Step of the specification's order of refusal. */
  readonly step: number
  readonly code: ErrorCode
  readonly kind: string
  readonly form: 'text' | 'binary' | 'null'
  readonly stored: string | null
  readonly reader?: Partial<Reader>
}
export interface InvalidGroup {
  readonly type: string
  readonly reader: Reader
  readonly tests: readonly InvalidEnvelope[]
}

const STRING: Sample = { type: 'string', value: 'Ada Lovelace', comment: 'a string' }
const NOTES = {
  Plaintext: 'Not an envelope: no fs., no magic byte, or a database NULL where nulls are encrypted.',
  NotCanonical: 'Text form, or an authenticated plaintext, that does not re-encode identically.',
  Version: 'Written by something newer: an unknown version or suite.',
  Truncated: 'Cut.',
  Extended: 'Bytes added.',
  UnknownFlag: 'A flag bit that the format does not define, or a direct envelope that is not row-bound.',
  UnknownTag: 'A type tag that the format does not define.',
  BadLength: 'A length in the header that does not fit.',
  Layout: 'A layout, or an unbound value, that the model does not accept.',
  WrongTag: 'A type tag that the field does not declare.',
  TooLong: 'Longer than maxBytes allows.',
  UnknownKey: 'The reader has no readable key of this id for the tenant and keyspace that it expects.',
  Altered: 'A byte of the wrap, the commitment or the value changed.',
  Moved: 'A genuine envelope at another place: tenant, keyspace, model, field, map key, row, or another layout.',
  WrongKey: 'Another KEK or DEK under the same id.',
  Padding: 'Authenticates, but the padding does not hold.',
  Null: 'Authenticates, but is a null that its field does not encrypt.',
  Order: 'Several things are wrong: the first step that fails decides.',
} as const

export function invalidEnvelopes(): Omit<VectorFile, 'testGroups'> & { readonly testGroups: readonly InvalidGroup[] } {
  const bound = kekVector(STRING, 'bound')
  const unbound = kekVector(STRING, 'unbound')
  const direct = directVector(STRING)
  return {
    algorithm: 'FIELDSEAL-ENVELOPE',
    header: [
      'Cells that a reader must refuse. The group says what the reader expects and which key it has; a test may say otherwise in `reader`.',
      '`stored` is text in form text, hex in form binary, null for a database NULL. `step`: the step of the order of refusal that decides; `code` and `kind`: the error.',
    ],
    notes: NOTES,
    testGroups: [
      {
        type: 'kek, bound',
        reader: readerOf(bound),
        tests: [...binaryCases(bound, unbound, direct), ...textCases(bound)],
      },
      { type: 'kek, bound or not', reader: readerOf(unbound), tests: unboundCases(bound, unbound) },
      { type: 'kek, authenticated but not what an encoder writes', reader: readerOf(bound), tests: undecodable(bound) },
      { type: 'direct', reader: readerOf(direct), tests: directCases(direct, bound) },
    ],
  }
}

function readerOf(vector: EnvelopeVector): Reader {
  const { tenant, keyspace, model, field, type, accepts, rowId, keyId, kek, dek } = vector
  const key = kek === undefined ? { dek } : { kek }
  return { tenant, keyspace, model, field, type, accepts, ...(rowId === undefined ? {} : { rowId }), keyId, ...key }
}

type Flag = keyof typeof NOTES

function refusal(
  [step, code]: readonly [number, ErrorCode],
  flags: Flag | readonly Flag[],
  reason: string,
  cell: Pick<InvalidEnvelope, 'form' | 'stored'>,
  reader?: Partial<Reader>,
): InvalidEnvelope {
  const { kind } = ERROR_CODES[code]
  const described = { comment: reason, flags: [flags].flat(), step, code, kind, reason, ...cell }
  return { ...described, ...(reader === undefined ? {} : { reader }), result: 'invalid' }
}

const binary = (bytes: Uint8Array) => ({ form: 'binary' as const, stored: hex(bytes) })
const text = (stored: string) => ({ form: 'text' as const, stored })

const PLAINTEXT = [1, 'ERR_PLAINTEXT_FOUND'] as const
const NOT_CANONICAL = [1, 'ERR_ENVELOPE_MALFORMED'] as const
const NO_HEAD = [2, 'ERR_ENVELOPE_MALFORMED'] as const
const NEWER = [2, 'ERR_ENVELOPE_VERSION'] as const
const SHORT = [3, 'ERR_ENVELOPE_MALFORMED'] as const
const HEADER = [4, 'ERR_ENVELOPE_MALFORMED'] as const
const LENGTHS = [5, 'ERR_ENVELOPE_MALFORMED'] as const
const LAYOUT = [6, 'ERR_LAYOUT_REFUSED'] as const
const TAG = [7, 'ERR_DECRYPT_FAILED'] as const
const LIMIT = [7, 'ERR_ENVELOPE_MALFORMED'] as const
const KEY = [8, 'ERR_KEY_NOT_FOUND'] as const
const AUTHENTIC = [9, 'ERR_DECRYPT_FAILED'] as const
const DECODED = [10, 'ERR_DECRYPT_FAILED'] as const

function set(source: Uint8Array, ...changes: readonly (readonly [at: number, byte: number])[]): Buffer {
  const copy = Buffer.from(source)
  for (const [at, byte] of changes) copy[at] = byte
  return copy
}
function flip(source: Uint8Array, at: number): Buffer {
  return set(source, [at, (source[at] ?? 0) ^ 1])
}

function binaryCases(bound: EnvelopeVector, unbound: EnvelopeVector, direct: EnvelopeVector): InvalidEnvelope[] {
  const e = unhex(bound.envelope)
  const last = e.length - 1
  const otherRow = bound.rowId?.replace(/01$/, '02') ?? ''
  const otherKek = 'ff'.repeat(32)
  return [
    refusal([0, 'ERR_PLAINTEXT_FOUND'], 'Plaintext', 'a database NULL where nulls are encrypted', NULL_CELL, {
      encryptNull: true,
    }),
    refusal(PLAINTEXT, 'Plaintext', 'bytes of a text', binary(Buffer.from('Ada Lovelace'))),
    refusal(PLAINTEXT, 'Plaintext', 'no bytes', binary(Buffer.alloc(0))),
    refusal(PLAINTEXT, 'Plaintext', 'the text form, as bytes', binary(Buffer.from(bound.text))),
    refusal(PLAINTEXT, 'Plaintext', 'magic flipped', binary(flip(e, 0))),
    refusal(NO_HEAD, 'Truncated', 'magic alone', binary(e.subarray(0, 1))),
    refusal(NO_HEAD, 'Truncated', 'magic and version alone', binary(e.subarray(0, 2))),
    refusal(NEWER, 'Version', 'version 0', binary(set(e, [1, 0]))),
    refusal(NEWER, 'Version', 'version 2', binary(set(e, [1, 2]))),
    refusal(NEWER, 'Version', 'version 2 and nothing behind', binary(Buffer.of(0xf8, 2))),
    refusal(NEWER, 'Version', 'AEAD 0', binary(set(e, [2, 0x00]))),
    refusal(NEWER, 'Version', 'AEAD 2', binary(set(e, [2, 0x02]))),
    refusal(NEWER, 'Version', 'reserved key layout 2', binary(set(e, [2, 0x21]))),
    refusal(NEWER, 'Version', 'reserved key layout 3', binary(set(e, [2, 0x31]))),
    refusal(NEWER, 'Version', 'key layout 15', binary(set(e, [2, 0xf1]))),
    refusal(SHORT, 'Truncated', 'three bytes', binary(e.subarray(0, 3))),
    refusal(SHORT, 'Truncated', '111 bytes, one less than the shortest', binary(e.subarray(0, 111))),
    refusal(HEADER, 'UnknownFlag', 'wrap flag b1', binary(set(e, [15, 0x03]))),
    refusal(HEADER, 'UnknownFlag', 'wrap flag b7', binary(set(e, [15, 0x81]))),
    refusal(HEADER, 'UnknownFlag', 'value flag b1', binary(set(e, [16, 0x02]))),
    refusal(HEADER, 'UnknownFlag', 'value flag b7', binary(set(e, [16, 0x80]))),
    refusal(HEADER, 'UnknownTag', 'type tag 0', binary(set(e, [17, 0]))),
    refusal(HEADER, 'UnknownTag', 'type tag 10', binary(set(e, [17, 10]))),
    refusal(HEADER, 'UnknownTag', 'type tag 255', binary(set(e, [17, 255]))),
    refusal(LAYOUT, 'Layout', 'layout direct in a model of layout kek', binary(unhex(direct.envelope))),
    refusal(LAYOUT, 'Layout', 'an unbound value in a model that accepts none', binary(unhex(unbound.envelope))),
    refusal(
      LAYOUT,
      'Layout',
      'row-bound flag cleared, in a model that accepts no unbound value',
      binary(set(e, [15, 0])),
    ),
    refusal(TAG, 'WrongTag', 'a string in a field of bytes', binary(e), { type: 'bytes' }),
    refusal(TAG, 'WrongTag', 'the tag of another type than the field declares', binary(set(e, [17, 6]))),
    refusal(AUTHENTIC, 'WrongTag', 'a string relabelled as the former type of its field', binary(set(e, [17, 6])), {
      formerTypes: ['bytes'],
    }),
    refusal(LIMIT, 'TooLong', '12 bytes where maxBytes is 11', binary(e), { maxBytes: 11 }),
    refusal(LIMIT, 'TooLong', 'padded, n above maxBytes + 4 + 65,536', binary(longPadded()), { maxBytes: 1 }),
    refusal(KEY, 'UnknownKey', 'KEK id flipped', binary(flip(e, 3))),
    refusal(KEY, 'UnknownKey', 'KEK id flipped in its last byte', binary(flip(e, 14))),
    refusal(KEY, 'UnknownKey', 'a KEK that this reader does not have', binary(e), { keyId: '00'.repeat(12) }),
    refusal(AUTHENTIC, 'Altered', 'KEK id flipped, the key known under that id too', binary(flip(e, 3)), {
      keyId: hex(flip(e, 3).subarray(3, 15)),
    }),
    refusal(AUTHENTIC, 'WrongKey', 'another KEK under the same id', binary(e), { kek: otherKek }),
    refusal(AUTHENTIC, 'Altered', 'padded flag set', binary(set(e, [16, 1]))),
    ...[18, 23, 24, 35, 36, 67, 68, 83, 84, 95, 96, last - 16, last - 15, last].map((at) =>
      refusal(AUTHENTIC, 'Altered', `byte ${at} flipped: ${partAt(at, e.length)}`, binary(flip(e, at))),
    ),
    refusal(AUTHENTIC, 'Truncated', 'the last byte cut', binary(e.subarray(0, -1))),
    refusal(AUTHENTIC, 'Truncated', 'cut to 112 bytes', binary(e.subarray(0, 112))),
    refusal(
      AUTHENTIC,
      'Truncated',
      'the first byte of the ciphertext cut out',
      binary(Buffer.concat([e.subarray(0, 96), e.subarray(97)])),
    ),
    refusal(AUTHENTIC, 'Extended', 'a zero added', binary(Buffer.concat([e, Buffer.of(0)]))),
    refusal(AUTHENTIC, 'Extended', 'the envelope twice', binary(Buffer.concat([e, e]))),
    refusal(AUTHENTIC, 'Moved', 'read as another tenant that knows the KEK', binary(e), { tenant: 'clinic-8' }),
    refusal(AUTHENTIC, 'Moved', 'read in another keyspace', binary(e), { keyspace: 'class:payment' }),
    refusal(AUTHENTIC, 'Moved', 'read in another model', binary(e), { model: 'visits' }),
    refusal(AUTHENTIC, 'Moved', 'read in another column', binary(e), { field: 'other' }),
    refusal(AUTHENTIC, 'Moved', 'read below a map key', binary(e), { mapKeys: ['home'] }),
    refusal(AUTHENTIC, 'Moved', 'read in another row', binary(e), { rowId: otherRow }),
    refusal(AUTHENTIC, 'Moved', 'the wrap of another row write', binary(withWrapOf(e, 'bound'))),
    refusal(
      [2, 'ERR_ENVELOPE_VERSION'],
      'Order',
      'newer version, unknown flags and tag, cut',
      binary(set(e.subarray(0, 40), [1, 9], [15, 255], [17, 0])),
    ),
    refusal(HEADER, 'Order', 'unknown flag before unknown key', binary(set(flip(e, 3), [16, 4]))),
    refusal(LAYOUT, 'Order', 'a refused layout before a tag that is not declared', binary(set(e, [15, 0], [17, 6]))),
    refusal(TAG, 'Order', 'a tag that is not declared before a length above the limit', binary(set(e, [17, 6])), {
      maxBytes: 1,
    }),
    refusal(LIMIT, 'Order', 'a length above the limit before an unknown key', binary(flip(e, 3)), { maxBytes: 1 }),
  ]
}

const NULL_CELL = { form: 'null' as const, stored: null }

function partAt(at: number, length: number): string {
  if (at < 24) return 'wrap salt'
  if (at < 36) return 'wrap nonce'
  if (at < 68) return 'wrapped DEK'
  if (at < 84) return 'wrap tag'
  if (at < 96) return 'value nonce'
  return at < length - 16 ? 'ciphertext' : 'value tag'
}

/** Nothing of it authenticates: its length alone decides. */
function longPadded(): Buffer {
  const { envelope } = kekVector({ ...STRING, settings: { padToBytes: 16 } }, 'bound')
  return Buffer.concat([unhex(envelope).subarray(0, 112), Buffer.alloc(1 + 4 + 65_536 + 1)])
}

function withWrapOf(envelope: Buffer, mode: 'bound'): Buffer {
  const other = unhex(kekVector({ ...STRING, value: 'another row write', comment: 'another' }, mode).envelope)
  return Buffer.concat([envelope.subarray(0, 18), other.subarray(18, 84), envelope.subarray(84)])
}

function textCases(bound: EnvelopeVector): InvalidEnvelope[] {
  const body = bound.text.slice(3)
  const tail = tailBits()
  return [
    refusal(PLAINTEXT, 'Plaintext', 'user text', text('Ada Lovelace')),
    refusal(PLAINTEXT, 'Plaintext', 'the empty text', text('')),
    refusal(PLAINTEXT, 'Plaintext', 'no prefix', text(body)),
    refusal(PLAINTEXT, 'Plaintext', 'prefix in capitals', text(`FS.${body}`)),
    refusal(PLAINTEXT, 'Plaintext', 'white space before the prefix', text(` ${bound.text}`)),
    refusal(PLAINTEXT, 'Plaintext', 'prefix alone', text('fs.')),
    refusal(PLAINTEXT, 'Plaintext', 'user text behind the prefix, canonical base64url', text('fs.QWRh')),
    refusal(NOT_CANONICAL, 'NotCanonical', 'base64 padding', text(`${bound.text}=`)),
    refusal(NOT_CANONICAL, 'NotCanonical', '+ and / in place of - and _', text(standardAlphabet())),
    refusal(
      NOT_CANONICAL,
      'NotCanonical',
      'a character outside of the alphabet',
      text(`${bound.text.slice(0, 40)}*${bound.text.slice(40)}`),
    ),
    refusal(NOT_CANONICAL, 'NotCanonical', 'a line feed behind', text(`${bound.text}\n`)),
    refusal(
      NOT_CANONICAL,
      'NotCanonical',
      'a space within',
      text(`${bound.text.slice(0, 40)} ${bound.text.slice(40)}`),
    ),
    refusal(NOT_CANONICAL, 'NotCanonical', 'tail bits that are not zero', text(tail)),
    refusal(
      NOT_CANONICAL,
      'NotCanonical',
      'a length that no number of bytes has',
      text(`fs.${body.slice(0, body.length - (body.length % 4) + 1)}`),
    ),
    refusal(NOT_CANONICAL, ['NotCanonical', 'Order'], 'not canonical before not an envelope', text('fs.QWRh=')),
    refusal(
      AUTHENTIC,
      'Altered',
      'a character of the value changed',
      text(`${bound.text.slice(0, 140)}${bound.text[140] === 'A' ? 'B' : 'A'}${bound.text.slice(141)}`),
    ),
  ]
}

/** An envelope whose text ends in a character with spare bits; they are set. */
function tailBits(): string {
  const { text: plain, envelope } = kekVector({ ...STRING, value: 'Ada', comment: 'tail' }, 'bound')
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  if (unhex(envelope).length % 3 === 0) throw new Error('no spare bits')
  return `${plain.slice(0, -1)}${alphabet[alphabet.indexOf(plain.slice(-1)) + 1]}`
}

function standardAlphabet(): string {
  const plain = kekVector({ ...STRING, comment: 'alphabet' }, 'bound').text
  const changed = plain.slice(3).replaceAll('-', '+').replaceAll('_', '/')
  if (changed === plain.slice(3)) throw new Error('neither - nor _')
  return `fs.${changed}`
}

function unboundCases(bound: EnvelopeVector, unbound: EnvelopeVector): InvalidEnvelope[] {
  const rowId = bound.rowId ?? ''
  return [
    refusal(AUTHENTIC, 'Moved', 'bound, its flag cleared', binary(set(unhex(bound.envelope), [15, 0])), { rowId }),
    refusal(AUTHENTIC, 'Moved', 'unbound, its flag set', binary(set(unhex(unbound.envelope), [15, 1])), { rowId }),
    refusal(AUTHENTIC, 'Moved', 'an unbound value read as another tenant', binary(unhex(unbound.envelope)), {
      tenant: 'clinic-8',
    }),
    refusal(AUTHENTIC, 'Moved', 'an unbound value read in another column', binary(unhex(unbound.envelope)), {
      field: 'other',
    }),
  ]
}

/** Values that authenticate but are not what an encoder writes. */
function undecodable(bound: EnvelopeVector): InvalidEnvelope[] {
  const ascii = (value: string) => hex(Buffer.from(value))
  const cases: readonly (readonly [Flag, string, string, number, number, string, Partial<Reader>?])[] = [
    ['NotCanonical', 'invalid UTF-8', 'string', 1, 0, 'ff'],
    ['NotCanonical', 'UTF-8 of a lone surrogate', 'string', 1, 0, 'eda080'],
    ['NotCanonical', 'overlong UTF-8', 'string', 1, 0, 'c080'],
    ['NotCanonical', 'NaN with another payload', 'number', 2, 0, '7ff8000000000001'],
    ['NotCanonical', 'NaN with a sign', 'number', 2, 0, 'fff8000000000000'],
    ['NotCanonical', 'a signalling NaN', 'number', 2, 0, '7ff0000000000001'],
    ['NotCanonical', 'a number of seven bytes', 'number', 2, 0, '00000000000000'],
    ['NotCanonical', 'a number of nine bytes', 'number', 2, 0, '000000000000000000'],
    ['NotCanonical', 'a boolean of 2', 'boolean', 3, 0, '02'],
    ['NotCanonical', 'a boolean of no bytes', 'boolean', 3, 0, ''],
    ['NotCanonical', 'a boolean of two bytes', 'boolean', 3, 0, '0001'],
    ['NotCanonical', 'a bigint of no bytes', 'bigint', 4, 0, ''],
    ['NotCanonical', 'a bigint with a zero too many', 'bigint', 4, 0, '0001'],
    ['NotCanonical', 'bigint 0 in two bytes', 'bigint', 4, 0, '0000'],
    ['NotCanonical', 'a negative bigint with ff too many', 'bigint', 4, 0, 'ff80'],
    ['NotCanonical', 'an instant after the last', 'date', 5, 0, '001eb208c2dc0001'],
    ['NotCanonical', 'an instant before the first', 'date', 5, 0, 'ffe14df73d23ffff'],
    ['NotCanonical', 'an instant of four bytes', 'date', 5, 0, '00000000'],
    ['NotCanonical', 'json with white space', 'json', 7, 0, ascii('{"a": 1}')],
    ['NotCanonical', 'json with a duplicate key', 'json', 7, 0, ascii('{"a":1,"a":1}')],
    ['NotCanonical', 'json in another order', 'json', 7, 0, ascii('{"b":1,"a":1}')],
    ['NotCanonical', 'json sorted by UTF-8 in place of UTF-16', 'json', 7, 0, ascii('{"\ufffd":1,"😀":2}')],
    ['NotCanonical', 'json with another number form', 'json', 7, 0, ascii('1.0')],
    ['NotCanonical', 'json with -0', 'json', 7, 0, ascii('-0')],
    ['NotCanonical', 'json with a number beyond binary64', 'json', 7, 0, ascii('1e400')],
    ['NotCanonical', 'json with an escape that is not needed', 'json', 7, 0, ascii('"\\u0041"')],
    ['NotCanonical', 'json with an escaped lone surrogate', 'json', 7, 0, ascii('"\\ud800"')],
    ['NotCanonical', 'json with a BOM', 'json', 7, 0, `efbbbf${ascii('1')}`],
    ['NotCanonical', 'json of no bytes', 'json', 7, 0, ''],
    ['NotCanonical', 'json of invalid UTF-8', 'json', 7, 0, '22ff22'],
    ['NotCanonical', 'json 513 arrays deep with a value', 'json', 7, 0, ascii(`${'['.repeat(513)}1${']'.repeat(513)}`)],
    ['NotCanonical', 'a day that does not exist', 'day', 9, 0, ascii('1900-02-29')],
    ['NotCanonical', 'day 0 of a month', 'day', 9, 0, ascii('2024-01-00')],
    ['NotCanonical', 'month 13', 'day', 9, 0, ascii('2024-13-01')],
    ['NotCanonical', 'year 0', 'day', 9, 0, ascii('0000-01-01')],
    ['NotCanonical', 'a year of five digits', 'day', 9, 0, ascii('10000-01-01')],
    ['NotCanonical', 'a day with a time', 'day', 9, 0, ascii('2024-01-01T00:00:00Z')],
    ['Padding', 'padding without a byte behind the length', 'string', 1, 1, '00000000'],
    ['Padding', 'padding of three bytes', 'string', 1, 1, '000000'],
    ['Padding', 'a true length longer than what follows', 'string', 1, 1, '0000000261'],
    ['Padding', 'padding that is not zero', 'string', 1, 1, '000000016101'],
    ['Padding', 'padding that is not zero in its last byte', 'string', 1, 1, '000000016100000001'],
    ['Null', 'an encrypted null where nulls are not encrypted', 'string', 1, 1, 'ffffffff00'],
    [
      'Padding',
      'an encrypted null with a byte that is not zero',
      'string',
      1,
      1,
      'ffffffff0001',
      { encryptNull: true },
    ],
    ['TooLong', 'padded, a true length above maxBytes', 'string', 1, 1, '0000000261610000', { maxBytes: 1 }],
    ['NotCanonical', 'padded, and not canonical within', 'bigint', 4, 1, '0000000200010000'],
  ]
  return cases.map(([flag, reason, type, tag, flags, plaintext, reader]) => {
    const stored = sealed(bound, tag, flags, unhex(plaintext), reason)
    return refusal(DECODED, flag, reason, binary(stored), { type, ...reader })
  })
}

function sealed(bound: EnvelopeVector, typeTag: number, valueFlags: number, plaintext: Buffer, seed: string): Envelope {
  const salt = unhex(bound.salt ?? '')
  const key = expandKey(createSecretKey(unhex(bound.kek ?? '')), LABELS.wrap, salt)
  const frame = createWrapFrame(key, kekHeader(unhex(bound.keyId), true), salt, bound)
  const aad = valueAad(valueFlags, typeTag, bound.model, bound.field, [])
  const row = { frame, rowId: unhex(bound.rowId ?? ''), values: [{ plaintext, valueFlags, typeTag, aad }] }
  const [[envelope] = []] = sealRows([row], nodeEngine, scriptedRandom(`invalid ${seed}`))
  if (envelope === undefined) throw new Error('nothing was sealed')
  return envelope
}

function directCases(direct: EnvelopeVector, bound: EnvelopeVector): InvalidEnvelope[] {
  const e = unhex(direct.envelope)
  const blobAt = 53 + Buffer.byteLength(direct.label ?? '')
  const valueAt = blobAt + unhex(direct.blob ?? '').length
  const other = unhex(directVector({ ...STRING, comment: 'another row write' }).envelope)
  const shifted = set(e, [50, (e[50] ?? 0) + 1], [52, (e[52] ?? 0) - 1])
  return [
    refusal(SHORT, 'Truncated', 'direct: 81 bytes, one less than the shortest', binary(e.subarray(0, 81))),
    refusal(HEADER, 'UnknownFlag', 'direct: not row-bound', binary(set(e, [15, 0]))),
    refusal(HEADER, 'UnknownFlag', 'direct: wrap flag b1', binary(set(e, [15, 3]))),
    refusal(LENGTHS, 'BadLength', 'direct: a label of 65 bytes', binary(set(e, [50, 65]))),
    refusal(LENGTHS, 'BadLength', 'direct: no blob', binary(set(e, [51, 0], [52, 0]))),
    refusal(
      LENGTHS,
      'BadLength',
      'direct: a blob of 6,145 bytes',
      binary(set(Buffer.concat([e, Buffer.alloc(6_145)]), [51, 0x18], [52, 0x01])),
    ),
    refusal(LENGTHS, 'BadLength', 'direct: a blob that ends behind the envelope', binary(set(e, [51, 0x10]))),
    refusal(LENGTHS, 'Truncated', 'direct: cut to 27 bytes of value part', binary(e.subarray(0, valueAt + 27))),
    refusal(LAYOUT, 'Layout', 'layout kek in a model of layout direct', binary(unhex(bound.envelope))),
    refusal(KEY, 'UnknownKey', 'direct: record id flipped', binary(flip(e, 3))),
    refusal(AUTHENTIC, 'Altered', 'direct: record id flipped, the DEK known under that id too', binary(flip(e, 3)), {
      keyId: hex(flip(DIRECT_ID, 0)),
    }),
    refusal(AUTHENTIC, 'Altered', 'direct: first byte of the commitment flipped', binary(flip(e, 18))),
    refusal(AUTHENTIC, 'Altered', 'direct: last byte of the commitment flipped', binary(flip(e, 49))),
    refusal(AUTHENTIC, 'WrongKey', 'direct: another DEK', binary(e), { dek: 'ff'.repeat(32) }),
    refusal(
      AUTHENTIC,
      'WrongKey',
      'direct: another DEK under which the value authenticates',
      binary(withoutCommitment(direct)),
      {
        dek: 'ee'.repeat(32),
      },
    ),
    refusal(AUTHENTIC, 'Altered', 'direct: padded flag set', binary(set(e, [16, 1]))),
    refusal(
      AUTHENTIC,
      'Altered',
      'direct: label one byte longer, blob one byte shorter, and the value flipped',
      binary(flip(shifted, e.length - 1)),
    ),
    refusal(AUTHENTIC, 'Altered', 'direct: value nonce flipped', binary(flip(e, valueAt))),
    refusal(AUTHENTIC, 'Altered', 'direct: ciphertext flipped', binary(flip(e, valueAt + 12))),
    refusal(AUTHENTIC, 'Altered', 'direct: value tag flipped', binary(flip(e, e.length - 1))),
    refusal(AUTHENTIC, 'Truncated', 'direct: the last byte cut', binary(e.subarray(0, -1))),
    refusal(AUTHENTIC, 'Extended', 'direct: a zero added', binary(Buffer.concat([e, Buffer.of(0)]))),
    refusal(AUTHENTIC, 'Moved', 'direct: read in another column', binary(e), { field: 'other' }),
    refusal(AUTHENTIC, 'Moved', 'direct: read in another model', binary(e), { model: 'visits' }),
    refusal(
      AUTHENTIC,
      'Moved',
      'direct: commitment of another row write',
      binary(Buffer.concat([e.subarray(0, 18), other.subarray(18, 50), e.subarray(50)])),
    ),
    refusal(
      NOT_CANONICAL,
      'NotCanonical',
      'direct: text form with padding',
      text(`${envelopeToText(e as Uint8Array as Envelope)}=`),
    ),
  ]
}

/** AES-GCM alone would open it: only the commitment tells that the DEK is another one. */
function withoutCommitment(direct: EnvelopeVector): Buffer {
  const aad = valueAad(0, 1, direct.model, direct.field, [])
  const value = { plaintext: Buffer.from('Ada Lovelace'), valueFlags: 0, typeTag: 1, aad }
  const key = createSecretKey(Buffer.from('ee'.repeat(32), 'hex'))
  const chosen = { key, recordId: DIRECT_ID, label: direct.label ?? '', blob: unhex(direct.blob ?? '') }
  const made = sealDirect(chosen, value, nodeEngine, scriptedRandom('without commitment'))
  return Buffer.concat([made.subarray(0, 18), unhex(direct.envelope).subarray(18, 50), made.subarray(50)])
}
