import { NULL_LENGTH, PAD_HEADER_BYTES } from '../envelope/layout.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'

/** u32 true length, the bytes, zeros until what follows the u32 is a positive multiple of `multiple`. null: the mark and zeros. */
export function pad(bytes: Uint8Array | null, multiple: number): Uint8Array {
  const length = bytes?.length ?? 0
  const out = Buffer.alloc(PAD_HEADER_BYTES + Math.max(1, Math.ceil(length / multiple)) * multiple)
  out.writeUInt32BE(bytes === null ? NULL_LENGTH : length)
  if (bytes !== null) out.set(bytes, PAD_HEADER_BYTES)
  return out
}

/**
 * What `pad` was given. Checks that all behind the value are zeros, not the multiple: that may have changed since.
 * @throws FieldsealError ERR_DECRYPT_FAILED
 */
export function unpad(padded: Buffer): Buffer | null {
  if (padded.length <= PAD_HEADER_BYTES) throw new FieldsealError('ERR_DECRYPT_FAILED')
  const length = padded.readUInt32BE(0)
  const end = PAD_HEADER_BYTES + (length === NULL_LENGTH ? 0 : length)
  if (end > padded.length || !isZero(padded, end)) throw new FieldsealError('ERR_DECRYPT_FAILED')
  return length === NULL_LENGTH ? null : padded.subarray(PAD_HEADER_BYTES, end)
}

function isZero(bytes: Uint8Array, from: number): boolean {
  for (let i = from; i < bytes.length; i++) if (bytes[i] !== 0) return false
  return true
}
