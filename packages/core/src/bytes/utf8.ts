import { isUtf8 } from 'node:buffer'
import { FieldsealError } from '../errors/fieldseal-error.ts'

/** UTF-8 of a string. TextEncoder alone would merge all lone surrogates into one. @throws FieldsealError ERR_VALUE_INVALID on a lone surrogate */
export function utf8(text: string): Buffer {
  if (!text.isWellFormed()) throw new FieldsealError('ERR_VALUE_INVALID', { reason: 'a string holds a lone surrogate' })
  return Buffer.from(text, 'utf8')
}

/** The string whose UTF-8 is `bytes`. @throws FieldsealError ERR_DECRYPT_FAILED on invalid UTF-8 */
export function fromUtf8(bytes: Uint8Array): string {
  if (!isUtf8(bytes)) throw new FieldsealError('ERR_DECRYPT_FAILED')
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8') // keeps a BOM: it is data
}
