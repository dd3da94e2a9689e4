import { createCipheriv, createDecipheriv, createSecretKey, randomBytes, type KeyObject } from 'node:crypto'
import { type Cmk, contextBytes, kmsError, type KmsErrorCode, type KmsRequest, SecretKey } from '../../src/kms.ts'

/** A CMK in memory whose answers a test decides. AES-256-GCM with the context as additional data. */
export interface FakeCmk extends Cmk {
  readonly calls: { readonly operation: 'wrap' | 'unwrap' | 'probe'; readonly context: KmsRequest['context'] }[]
  /** Thrown by every call until cleared. */
  failure: KmsErrorCode | undefined
  /** Runs before each answer. */
  before: (() => Promise<void> | void) | undefined
  /** Makes unwraps return other keys than were wrapped. */
  liar: boolean
}

export function fakeCmk(uri: string, { credentialScope = 'test', probes = false } = {}): FakeCmk {
  const key: KeyObject = createSecretKey(randomBytes(32))
  const cmk: FakeCmk = {
    provider: 'fake',
    uri,
    credentialScope,
    facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: 60 },
    calls: [],
    failure: undefined,
    before: undefined,
    liar: false,
    async wrap(secret, request) {
      await answer('wrap', request)
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(contextBytes(request.context))
      const body = Buffer.concat([cipher.update(secret.exposeBytes()), cipher.final()])
      return { blob: Buffer.concat([nonce, body, cipher.getAuthTag()]), versionEvidence: 'unknown' }
    },
    async unwrap({ blob }, request) {
      await answer('unwrap', request)
      if (cmk.liar) return new SecretKey(randomBytes(32))
      try {
        const decipher = createDecipheriv('aes-256-gcm', key, blob.subarray(0, 12))
          .setAAD(contextBytes(request.context))
          .setAuthTag(blob.subarray(-16))
        return new SecretKey(Buffer.concat([decipher.update(blob.subarray(12, -16)), decipher.final()]))
      } catch {
        throw kmsError('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', { provider: 'fake' })
      }
    },
  }
  if (probes) {
    cmk.probe = async (_wrap, request) => {
      cmk.calls.push({ operation: 'probe', context: request.context })
      return cmk.failure === undefined ? 'allowed' : cmk.failure === 'ERR_KMS_ACCESS_DENIED' ? 'denied' : 'unreachable'
    }
  }
  async function answer(operation: 'wrap' | 'unwrap', { context }: KmsRequest): Promise<void> {
    cmk.calls.push({ operation, context })
    await cmk.before?.()
    if (cmk.failure !== undefined) throw kmsError(cmk.failure, { provider: 'fake' })
  }
  return cmk
}
