// "Envelope", "Wrap of the DEK", "Value AAD" and "Commitment" of docs/spec/envelope-v1.md.
import { expand, fromBase64url, hmac, lp, openGcm, refuse, same, sha256, u8 } from './primitives.mjs'
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
 * Steps 0 to 10. `place` is what the reader expects: { tenant, keyspace, model, field, rowId, type (or a list with former types), mapKeys?, maxBytes?,
 * encryptNulls?, unbound?, layouts? }. `keyOf(id, envelope)` gives the KEK (layout kek) or the DEK (layout direct).
 */
export function openValue(input, place, keyOf) {
  if (input === null && !place.encryptNulls) return null
  if (typeof input !== 'string' && !(input instanceof Uint8Array)) refuse('plaintext', 'neither text nor bytes')
  const envelope = parseEnvelope(input)
  const { layouts = ['kek'], unbound = false, maxBytes = DEFAULT_LIMIT } = place
  if (!layouts.includes(envelope.layout)) refuse('layout', envelope.layout)
  if (!envelope.rowBound && !unbound) refuse('layout', 'unbound')
  if (![place.type].flat().includes(TAGS[envelope.tag])) refuse('decrypt', 'another type')
  if (envelope.n > (envelope.padded ? maxBytes + 4 + 65_536 : maxBytes)) refuse('malformed', 'above the limit')
  const key = keyOf(envelope.id.toString('hex'), envelope) ?? refuse('key', 'no readable key')
  const dek = envelope.layout === 'kek' ? unwrapDek(envelope, place, key) : key
  if (envelope.layout === 'direct') checkCommitment(envelope, dek)
  const plaintext = openGcm(dek, envelope.nonce, sha256(valueFacts(envelope, place)), envelope.sealed)
  const encoding = envelope.padded ? unpad(plaintext) : plaintext
  if (encoding === null) {
    if (!place.encryptNulls) refuse('decrypt', 'a null in a field that does not encrypt nulls')
    return null
  }
  if (encoding.length > maxBytes) refuse('decrypt', 'above the limit')
  return decodeValue(envelope.tag, encoding)
}

/** What valueAAD is the SHA-256 of. */
export function valueFacts({ valueFlags, tag }, { model, field, mapKeys = [] }) {
  return lp('fieldseal/1/value', u8(1), u8(valueFlags), u8(tag), model, field, ...mapKeys)
}

export function wrapKeyOf(kek, salt) {
  return expand(kek, lp('fieldseal/1/wrap', salt))
}

export function wrapAad({ header16, salt, rowBound }, { tenant, keyspace, model, rowId }) {
  if (rowBound && rowId === undefined) throw new TypeError('the reader of a bound value needs the row id')
  const row = rowBound ? rowId : Buffer.alloc(0)
  return lp('fieldseal/1/wrap-aad', header16, salt, tenant, keyspace, 'wrap', model, row)
}

export function unwrapDek(envelope, place, kek) {
  return openGcm(wrapKeyOf(kek, envelope.salt), envelope.wrapNonce, wrapAad(envelope, place), envelope.wrap)
}

export function commitmentOf(dek, header16) {
  return hmac(expand(dek, lp('fieldseal/1/commit-key')), lp('fieldseal/1/dek-commit', header16))
}

function checkCommitment(envelope, dek) {
  if (!same(commitmentOf(dek, envelope.header16), envelope.commitment)) refuse('decrypt', 'another commitment')
}
