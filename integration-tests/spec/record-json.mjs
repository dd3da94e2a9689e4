// The JSON of records, of docs/spec/envelope-v1.md: every member of its type and range, unknown ones ignored.
import { isHexId, refuse } from './primitives.mjs'

const STATES = ['active', 'decrypt-only', 'retired', 'pending-destruction', 'destroyed']
const DENIALS = STATES.slice(2)

const id = isHexId
const text = textOfAtMost(4_096)
const flag = (value) => typeof value === 'boolean'
const time = wholeNumber(0)
const count = wholeNumber(1)
const mac = bytes(32, 32)
const denial = optional(oneOf(DENIALS))

const WRAP = {
  provider: text,
  uri: text,
  blob: bytes(1, 6_144),
  keyVersion: optional(textOfAtMost(64)),
  versionEvidence: oneOf(['reported', 'requested', 'parsed', 'unknown']),
  wrappedAt: time,
}
const MEMBERS = {
  kek: {
    id,
    app: text,
    tenant: text,
    keyspace: text,
    purpose: oneOf(['wrap', 'index']),
    version: wholeNumber(1, 2 ** 32 - 1),
    revision: count,
    state: oneOf(STATES),
    createdAt: time,
    notAfter: optional(time),
    destroyAt: optional(time),
    parent: optional(id),
    compromised: flag,
    mac,
    wraps: (value) => Array.isArray(value) && value.length <= 16 && value.every((wrap) => has(wrap, WRAP)),
    denial,
    rowVersion: count,
  },
  index: {
    id,
    app: text,
    tenant: text,
    model: text,
    index: text,
    epoch: wholeNumber(1, 255),
    kekId: id,
    normalizer: text,
    bits: wholeNumber(16, 256),
    role: oneOf(['current', 'next', 'old']),
    revision: count,
    mac,
    rowVersion: count,
  },
  direct: {
    id,
    app: text,
    tenant: text,
    keyspace: text,
    provider: text,
    uri: text,
    createdAt: time,
    denial,
    rowVersion: count,
  },
}

export function readRecord(json) {
  let record
  try {
    record = JSON.parse(json)
  } catch {
    refuse('ERR_KEY_RECORD_INVALID', 'not JSON')
  }
  const known = isObject(record) && typeof record.kind === 'string' && Object.hasOwn(MEMBERS, record.kind)
  if (!known || !has(record, MEMBERS[record.kind])) refuse('ERR_KEY_RECORD_INVALID', 'a member')
  return record
}

function has(object, members) {
  return isObject(object) && Object.entries(members).every(([name, holds]) => holds(own(object, name)))
}

function own(object, name) {
  return Object.hasOwn(object, name) ? object[name] : undefined
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function textOfAtMost(most) {
  return (value) =>
    typeof value === 'string' && value !== '' && value.isWellFormed() && Buffer.byteLength(value) <= most
}

function wholeNumber(least, most = Number.MAX_SAFE_INTEGER) {
  return (value) => Number.isSafeInteger(value) && value >= least && value <= most
}

function oneOf(words) {
  return (value) => words.includes(value)
}

function optional(holds) {
  return (value) => value === undefined || holds(value)
}

function bytes(least, most) {
  return (value) => {
    if (typeof value !== 'string') return false
    const decoded = Buffer.from(value, 'base64url')
    return decoded.toString('base64url') === value && decoded.length >= least && decoded.length <= most
  }
}
