// "KEK records", "Blind indexes", "Normalisers" and "kms-local" of docs/spec/envelope-v1.md.
import {
  expand,
  fromBase64url,
  fromHexId,
  hmac,
  i64,
  lp,
  openGcm,
  refuse,
  same,
  u16,
  u32,
  u64,
  u8,
  utf8,
} from './primitives.mjs'

const NONE = Buffer.alloc(0)

/** A KMS that takes bytes gets the encryption context so. */
export function contextBytes(context) {
  const pairs = Object.entries(context).toSorted(([a], [b]) => Buffer.compare(utf8(a), utf8(b)))
  return lp(...pairs.flat())
}

/** `anyState`: also by a CMK that is not enabled, for a look at what is stored. */
export function unwrapLocalBlob(keyFile, uri, blob, context, { anyState = false } = {}) {
  const prefix = `local:${keyFile.id}/`
  const cmk = uri.startsWith(prefix) ? keyFile.cmks[uri.slice(prefix.length)] : undefined
  if (cmk === undefined) refuse('key', `no ${uri} in the key file`)
  if (cmk.state !== 'enabled' && !anyState) refuse('key', `${uri} is ${cmk.state}`)
  if (blob.length !== 65 || blob[0] !== 1) refuse('key', 'not a blob of kms-local')
  const version = blob.readUInt32BE(1)
  const found = cmk.versions?.find((one) => one.version === version)
  if (found === undefined) refuse('key', `no version ${version} of ${uri}`)
  const aad = contextBytes({ ...context, 'local.uri': uri, 'local.version': String(version) })
  return openGcm(fromBase64url(found.key), blob.subarray(5, 17), aad, blob.subarray(17))
}

/** MAC of a KEK record; app, tenant and keyspace are what the reader expects, not what the record says. */
export function kekRecordMac(kek, record, expected) {
  const instant = (value) => (value === undefined ? NONE : i64(value))
  const facts = [
    fromHexId(record.id),
    'kek',
    expected.app,
    expected.tenant,
    expected.keyspace,
    record.purpose,
    u32(record.version),
    u64(record.revision),
    record.state,
    instant(record.createdAt),
    instant(record.notAfter),
    instant(record.destroyAt),
    record.parent === undefined ? NONE : fromHexId(record.parent),
    u8(record.compromised ? 1 : 0),
  ]
  return hmac(expand(kek, lp('fieldseal/1/record')), lp(...facts))
}

/**
 * Opens a KEK from its record. `expected`: { app, tenant, keyspace }; `parentOf(id)` gives the KEK of a parent; `anyState`
 * opens also what is not readable.
 */
export function openKek(record, expected, keyFile, { parentOf = () => undefined, anyState = false } = {}) {
  const readable = ['active', 'decrypt-only'].includes(record.state) && record.denial === undefined
  if (record.kind !== 'kek' || !(readable || anyState)) refuse('key', `record ${record.id} is not readable`)
  const kek = unwrapKek(record, expected, keyFile, parentOf, anyState)
  if (!same(kekRecordMac(kek, record, expected), fromBase64url(record.mac))) refuse('key', `MAC of record ${record.id}`)
  return kek
}

function unwrapKek(record, expected, keyFile, parentOf, anyState) {
  const { app, tenant, keyspace } = expected
  const { purpose } = record
  if (record.parent !== undefined) {
    const wrap = record.wraps.find((one) => one.provider === 'kek' && one.uri === record.parent)
    const parent = parentOf(record.parent)
    if (wrap === undefined || parent === undefined) refuse('key', `no parent of record ${record.id}`)
    const blob = fromBase64url(wrap.blob)
    if (blob.length !== 66) refuse('key', 'not a blob of a parent')
    const [id, parentId] = [fromHexId(record.id), fromHexId(record.parent)]
    const aad = lp('fieldseal/1/kek-wrap-aad', id, parentId, app, tenant, keyspace, purpose, u32(record.version))
    const salt = blob.subarray(0, 6)
    return openGcm(expand(parent, lp('fieldseal/1/kek-wrap', salt)), blob.subarray(6, 18), aad, blob.subarray(18))
  }
  const own = record.wraps.find((one) => one.provider === 'local' && one.uri.startsWith(`local:${keyFile.id}/`))
  if (own === undefined) refuse('key', `no wrap of record ${record.id} by this key file`)
  const context = { app, fieldseal: '1', tenant, keyspace, purpose, kek: record.id }
  return unwrapLocalBlob(keyFile, own.uri, fromBase64url(own.blob), context, { anyState })
}

export function indexRecordMac(indexKek, record, expected) {
  const facts = [
    expected.tenant,
    expected.model,
    expected.index,
    u8(record.epoch),
    fromHexId(record.kekId),
    record.normalizer,
    u16(record.bits),
    record.role,
    fromHexId(record.id),
    'index',
    expected.app,
    u64(record.revision),
  ]
  return hmac(expand(indexKek, lp('fieldseal/1/index-record')), lp(...facts))
}

export function indexKeyOf(indexKek, { model, index, epoch, normaliser, bits }) {
  return expand(indexKek, lp('fieldseal/1/index', model, index, u8(epoch), normaliser, u16(bits)))
}

/** `components`: { tag, bytes } with normalised bytes, null for a null. No token if any is null. */
export function tokenOf(indexKey, epoch, bits, components) {
  if (components.includes(null)) return null
  const mac = hmac(indexKey, lp(...components.map(({ tag, bytes }) => lp(u8(tag), bytes))))
  return Buffer.concat([u8(epoch), mac.subarray(0, bits / 8)])
}

const SPACE = '[\\u0009-\\u000d\\u0020\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+'
const AROUND = new RegExp(`^${SPACE}|${SPACE}$`, 'gu')

function assigned(text) {
  if (!text.isWellFormed() || /\p{Cn}/u.test(text)) refuse('malformed', 'a code point without assignment')
  return text
}

function trim(text) {
  return text.replace(AROUND, '')
}

/** Code point by code point, so that no condition (final sigma) applies. */
function lower(text) {
  return Array.from(trim(text).normalize('NFKC'), (one) => one.toLowerCase())
    .join('')
    .normalize('NFKC')
}

function digits(text) {
  const trimmed = trim(text.normalize('NFKC'))
  const kept = trimmed.replace(/[^0-9]/g, '')
  if (/\p{Nd}/u.test(trimmed.replace(/[0-9]/g, ''))) refuse('malformed', 'a digit that is not ASCII')
  if (trimmed !== '' && kept === '') refuse('malformed', 'no digit')
  return trimmed.startsWith('+') ? `+${kept}` : kept
}

export const NORMALISERS = {
  'none@1': (text) => text,
  'trim@1': (text) => trim(assigned(text)),
  'lower@1': (text) => lower(assigned(text)),
  'email@1': (text) => lower(assigned(text)),
  'digits@1': (text) => digits(assigned(text)),
}
