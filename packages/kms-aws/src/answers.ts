import { type CmkWrap, kmsError } from '@fieldseal/core/kms'
import { isSameKey } from './key-ref.ts'
import { PROVIDER } from './map-error.ts'

/** https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html */
export const MAX_BLOB_BYTES = 6_144

export function wrapOf(blob: Uint8Array | undefined, materialId: string | undefined): CmkWrap {
  return {
    blob: blobOf(blob),
    ...(isMaterialId(materialId)
      ? { keyVersion: materialId, versionEvidence: 'reported' }
      : { versionEvidence: 'unknown' }),
  }
}

export function isMaterialId(id: string | undefined): id is string {
  return id !== undefined && /^[0-9a-f]{64}$/.test(id)
}

export function blobOf(blob: Uint8Array | undefined): Uint8Array {
  if (blob === undefined || blob.length < 1 || blob.length > MAX_BLOB_BYTES)
    throw unexpected('a blob of no legal length')
  return Uint8Array.from(blob)
}

/** Before any I/O: what AWS would call a ValidationException is a bad stored blob here. */
export function assertBlob(blob: Uint8Array): void {
  if (blob.length < 1 || blob.length > MAX_BLOB_BYTES) throw invalidBlob('its length is out of range')
}

/** Invariant: an answer about another key than the one asked is never used. */
export function assertKey(asked: string, answered: string | undefined): void {
  if (answered === undefined) throw unexpected('it names no key')
  if (!isSameKey(asked, answered))
    throw kmsError('ERR_KMS_WRONG_KEY', { provider: PROVIDER, reason: 'the answer is about another key' })
}

export function invalidBlob(reason: string) {
  return kmsError('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', { provider: PROVIDER, reason })
}

export function unexpected(reason: string) {
  return kmsError('ERR_KMS_INTEGRITY_FAILED', { provider: PROVIDER, reason })
}
