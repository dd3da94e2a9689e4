import { utf8 } from './utf8.ts'

/**
 * LP(x…): u16 count, then per item a u32 length and its bytes, big-endian. The only way in which tuples are joined.
 *
 * Strings are UTF-8 without normalisation. @throws FieldsealError ERR_VALUE_INVALID on a lone surrogate
 */
export function lp(...items: readonly (string | Uint8Array)[]): Uint8Array {
  const parts: Uint8Array[] = []
  let length = 2
  for (const item of items) {
    const part = typeof item === 'string' ? utf8(item) : item
    parts.push(part)
    length += 4 + part.length
  }
  const out = Buffer.allocUnsafe(length)
  let at = out.writeUInt16BE(parts.length, 0)
  for (const part of parts) {
    at = out.writeUInt32BE(part.length, at)
    out.set(part, at)
    at += part.length
  }
  return out
}
