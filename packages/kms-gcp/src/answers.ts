import { kmsError } from '@fieldseal/core/kms'
import { crc32c } from './crc32c.ts'
import { PROVIDER } from './map-error.ts'

/** The number of a version of this key; `undefined` for anything else. */
export function versionIn(uri: string, name: string | null | undefined): string | undefined {
  const [key, number] = (name ?? '').split('/cryptoKeyVersions/')
  return key === uri && number !== undefined && /^\d{1,19}$/.test(number) ? number : undefined
}

/** The vendor's client hands out bytes, or base64 text over HTTPS. Always a copy. */
export function bytesOf(value: Uint8Array | string | null | undefined): Uint8Array {
  return Uint8Array.from(typeof value === 'string' ? Buffer.from(value, 'base64') : (value ?? []))
}

export function zero(value: Uint8Array | string | null | undefined): void {
  if (value instanceof Uint8Array) value.fill(0)
}

/** A missing checksum is as bad as a wrong one: the field that is not set arrives as `null`. */
export function assertChecksum(bytes: Uint8Array, sent: { readonly value?: unknown } | null | undefined): void {
  const value = sent?.value
  // 64-bit integers arrive as decimal text.
  const text = typeof value === 'string' || typeof value === 'number' ? `${value}` : ''
  if (!/^\d{1,10}$/.test(text) || Number(text) !== crc32c(bytes)) throw integrity('a checksum is wrong or missing')
}

export function integrity(reason: string) {
  return kmsError('ERR_KMS_INTEGRITY_FAILED', { provider: PROVIDER, reason })
}

export function invalidBlob(reason: string) {
  return kmsError('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', { provider: PROVIDER, reason })
}

export function wrongKey() {
  return kmsError('ERR_KMS_WRONG_KEY', { provider: PROVIDER, reason: 'the answer is about another key' })
}
