import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto'

/** Bytes of an AES-256-GCM nonce (NIST SP 800-38D §5.2.1.1) and of its tag, the longest it has. */
export const NONCE_BYTES = 12
export const TAG_BYTES = 16

const ALGORITHM = 'aes-256-gcm'
const OPTIONS = { authTagLength: TAG_BYTES } as const

/** `out` holds the nonce at `at`; ciphertext and tag are written behind it. */
export interface SealJob {
  readonly key: KeyObject
  readonly aad: Uint8Array
  readonly plaintext: Uint8Array
  readonly out: Uint8Array
  readonly at: number
}

/** `sealed` holds nonce, ciphertext and tag from `start` to `end`. */
export interface OpenJob {
  readonly key: KeyObject
  readonly aad: Uint8Array
  readonly sealed: Uint8Array
  readonly start: number
  readonly end: number
}

/**
 * The one seam between Fieldseal and a cipher: many values at once, so that a faster engine can take its place.
 *
 * `openMany` gives undefined for what does not authenticate, and says no more about it.
 */
export interface AeadEngine {
  sealMany(jobs: readonly SealJob[]): void
  openMany(jobs: readonly OpenJob[]): (Buffer | undefined)[]
}

/** AES-256-GCM of node:crypto. */
export const nodeEngine: AeadEngine = {
  sealMany(jobs) {
    for (const { key, aad, plaintext, out, at } of jobs) {
      const body = at + NONCE_BYTES
      const cipher = createCipheriv(ALGORITHM, key, out.subarray(at, body), OPTIONS)
      cipher.setAAD(aad)
      // GCM is a stream mode: update gives all ciphertext, final nothing.
      out.set(cipher.update(plaintext), body)
      cipher.final()
      out.set(cipher.getAuthTag(), body + plaintext.length)
    }
  },
  openMany(jobs) {
    return jobs.map(openOne)
  },
}

function openOne({ key, aad, sealed, start, end }: OpenJob): Buffer | undefined {
  const body = start + NONCE_BYTES
  const tag = end - TAG_BYTES
  const decipher = createDecipheriv(ALGORITHM, key, sealed.subarray(start, body), OPTIONS)
  decipher.setAAD(aad)
  decipher.setAuthTag(sealed.subarray(tag, end))
  const plaintext = decipher.update(sealed.subarray(body, tag))
  try {
    decipher.final()
  } catch {
    plaintext.fill(0)
    return undefined
  }
  return plaintext
}
