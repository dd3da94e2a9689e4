// Notation of docs/spec/envelope-v1.md. Nothing here, or in the decoder's other files, imports the project.
import { createDecipheriv, createHash, createHmac, timingSafeEqual } from 'node:crypto'

const CODES = {
  plaintext: 'ERR_PLAINTEXT_FOUND',
  version: 'ERR_ENVELOPE_VERSION',
  malformed: 'ERR_ENVELOPE_MALFORMED',
  layout: 'ERR_LAYOUT_REFUSED',
  decrypt: 'ERR_DECRYPT_FAILED',
  key: 'ERR_KEY_NOT_FOUND',
}

/** `kind` is one of the classes of the spec's order of refusal; class key has several codes. */
export class Refused extends Error {
  constructor(what, message) {
    super(`${what}: ${message}`)
    this.kind = what in CODES ? what : 'key'
    this.code = CODES[what] ?? what
  }
}

/** `what`: a class, or a code. */
export function refuse(what, message) {
  throw new Refused(what, message)
}

export function utf8(text) {
  if (!text.isWellFormed()) refuse('malformed', 'lone surrogate')
  return Buffer.from(text, 'utf8')
}

function unsigned(width) {
  return (value) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64BE(BigInt(value))
    if (bytes.subarray(0, 8 - width).some((byte) => byte !== 0)) throw new RangeError(`${value} in ${width} bytes`)
    return bytes.subarray(8 - width)
  }
}
export const u8 = unsigned(1)
export const u16 = unsigned(2)
export const u32 = unsigned(4)
export const u64 = unsigned(8)
export function i64(value) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(BigInt(value))
  return bytes
}

/** Items are bytes, or text standing for its UTF-8. */
export function lp(...items) {
  const parts = items.flatMap((item) => {
    const bytes = typeof item === 'string' ? utf8(item) : item
    return [u32(bytes.length), bytes]
  })
  return Buffer.concat([u16(items.length), ...parts])
}

export function hmac(key, data) {
  return createHmac('sha256', key).update(data).digest()
}

export function sha256(data) {
  return createHash('sha256').update(data).digest()
}

export function expand(key, info) {
  return hmac(key, Buffer.concat([info, Buffer.of(1)]))
}

export function same(a, b) {
  return a.length === b.length && timingSafeEqual(a, b)
}

/** `sealed` is ciphertext ‖ tag. */
export function openGcm(key, nonce, aad, sealed, what = 'decrypt') {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 })
  decipher.setAAD(aad)
  decipher.setAuthTag(sealed.subarray(-16))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()])
  } catch {
    return refuse(what, 'does not authenticate')
  }
}

export function fromBase64url(text, what = 'malformed') {
  const bytes = Buffer.from(text, 'base64url')
  if (bytes.toString('base64url') !== text) refuse(what, 'not canonical base64url')
  return bytes
}

export function isHexId(text) {
  return typeof text === 'string' && /^[0-9a-f]{24}$/.test(text)
}

export function fromHexId(text) {
  if (!isHexId(text)) refuse('malformed', 'not a record id')
  return Buffer.from(text, 'hex')
}

export function textOf(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return refuse('decrypt', 'invalid UTF-8')
  }
}
