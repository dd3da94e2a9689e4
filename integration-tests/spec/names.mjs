// "Names", "Row id" and "Encryption context" of docs/spec/envelope-v1.md.
import { lp, refuse, u8, utf8 } from './primitives.mjs'

const NAME = '[a-z0-9][a-z0-9_.-]{0,63}'
const KEYSPACE = new RegExp(`^(?:default|class:${NAME}|subject:${NAME}:([^]+))$`, 'u')

function isText(text) {
  return typeof text === 'string' && text.isWellFormed()
}

export function isTenant(text) {
  if (!isText(text) || text.startsWith('$') || /\p{Cc}/u.test(text) || text.normalize('NFC') !== text) return false
  const { length } = utf8(text)
  return length >= 1 && length <= 256
}

export function isKeyspace(text) {
  const match = isText(text) ? KEYSPACE.exec(text) : null
  return match !== null && (match[1] === undefined || utf8(match[1]).length <= 256)
}

/** `path`: names, and { level: 'map' } or { level: 'array' }. */
export function fieldIdOf(path) {
  return path
    .map((step) => {
      if (typeof step === 'object') return step.level === 'map' ? '$*' : '$'
      return step.replaceAll('~', '~0').replaceAll('.', '~1').replace(/^\$/, '~2')
    })
    .join('.')
}

const KEY_KINDS = {
  integer: (value) => {
    const isNumber = typeof value === 'number' && Number.isSafeInteger(value)
    const text = isNumber || typeof value === 'bigint' ? String(value) : value
    if (typeof text !== 'string' || !/^(?:0|-?[1-9][0-9]*)$/.test(text)) noRowId()
    return { code: 1, bytes: utf8(text), readable: `int:${text}` }
  },
  uuid: (value) => {
    if (typeof value !== 'string' || !/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) noRowId()
    const text = value.toLowerCase()
    return { code: 2, bytes: Buffer.from(text.replaceAll('-', ''), 'hex'), readable: `uuid:${text}` }
  },
  objectid: (value) => {
    if (typeof value !== 'string' || !/^[0-9a-f]{24}$/i.test(value)) noRowId()
    const text = value.toLowerCase()
    return { code: 3, bytes: Buffer.from(text, 'hex'), readable: `oid:${text}` }
  },
  string: (value) => {
    if (!isText(value)) noRowId()
    return { code: 4, bytes: utf8(value), readable: undefined }
  },
}

function noRowId() {
  refuse('malformed', 'a key without canonical form')
}

/** `columns`: { field, kind, value } per key column, in any order. */
function canonicalKey(columns) {
  const sorted = columns.toSorted((a, b) => Buffer.compare(utf8(a.field), utf8(b.field)))
  return sorted.map(({ kind, value }) => KEY_KINDS[kind](value))
}

export function rowIdOf(columns) {
  return lp(...canonicalKey(columns).map(({ code, bytes }) => lp(u8(code), bytes)))
}

/** The pair `row` of a context in layout direct. */
export function kmsRowOf(columns) {
  const parts = canonicalKey(columns).map(({ readable }) => readable)
  if (parts.includes(undefined)) refuse('ERR_KMS_CONTEXT_INVALID', 'a key of kind string')
  return parts.join(',')
}

const MAX_PAIRS = 8

export function checkContext(context) {
  const pairs = Object.entries(context)
  const total = pairs.reduce((sum, [key, value]) => sum + utf8(key).length + utf8(value).length, 0)
  if (pairs.length > MAX_PAIRS || total > 2_048) refuse('ERR_KMS_CONTEXT_INVALID', 'too long')
  for (const [key, value] of pairs) {
    const { length } = utf8(value)
    const isPlain = !/\p{Cc}/u.test(value) && value.normalize('NFC') === value
    if (!/^[a-z0-9_.-]{1,64}$/.test(key) || length < 1 || length > 256 || !isPlain) {
      refuse('ERR_KMS_CONTEXT_INVALID', key)
    }
  }
}

/** A KMS that takes bytes gets the encryption context so. */
export function contextBytes(context) {
  const pairs = Object.entries(context).toSorted(([a], [b]) => Buffer.compare(utf8(a), utf8(b)))
  return lp(...pairs.flat())
}
