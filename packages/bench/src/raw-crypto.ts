import { createCipheriv, createDecipheriv, createSecretKey, randomFillSync, type KeyObject } from 'node:crypto'

const NONCE = 12
const TAG = 16

/** AES-256-GCM as fast as node:crypto lets it be called: cached KeyObject, pooled nonces, one output buffer. The floor of the core cases. */

const pool = Buffer.allocUnsafeSlow(8_192)
let left = 0

export function rawRandom(target: Buffer, at: number, length: number): void {
  if (left < length) {
    randomFillSync(pool)
    left = pool.length
  }
  const start = pool.length - left
  pool.copy(target, at, start, start + length)
  pool.fill(0, start, start + length)
  left -= length
}

export function rawSeal(key: KeyObject, aad: Uint8Array, plaintext: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(NONCE + plaintext.length + TAG)
  rawRandom(out, 0, NONCE)
  const cipher = createCipheriv('aes-256-gcm', key, out.subarray(0, NONCE), { authTagLength: TAG })
  cipher.setAAD(aad)
  out.set(cipher.update(plaintext), NONCE)
  cipher.final()
  out.set(cipher.getAuthTag(), NONCE + plaintext.length)
  return out
}

export function rawOpen(key: KeyObject, aad: Uint8Array, sealed: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE), { authTagLength: TAG })
  decipher.setAAD(aad)
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG))
  const plaintext = decipher.update(sealed.subarray(NONCE, sealed.length - TAG))
  decipher.final()
  return plaintext
}

export function rawKey(): KeyObject {
  const bytes = Buffer.alloc(32)
  rawRandom(bytes, 0, 32)
  return createSecretKey(bytes)
}

/** What rows of so many fields cost at least: one wrap and the values. */
export function rawRows(text: string, fields: number) {
  const kek = rawKey()
  const aad = Buffer.alloc(32)
  const sample = rawSeal(kek, aad, Buffer.from(text))
  const wrap = rawSeal(kek, aad, Buffer.alloc(32))
  return {
    open(rows: number) {
      for (let i = 0; i < rows; i++) {
        rawOpen(kek, aad, wrap)
        rawKey()
        for (let j = 0; j < fields; j++) rawOpen(kek, aad, sample).toString('utf8')
      }
    },
    seal(rows: number) {
      for (let i = 0; i < rows; i++) {
        const key = rawKey()
        rawSeal(kek, aad, Buffer.alloc(32))
        for (let j = 0; j < fields; j++) rawSeal(key, aad, Buffer.from(text, 'utf8'))
      }
    },
  }
}
