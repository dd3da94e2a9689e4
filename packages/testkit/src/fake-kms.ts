import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Cmk,
  type CmkDescription,
  contextBytes,
  type EncryptionContext,
  type Kms,
  kmsError,
  type KmsErrorCode,
  type KmsRequest,
  SecretKey,
} from '@fieldseal/core/kms'

/** One call that a CMK of a `fakeKms` was asked to answer. */
export interface FakeKmsCall {
  readonly operation: 'wrap' | 'unwrap' | 'generate' | 'rewrap' | 'describe' | 'probe'
  readonly uri: string
  readonly context: EncryptionContext
}

/** A KMS in memory whose answers a test decides. */
export interface FakeKms extends Kms<FakeCmkOptions> {
  readonly calls: FakeKmsCall[]
  /** Milliseconds before each answer. */
  latencyMs: number
  /** The customer revokes: every call for this CMK is denied. */
  deny(uri: string, code?: KmsErrorCode): void
  /** As `deny`, and `describe` tells until when it can be undone. */
  scheduleDeletion(uri: string, deletesAt: Date): void
  /** Nobody answers, for one CMK or for all. */
  disconnect(uri?: string): void
  /** No answer and no heed of the signal, so that only the caller's deadline ends a call. */
  hang(uri?: string): void
  /** Undoes `deny`, `disconnect` and `hang`, for one CMK or for all. */
  restore(uri?: string): void
  /** The next call fails so, whatever it is. */
  failNext(code: KmsErrorCode): void
  /** A new version of a CMK; older wraps still open. */
  rotate(uri: string): void
}

export interface FakeCmkOptions {
  /** @defaultValue `fake` */
  readonly credentialScope?: string
  /** Whether the KMS makes keys itself (`generate`). @defaultValue false */
  readonly generates?: boolean
}

const PROVIDER = 'fake-kms'
const ALL = '*'

type Trouble = KmsErrorCode | 'hang'

export function fakeKms(): FakeKms {
  const versions = new Map<string, Buffer[]>()
  const troubles = new Map<string, Trouble>()
  const deletions = new Map<string, Date>()
  const next: KmsErrorCode[] = []

  function keysOf(uri: string): Buffer[] {
    let keys = versions.get(uri)
    if (keys === undefined) versions.set(uri, (keys = [randomBytes(32)]))
    return keys
  }

  async function answer(
    operation: FakeKmsCall['operation'],
    uri: string,
    context: EncryptionContext,
    signal: AbortSignal,
  ): Promise<void> {
    kms.calls.push({ operation, uri, context })
    const trouble = next.shift() ?? troubles.get(uri) ?? troubles.get(ALL)
    if (trouble === 'hang') await new Promise(() => undefined)
    if (kms.latencyMs > 0) await sleep(kms.latencyMs, undefined, { signal }).catch(() => undefined)
    if (signal.aborted) throw kmsError('ERR_KMS_ABORTED', { provider: PROVIDER })
    if (trouble !== undefined && trouble !== 'hang') throw kmsError(trouble, { provider: PROVIDER })
  }

  function seal(
    uri: string,
    context: EncryptionContext,
    bytes: Uint8Array,
  ): { readonly blob: Uint8Array; readonly keyVersion: string } {
    const keys = keysOf(uri)
    const blob = Buffer.concat([Buffer.alloc(2), randomBytes(12)])
    blob.writeUInt16BE(keys.length)
    const cipher = createCipheriv('aes-256-gcm', keys.at(-1) ?? Buffer.alloc(0), blob.subarray(2)).setAAD(
      aad(uri, context),
    )
    const body = Buffer.concat([cipher.update(bytes), cipher.final()])
    return { blob: Buffer.concat([blob, body, cipher.getAuthTag()]), keyVersion: String(keys.length) }
  }

  function open(uri: string, context: EncryptionContext, blob: Uint8Array): SecretKey {
    const bytes = Buffer.from(blob)
    const key = bytes.length === 62 ? keysOf(uri)[bytes.readUInt16BE(0) - 1] : undefined
    if (key === undefined) throw invalid()
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(2, 14))
        .setAAD(aad(uri, context))
        .setAuthTag(bytes.subarray(-16))
      return new SecretKey(Buffer.concat([decipher.update(bytes.subarray(14, -16)), decipher.final()]))
    } catch {
      throw invalid()
    }
  }

  const kms: FakeKms = {
    calls: [],
    latencyMs: 0,
    deny: (uri, code = 'ERR_KMS_ACCESS_DENIED') => void troubles.set(uri, code),
    scheduleDeletion(uri, deletesAt) {
      troubles.set(uri, 'ERR_KMS_KEY_PENDING_DELETION')
      deletions.set(uri, deletesAt)
    },
    disconnect: (uri = ALL) => void troubles.set(uri, 'ERR_KMS_NETWORK'),
    hang: (uri = ALL) => void troubles.set(uri, 'hang'),
    restore(uri) {
      for (const known of [troubles, deletions])
        if (uri === undefined) known.clear()
        else known.delete(uri)
    },
    failNext: (code) => void next.push(code),
    rotate: (uri) => void keysOf(uri).push(randomBytes(32)),
    cmk(uri, { credentialScope = 'fake', generates = false } = {}): Cmk {
      return {
        provider: PROVIDER,
        uri,
        credentialScope,
        facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: 62 },
        async wrap(key, { context, signal }) {
          await answer('wrap', uri, context, signal)
          return { ...seal(uri, context, key.exposeBytes()), versionEvidence: 'reported' }
        },
        async unwrap({ blob }, { context, signal }) {
          await answer('unwrap', uri, context, signal)
          return open(uri, context, blob)
        },
        async rewrap({ blob }, { context, signal }) {
          await answer('rewrap', uri, context, signal)
          using key = open(uri, context, blob)
          return { ...seal(uri, context, key.exposeBytes()), versionEvidence: 'reported' }
        },
        ...(generates
          ? {
              async generate({ context, signal }: KmsRequest) {
                await answer('generate', uri, context, signal)
                const bytes = randomBytes(32)
                return {
                  key: new SecretKey(bytes),
                  wrap: { ...seal(uri, context, bytes), versionEvidence: 'reported' },
                }
              },
            }
          : {}),
        async describe({ context, signal }) {
          const state = stateOf(troubles.get(uri))
          if (state === undefined) await answer('describe', uri, context, signal)
          else kms.calls.push({ operation: 'describe', uri, context })
          const deletesAt = deletions.get(uri)
          return {
            state: state ?? 'enabled',
            currentVersion: String(keysOf(uri).length),
            ...(deletesAt === undefined ? {} : { deletesAt }),
          }
        },
        async probe(_wrap, { context, signal }) {
          try {
            await answer('probe', uri, context, signal)
            return 'allowed'
          } catch (error) {
            return error instanceof Error && 'kind' in error && error.kind === 'denied' ? 'denied' : 'unreachable'
          }
        },
      }
    },
  }
  return kms
}

/** What `describe` answers of a CMK that must not be used; whoever is refused altogether may not describe it either. */
function stateOf(trouble: Trouble | undefined): CmkDescription['state'] | undefined {
  if (trouble === 'ERR_KMS_KEY_DISABLED') return 'disabled'
  if (trouble === 'ERR_KMS_KEY_PENDING_DELETION') return 'pending-deletion'
  return trouble === 'ERR_KMS_KEY_DESTROYED' ? 'destroyed' : undefined
}

function aad(uri: string, context: EncryptionContext): Uint8Array {
  return contextBytes({ ...context, 'fake.uri': uri })
}

function invalid() {
  return kmsError('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', { provider: PROVIDER })
}
