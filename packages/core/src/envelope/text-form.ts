import { FieldsealError } from '../errors/fieldseal-error.ts'
import { type Envelope, MAGIC } from './layout.ts'

/** Text form: this prefix and unpadded base64url (RFC 4648 §5). Characters 0–22 tell magic, version, suite and KEK id. */
export const TEXT_PREFIX = 'fs.'

export function envelopeToText(envelope: Envelope): string {
  const bytes = Buffer.from(envelope.buffer, envelope.byteOffset, envelope.byteLength)
  return TEXT_PREFIX + bytes.toString('base64url')
}

/**
 * The bytes of a text form. Node's decoder accepts padding, `+/`, junk and non-zero tail bits; this one refuses all that
 * does not re-encode identically.
 *
 * @throws FieldsealError ERR_PLAINTEXT_FOUND without the prefix, ERR_ENVELOPE_MALFORMED when not canonical
 */
export function envelopeFromText(text: string): Buffer {
  if (!text.startsWith(TEXT_PREFIX)) throw new FieldsealError('ERR_PLAINTEXT_FOUND')
  const body = text.slice(TEXT_PREFIX.length)
  const bytes = Buffer.from(body, 'base64url')
  if (bytes.toString('base64url') !== body)
    throw new FieldsealError('ERR_ENVELOPE_MALFORMED', { reason: 'text form not canonical' })
  if (bytes[0] !== MAGIC) throw new FieldsealError('ERR_PLAINTEXT_FOUND')
  return bytes
}
