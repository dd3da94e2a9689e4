// "Type tags" of docs/spec/envelope-v1.md: plaintexts to values. Whatever is not canonical is refused with class `decrypt`.
import { decodeBson } from './bson.mjs'
import { refuse, textOf } from './primitives.mjs'

export const TAGS = [undefined, 'string', 'number', 'boolean', 'bigint', 'date', 'bytes', 'json', 'bson', 'day']

const DECODERS = {
  string: (bytes) => textOf(bytes),
  number: (bytes) => {
    const value = sized(bytes, 8).readDoubleBE()
    if (Number.isNaN(value) && bytes.toString('hex') !== '7ff8000000000000') refuse('decrypt', 'another NaN')
    return value
  },
  boolean: (bytes) => {
    if (sized(bytes, 1)[0] > 1) refuse('decrypt', 'not a boolean')
    return bytes[0] === 1
  },
  bigint: (bytes) => {
    if (bytes.length === 0) refuse('decrypt', 'an empty bigint')
    const [first, second] = bytes
    const spare = (first === 0 && second < 0x80) || (first === 0xff && second >= 0x80)
    if (bytes.length > 1 && spare) refuse('decrypt', 'not minimal')
    return BigInt.asIntN(bytes.length * 8, BigInt(`0x${bytes.toString('hex')}`))
  },
  date: (bytes) => {
    const value = sized(bytes, 8).readBigInt64BE()
    if (value > 8_640_000_000_000_000n || value < -8_640_000_000_000_000n) refuse('decrypt', 'not an instant')
    return new Date(Number(value))
  },
  bytes: (bytes) => bytes,
  json: (bytes) => {
    const text = textOf(bytes)
    let value
    try {
      value = JSON.parse(text)
    } catch {
      refuse('decrypt', 'not JSON')
    }
    if (canonicalJson(value) !== text) refuse('decrypt', 'not canonical JSON')
    return value
  },
  bson: (bytes) => {
    const document = decodeBson(bytes)
    if (Object.keys(document).join() !== 'v') refuse('decrypt', 'not { v }')
    return document.v
  },
  day: (bytes) => {
    const text = bytes.toString('latin1')
    const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text)
    if (match === null || match[1] === '0000') refuse('decrypt', 'not a day')
    const day = new Date(`${text}T00:00:00Z`)
    if (Number.isNaN(day.getTime()) || day.toISOString().slice(0, 10) !== text) refuse('decrypt', 'not a day')
    return text
  },
}

export function decodeValue(tag, bytes) {
  return DECODERS[TAGS[tag]](bytes)
}

/** The encoding within, or null. */
export function unpad(plaintext) {
  if (plaintext.length < 5) refuse('decrypt', 'nothing behind the length')
  const length = plaintext.readUInt32BE()
  const rest = plaintext.subarray(4)
  const isNull = length === 0xffff_ffff
  if (!isNull && length > rest.length) refuse('decrypt', 'the length does not fit')
  if (rest.subarray(isNull ? 0 : length).some((byte) => byte !== 0)) refuse('decrypt', 'not zeros')
  return isNull ? null : rest.subarray(0, length)
}

function sized(bytes, length) {
  if (bytes.length !== length) refuse('decrypt', `not ${length} bytes`)
  return bytes
}

/** RFC 8785: keys by UTF-16 code units, which is how JavaScript compares; numbers and strings as JSON.stringify has them. */
function canonicalJson(value, depth = 0) {
  if (depth > 512) refuse('decrypt', 'too deep')
  if (typeof value === 'string' && !value.isWellFormed()) refuse('decrypt', 'lone surrogate')
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item, depth + 1)).join(',')}]`
  const pairs = Object.keys(value).toSorted(byCodeUnits)
  return `{${pairs.map((key) => `${canonicalJson(key)}:${canonicalJson(value[key], depth + 1)}`).join(',')}}`
}

function byCodeUnits(a, b) {
  if (a === b) return 0
  return a < b ? -1 : 1
}
