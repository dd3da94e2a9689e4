import { createCipheriv, createDecipheriv, createSecretKey, randomBytes, type KeyObject } from 'node:crypto'
import {
  type Cmk,
  type CmkDescription,
  type CmkWrap,
  contextBytes,
  kmsError,
  type KmsErrorCode,
  type KmsRequest,
  SecretKey,
} from '../../src/kms.ts'

export type CmkOperation = 'wrap' | 'unwrap' | 'rewrap' | 'describe' | 'probe' | 'generate' | 'canonicalUri'

/** A CMK in memory whose answers a test decides. AES-256-GCM with the context as additional data. */
export interface FakeCmk extends Cmk {
  readonly calls: { readonly operation: CmkOperation; readonly context: KmsRequest['context'] }[]
  /** Every key given out by `unwrap` and `generate`, to see whether it was zeroed. */
  readonly given: SecretKey[]
  /** Thrown by every call until cleared. */
  failure: KmsErrorCode | undefined
  /** Runs before each answer; what it throws is the answer. */
  before: ((operation: CmkOperation, request: KmsRequest) => Promise<void> | void) | undefined
  /** What `describe` answers, whatever `failure` says; an error code is thrown. */
  description: CmkDescription | KmsErrorCode
  /** Makes unwraps return other keys than were wrapped. */
  liar: boolean
  /** The version that new wraps name. */
  keyVersion: string | undefined
  /** Operations called so far. */
  operations(): readonly CmkOperation[]
}

export interface FakeCmkOptions {
  readonly credentialScope?: string
  /** Capabilities. */
  readonly probes?: boolean
  readonly generates?: boolean
  readonly describes?: boolean
  readonly rewraps?: boolean
  /** `uri` is an alias of this name. */
  readonly canonical?: string
  readonly keyVersion?: string
}

/** In real time: tests of what core does after its retries need not wait for them. */
const RETRY_AFTER_MS = 1

export function fakeCmk(uri: string, options: FakeCmkOptions = {}): FakeCmk {
  const {
    credentialScope = 'test',
    probes = false,
    generates = false,
    describes = false,
    rewraps = false,
    canonical,
  } = options
  const key: KeyObject = createSecretKey(randomBytes(32))
  const cmk: FakeCmk = {
    provider: 'fake',
    uri,
    credentialScope,
    facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: 60 },
    calls: [],
    given: [],
    failure: undefined,
    before: undefined,
    description: { state: 'enabled' },
    liar: false,
    keyVersion: options.keyVersion,
    operations: () => cmk.calls.map(({ operation }) => operation),
    async wrap(secret, request) {
      await answer('wrap', request)
      return seal(secret.exposeBytes(), request)
    },
    async unwrap({ blob }, request) {
      await answer('unwrap', request)
      return give(cmk.liar ? randomBytes(32) : unseal(blob, request))
    },
  }
  if (generates) {
    cmk.generate = async (request) => {
      await answer('generate', request)
      const bytes = randomBytes(32)
      const wrap = seal(bytes, request)
      return { key: give(bytes), wrap }
    }
  }
  if (describes) {
    cmk.describe = async (request) => {
      cmk.calls.push({ operation: 'describe', context: request.context })
      if (typeof cmk.description === 'string') throw kmsError(cmk.description, { provider: 'fake' }, RETRY_AFTER_MS)
      return cmk.description
    }
  }
  if (rewraps) {
    cmk.rewrap = async ({ blob }, request) => {
      await answer('rewrap', request)
      return seal(cmk.liar ? randomBytes(32) : unseal(blob, request), request)
    }
  }
  if (canonical !== undefined) {
    cmk.canonicalUri = async (request) => {
      await answer('canonicalUri', request)
      return canonical
    }
  }
  if (probes) {
    cmk.probe = async (_wrap, request) => {
      cmk.calls.push({ operation: 'probe', context: request.context })
      await cmk.before?.('probe', request)
      return cmk.failure === undefined ? 'allowed' : cmk.failure === 'ERR_KMS_ACCESS_DENIED' ? 'denied' : 'unreachable'
    }
  }

  async function answer(operation: CmkOperation, request: KmsRequest): Promise<void> {
    cmk.calls.push({ operation, context: request.context })
    await cmk.before?.(operation, request)
    if (cmk.failure !== undefined) throw kmsError(cmk.failure, { provider: 'fake' }, RETRY_AFTER_MS)
  }

  function give(bytes: Uint8Array): SecretKey {
    const secret = new SecretKey(bytes)
    cmk.given.push(secret)
    return secret
  }

  function seal(bytes: Uint8Array, request: KmsRequest): CmkWrap {
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(contextBytes(request.context))
    const body = Buffer.concat([cipher.update(bytes), cipher.final()])
    const blob = Buffer.concat([nonce, body, cipher.getAuthTag()])
    return cmk.keyVersion === undefined
      ? { blob, versionEvidence: 'unknown' }
      : { blob, keyVersion: cmk.keyVersion, versionEvidence: 'reported' }
  }

  function unseal(blob: Uint8Array, request: KmsRequest): Uint8Array {
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, blob.subarray(0, 12), { authTagLength: 16 })
        .setAAD(contextBytes(request.context))
        .setAuthTag(blob.subarray(-16))
      return Buffer.concat([decipher.update(blob.subarray(12, -16)), decipher.final()])
    } catch {
      throw kmsError('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', { provider: 'fake' })
    }
  }
  return cmk
}
