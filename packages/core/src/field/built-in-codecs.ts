import { fromUtf8, utf8 } from '../bytes/utf8.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { ValueCodec } from './codec.ts'
import { canonicalJson, parseCanonicalJson } from './json.ts'

const MAX_DATE_MS = 8.64e15
const NAN_BYTES = Buffer.from('7ff8000000000000', 'hex')

const string = codec('string', 1, {
  encode: (value) => utf8(expectType(value, 'string')),
  decode: fromUtf8,
  compareKey: (value) => wellFormed(expectType(value, 'string')),
})

/** binary64, big-endian. NaN has one form; -0 is kept. */
const number = codec('number', 2, {
  encode(value) {
    const bytes = Buffer.allocUnsafeSlow(8)
    const checked = expectType(value, 'number')
    if (Number.isNaN(checked)) bytes.set(NAN_BYTES)
    else bytes.writeDoubleBE(checked)
    return bytes
  },
  decode(bytes) {
    const value = view(expectLength(bytes, 8)).getFloat64(0)
    if (Number.isNaN(value) && Buffer.compare(bytes, NAN_BYTES) !== 0) throw undecodable()
    return value
  },
  compareKey: (value) => (Object.is(value, -0) ? '-0' : String(expectType(value, 'number'))),
})

const boolean = codec('boolean', 3, {
  encode: (value) => Uint8Array.of(expectType(value, 'boolean') ? 1 : 0),
  decode(bytes) {
    const byte = expectLength(bytes, 1)[0]
    if (byte !== 0 && byte !== 1) throw undecodable()
    return byte === 1
  },
  compareKey: (value) => String(expectType(value, 'boolean')),
})

/** Minimal two's complement, big-endian; 0 is 00. */
const bigint = codec('bigint', 4, {
  encode: (value) => twosComplement(expectType(value, 'bigint')),
  decode(bytes) {
    if (bytes.length === 0) throw undecodable()
    const value = BigInt.asIntN(bytes.length * 8, BigInt(`0x${Buffer.from(bytes).toString('hex')}`))
    if (twosComplement(value).length !== bytes.length) throw undecodable()
    return value
  },
  compareKey: (value) => String(expectType(value, 'bigint')),
})

/** An instant: i64 milliseconds since the epoch, within ±8.64e15. */
const date = codec('date', 5, {
  encode(value) {
    const bytes = Buffer.allocUnsafeSlow(8)
    bytes.writeBigInt64BE(BigInt(expectDate(value)))
    return bytes
  },
  decode(bytes) {
    const ms = Number(view(expectLength(bytes, 8)).getBigInt64(0))
    if (Math.abs(ms) > MAX_DATE_MS) throw undecodable()
    return new Date(ms)
  },
  compareKey: (value) => String(expectDate(value)),
})

const bytes = codec('bytes', 6, {
  encode: expectBytes,
  decode: (stored) => stored,
  compareKey: (value) => Buffer.from(expectBytes(value)).toString('base64'),
})

const json = codec('json', 7, {
  encode: (value) => utf8(canonicalJson(value)),
  decode: (stored) => parseCanonicalJson(fromUtf8(stored)),
  compareKey: canonicalJson,
})

/** A Gregorian calendar day without a zone: ASCII `YYYY-MM-DD`, 0001–9999. */
const day = codec('day', 9, {
  encode: (value) => Buffer.from(expectDay(value), 'ascii'),
  decode(stored) {
    const text = Buffer.from(stored).toString('latin1')
    if (!isDay(text)) throw undecodable()
    return text
  },
  compareKey: expectDay,
})

/** The value codecs of core. Tag 8 (bson) comes with the adapter that needs it. */
export const BUILT_IN_CODECS: readonly ValueCodec[] = [string, number, boolean, bigint, date, bytes, json, day]

function codec(type: string, tag: number, functions: Pick<ValueCodec, 'encode' | 'decode' | 'compareKey'>): ValueCodec {
  return { type, tag, ...functions }
}

interface Primitives {
  readonly string: string
  readonly number: number
  readonly boolean: boolean
  readonly bigint: bigint
}

function expectType<T extends keyof Primitives>(value: unknown, type: T): Primitives[T] {
  if (typeof value !== type) throw invalid(`expected a ${type}, got ${nameOf(value)}`)
  return value as Primitives[T] // typeof was just compared
}

function expectDate(value: unknown): number {
  const ms = value instanceof Date ? value.getTime() : Number.NaN
  if (!Number.isInteger(ms)) throw invalid(`expected a valid Date, got ${nameOf(value)}`)
  return ms
}

function expectBytes(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw invalid(`expected a Uint8Array, got ${nameOf(value)}`)
  return value
}

function expectDay(value: unknown): string {
  if (typeof value !== 'string' || !isDay(value))
    throw invalid(`expected a calendar day as 'YYYY-MM-DD', got ${nameOf(value)}`)
  return value
}

function isDay(text: string): boolean {
  const match = /^(\d{4})-(\d\d)-(\d\d)$/.exec(text)
  if (match === null) return false
  const [year, month, dayOfMonth] = [Number(match[1]), Number(match[2]), Number(match[3])]
  const february = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  const longest = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] ?? 0
  return year > 0 && dayOfMonth > 0 && dayOfMonth <= longest
}

function twosComplement(value: bigint): Buffer {
  const magnitude = value < 0n ? -value - 1n : value
  const length = Math.floor(magnitude === 0n ? 0 : bitLength(magnitude) / 8) + 1
  const hex = BigInt.asUintN(length * 8, value).toString(16)
  return Buffer.from(hex.padStart(length * 2, '0'), 'hex')
}

function bitLength(positive: bigint): number {
  const hex = positive.toString(16)
  return (hex.length - 1) * 4 + (32 - Math.clz32(Number.parseInt(hex.charAt(0), 16)))
}

function wellFormed(text: string): string {
  if (!text.isWellFormed()) throw invalid('a string holds a lone surrogate')
  return text
}

function expectLength(stored: Uint8Array, length: number): Uint8Array {
  if (stored.length !== length) throw undecodable()
  return stored
}

function view(stored: Uint8Array): DataView {
  return new DataView(stored.buffer, stored.byteOffset, stored.byteLength)
}

function nameOf(value: unknown): string {
  return value === null ? 'null' : typeof value === 'object' ? 'an object of another kind' : `a ${typeof value}`
}

function invalid(reason: string): FieldsealError {
  return new FieldsealError('ERR_VALUE_INVALID', { reason })
}

function undecodable(): FieldsealError {
  return new FieldsealError('ERR_DECRYPT_FAILED')
}
