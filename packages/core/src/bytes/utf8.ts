import { FieldsealError } from '../errors/fieldseal-error.ts'

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** UTF-8 of a string. TextEncoder alone would merge all lone surrogates into one. @throws FieldsealError ERR_VALUE_INVALID on a lone surrogate */
export function utf8(text: string): Buffer {
  if (!text.isWellFormed()) throw new FieldsealError('ERR_VALUE_INVALID', { reason: 'a string holds a lone surrogate' })
  return Buffer.from(text, 'utf8')
}

/** The string whose UTF-8 is `bytes`. @throws FieldsealError ERR_DECRYPT_FAILED on invalid UTF-8 */
export function fromUtf8(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes)
  } catch {
    throw new FieldsealError('ERR_DECRYPT_FAILED')
  }
}
