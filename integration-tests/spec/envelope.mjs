// "Envelope", "Wrap of the DEK", "Value", "Commitment" and "Row id" of docs/spec/envelope-v1.md.
import { expand, fromBase64url, hmac, lp, openGcm, refuse, same, sha256, u8, utf8 } from './primitives.mjs'
import { decodeValue, TAGS, unpad } from './values.mjs'

const DEFAULT_LIMIT = 1_048_576

/** Steps 1 to 5 of the order of refusal. `input`: text or bytes. */
export function parseEnvelope(input) {
  let bytes = input
  if (typeof input === 'string') {
    if (!input.startsWith('fs.')) refuse('plaintext', 'no fs.')
    bytes = fromBase64url(input.slice(3))
  }
  bytes = Buffer.from(bytes)
  if (bytes[0] !== 0xf8) refuse('plaintext', 'no magic')
  if (bytes.length < 2) refuse('malformed', 'no version')
  if (bytes[1] !== 1) refuse('version', `format version ${bytes[1]}`)
  if (bytes.length < 3) refuse('malformed', 'no suite')
  if (bytes[2] !== 0x01 && bytes[2] !== 0x11) refuse('version', `suite ${bytes[2]}`)
  const layout = bytes[2] === 0x01 ? 'kek' : 'direct'
  if (bytes.length < (layout === 'kek' ? 112 : 82)) refuse('malformed', 'too short')
  const [wrapFlags, valueFlags, tag] = [bytes[15], bytes[16], bytes[17]]
  if (wrapFlags > 1) refuse('malformed', 'unknown wrap flag')
  if (layout === 'direct' && wrapFlags !== 1) refuse('malformed', 'direct without row-bound')
  if (valueFlags > 1) refuse('malformed', 'unknown value flag')
  if (tag < 1 || tag > 9) refuse('malformed', 'unknown type tag')
  const common = {
    bytes,
    layout,
    id: bytes.subarray(3, 15),
    header16: bytes.subarray(0, 16),
    rowBound: wrapFlags === 1,
    padded: valueFlags === 1,
    valueFlags,
    tag,
  }
  if (layout === 'kek') {
    return {
      ...common,
      salt: bytes.subarray(18, 24),
      wrapNonce: bytes.subarray(24, 36),
      wrap: bytes.subarray(36, 84),
      ...valuePart(bytes, 84),
    }
  }
  const labelLength = bytes[50]
  const blobLength = bytes.readUInt16BE(51)
  if (labelLength > 64) refuse('malformed', 'label too long')
  if (blobLength === 0 || blobLength > 6144) refuse('malformed', 'length of the KMS blob')
  const blobAt = 53 + labelLength
  const valueAt = blobAt + blobLength
  if (valueAt + 28 > bytes.length) refuse('malformed', 'longer than the envelope')
  return {
    ...common,
    commitment: bytes.subarray(18, 50),
    label: bytes.subarray(53, blobAt),
    blob: bytes.subarray(blobAt, valueAt),
    ...valuePart(bytes, valueAt),
  }
}

function valuePart(bytes, at) {
  return { nonce: bytes.subarray(at, at + 12), sealed: bytes.subarray(at + 12), n: bytes.length - at - 28 }
}

/**
 * Steps 1 to 10. `place` is what the reader expects: { tenant, keyspace, model, field, rowId, type (or a list with former types), mapKeys?, maxBytes?,
 * encryptNulls?, unbound?, layouts? }. `keyOf(id, envelope)` gives the KEK (layout kek) or the DEK (layout direct).
 */
export function openValue(input, place, keyOf) {
  const envelope = parseEnvelope(input)
  const { layouts = ['kek'], unbound = false, maxBytes = DEFAULT_LIMIT } = place
  if (!layouts.includes(envelope.layout)) refuse('layout', envelope.layout)
  if (!envelope.rowBound && !unbound) refuse('layout', 'unbound')
  if (![place.type].flat().includes(TAGS[envelope.tag])) refuse('decrypt', 'another type')
  if (envelope.n > (envelope.padded ? maxBytes + 4 + 65_536 : maxBytes)) refuse('malformed', 'above the limit')
  const key = keyOf(envelope.id.toString('hex'), envelope) ?? refuse('key', 'no readable key')
  const dek = envelope.layout === 'kek' ? unwrapDek(envelope, place, key) : key
  if (envelope.layout === 'direct') checkCommitment(envelope, dek)
  const aad = sha256(
    lp(
      'fieldseal/1/value',
      u8(1),
      u8(envelope.valueFlags),
      u8(envelope.tag),
      place.model,
      place.field,
      ...(place.mapKeys ?? []),
    ),
  )
  const plaintext = openGcm(dek, envelope.nonce, aad, envelope.sealed)
  const encoding = envelope.padded ? unpad(plaintext) : plaintext
  if (encoding === null) {
    if (!place.encryptNulls) refuse('decrypt', 'a null in a field that does not encrypt nulls')
    return null
  }
  if (encoding.length > maxBytes) refuse('decrypt', 'above the limit')
  return decodeValue(envelope.tag, encoding)
}

function unwrapDek(envelope, place, kek) {
  const { tenant, keyspace, model } = place
  const rowId = envelope.rowBound ? place.rowId : Buffer.alloc(0)
  const { header16, salt, wrapNonce, wrap } = envelope
  const aad = lp('fieldseal/1/wrap-aad', header16, salt, tenant, keyspace, 'wrap', model, rowId)
  return openGcm(expand(kek, lp('fieldseal/1/wrap', salt)), wrapNonce, aad, wrap)
}

export function commitmentOf(dek, header16) {
  return hmac(expand(dek, lp('fieldseal/1/commit-key')), lp('fieldseal/1/dek-commit', header16))
}

function checkCommitment(envelope, dek) {
  if (!same(commitmentOf(dek, envelope.header16), envelope.commitment)) refuse('decrypt', 'another commitment')
}

const KEY_KINDS = {
  integer: (value) => {
    const text = String(value)
    if (!/^(0|-?[1-9][0-9]*)$/.test(text)) refuse('malformed', 'not an integer key')
    return [1, utf8(text)]
  },
  uuid: (value) => {
    const hex = value.replaceAll('-', '')
    if (!/^[0-9a-f]{32}$/i.test(hex)) refuse('malformed', 'not a uuid')
    return [2, Buffer.from(hex, 'hex')]
  },
  objectid: (value) => [3, fromObjectId(value)],
  string: (value) => [4, utf8(value)],
}

function fromObjectId(value) {
  if (!/^[0-9a-f]{24}$/i.test(value)) refuse('malformed', 'not an ObjectId')
  return Buffer.from(value, 'hex')
}

/** `columns`: { field, kind, value } per key column. */
export function rowIdOf(columns) {
  const sorted = columns.toSorted((a, b) => Buffer.compare(utf8(a.field), utf8(b.field)))
  return lp(
    ...sorted.map(({ kind, value }) => {
      const [code, bytes] = KEY_KINDS[kind](value)
      return lp(u8(code), bytes)
    }),
  )
}
