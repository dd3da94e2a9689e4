import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { contextBytes, kmsError, SecretKey, type Cmk } from '@fieldseal/core/kms'

export interface TestCmk extends Cmk {
  calls: number
  /** Denies, or does not answer. */
  failure: 'denied' | 'down' | undefined
  latencyMs: number
}

/** A CMK in memory that counts, waits and fails as it is told. */
export function testCmk(uri: string): TestCmk {
  const key = randomBytes(32)
  const cmk: TestCmk = {
    provider: 'test-kms',
    uri,
    credentialScope: uri,
    facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: 60 },
    calls: 0,
    failure: undefined,
    latencyMs: 0,
    async wrap(secret, { context }) {
      await answer()
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(contextBytes(context))
      const body = Buffer.concat([cipher.update(secret.exposeBytes()), cipher.final()])
      return { blob: Buffer.concat([nonce, body, cipher.getAuthTag()]), versionEvidence: 'unknown' }
    },
    async unwrap({ blob }, { context }) {
      await answer()
      try {
        const decipher = createDecipheriv('aes-256-gcm', key, blob.subarray(0, 12))
          .setAAD(contextBytes(context))
          .setAuthTag(blob.subarray(-16))
        return new SecretKey(Buffer.concat([decipher.update(blob.subarray(12, -16)), decipher.final()]))
      } catch {
        throw kmsError('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', { provider: 'test-kms' })
      }
    },
  }
  async function answer(): Promise<void> {
    cmk.calls++
    if (cmk.latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, cmk.latencyMs))
    if (cmk.failure === 'denied') throw kmsError('ERR_KMS_ACCESS_DENIED', { provider: 'test-kms' })
    if (cmk.failure === 'down') throw kmsError('ERR_KMS_UNAVAILABLE', { provider: 'test-kms' })
  }
  return cmk
}
