// "Blind indexes" and "Normalisers" of docs/spec/envelope-v1.md.
import { expand, hmac, lp, refuse, u16, u8 } from './primitives.mjs'

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
  if (!text.isWellFormed() || /\p{Cn}/u.test(text)) refuse('ERR_VALUE_INVALID', 'a code point without assignment')
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
  if (/\p{Nd}/u.test(trimmed.replace(/[0-9]/g, ''))) refuse('ERR_VALUE_INVALID', 'a digit that is not ASCII')
  if (trimmed !== '' && kept === '') refuse('ERR_VALUE_INVALID', 'no digit')
  return trimmed.startsWith('+') ? `+${kept}` : kept
}

export const NORMALISERS = {
  'none@1': (text) => text,
  'trim@1': (text) => trim(assigned(text)),
  'lower@1': (text) => lower(assigned(text)),
  'email@1': (text) => lower(assigned(text)),
  'digits@1': (text) => digits(assigned(text)),
}
