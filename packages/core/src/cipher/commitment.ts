import { timingSafeEqual, type KeyObject } from 'node:crypto'
import { lp } from '../bytes/lp.ts'
import { expandKey, hmac, LABELS } from './hkdf.ts'

/**
 * Key commitment of an envelope of mode `direct`: HMAC-SHA-256(Expand(DEK, LP("fieldseal/1/commit-key"), 32),
 * LP("fieldseal/1/dek-commit", header[0..16))), 32 bytes. AES-GCM alone opens under more than one key.
 */
export function dekCommitment(dek: KeyObject, header16: Uint8Array): Buffer {
  return hmac(expandKey(dek, LABELS.commitKey), lp(LABELS.dekCommit, header16))
}

/** Compares in constant time, before any plaintext is released. */
export function commitmentHolds(made: Uint8Array, claimed: Uint8Array): boolean {
  return timingSafeEqual(made, claimed)
}
