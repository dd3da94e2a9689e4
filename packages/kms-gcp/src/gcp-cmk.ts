import type { KeyManagementServiceClient } from '@google-cloud/kms'
import {
  abortedError,
  type Cmk,
  type CmkState,
  contextBytes,
  isFieldsealError,
  KEY_LENGTH,
  kmsError,
  type KmsRequest,
  SecretKey,
  untilAborted,
} from '@fieldseal/core/kms'
import { assertChecksum, bytesOf, integrity, invalidBlob, versionIn, wrongKey, zero } from './answers.ts'
import { crc32c } from './crc32c.ts'
import { CredentialsFailure, mapGcpError, PROVIDER } from './map-error.ts'
import type { GcpCmkOptions } from './options.ts'

const MAX_BLOB_BYTES = 6_144
/** When nobody gave a signal; core's deadline is far shorter. */
const CALL_TIMEOUT_MS = 30_000

const STATES: Readonly<Record<string, CmkState>> = {
  ENABLED: 'enabled',
  DISABLED: 'disabled',
  DESTROY_SCHEDULED: 'pending-deletion',
  DESTROYED: 'destroyed',
  PENDING_IMPORT: 'pending-import',
  IMPORT_FAILED: 'pending-import',
}

export interface GcpCmkSettings {
  readonly uri: string
  readonly credentialScope: string
  readonly authClient: GcpCmkOptions['authClient']
  /** What ends the calls under way, of all CMKs, when the KMS is closed. */
  readonly underWay: Set<() => void>
  /** Lends a ready client of this CMK's scope. */
  use<R>(run: (client: KeyManagementServiceClient) => Promise<R>): Promise<R>
}

/** The part of the vendor's call options that we set. */
interface CallOptions {
  readonly timeout: number
  readonly signal: AbortSignal
  readonly retry: null
}

/**
 * The port to one CMK. No `generate`, `rewrap` or `probe`: Google has no such calls, so core makes the key, unwraps
 * and wraps, and asks by unwrapping.
 */
export function gcpCmk({ uri, credentialScope, authClient, underWay, use }: GcpCmkSettings): Cmk {
  /** One attempt. @throws FieldsealError */
  async function ask<Answer>(
    { signal }: KmsRequest,
    send: (client: KeyManagementServiceClient, options: CallOptions) => Promise<readonly [Answer, ...unknown[]]>,
    discard: (answer: Answer) => void = () => undefined,
  ): Promise<Answer> {
    if (signal.aborted) throw abortedError(PROVIDER, signal)
    const call = (ended: AbortSignal) =>
      use(async (client) => {
        await assertCredentials()
        if (ended.aborted) throw abortedError(PROVIDER, ended)
        // Without retries: the vendor's own go on for minutes and hide the first error.
        const options: CallOptions = { retry: null, timeout: CALL_TIMEOUT_MS, signal: ended }
        const [answer] = await send(client, options)
        return answer
      })
    try {
      return await untilAborted(PROVIDER, call, signal, underWay, discard)
    } catch (error) {
      if (isFieldsealError(error)) throw error
      throw signal.aborted ? abortedError(PROVIDER, signal) : mapGcpError(error)
    }
  }

  /** Asked first, because the client hides a refused token behind a status of its own. Cached by the credentials. */
  async function assertCredentials(): Promise<void> {
    try {
      await authClient?.getAccessToken()
    } catch (error) {
      throw new CredentialsFailure(error, true)
    }
  }

  const describe = async (request: KmsRequest) => {
    const key = await ask(request, (kms, options) => kms.getCryptoKey({ name: uri }, options))
    if (key.name !== uri) throw wrongKey()
    const { state, name, destroyTime } = key.primary ?? {}
    const version = versionIn(uri, name)
    const seconds = Number(destroyTime?.seconds ?? Number.NaN)
    return {
      state: STATES[String(state)] ?? 'unknown',
      ...(version === undefined ? {} : { currentVersion: version }),
      ...(Number.isFinite(seconds) ? { deletesAt: new Date(seconds * 1_000) } : {}),
    }
  }

  /** A version that is off while the key is on is a version that was retired: told apart with one more question. */
  async function retiredOr(error: unknown, wrapVersion: string | undefined, request: KmsRequest): Promise<unknown> {
    if (!isFieldsealError(error) || error.code !== 'ERR_KMS_KEY_DISABLED' || wrapVersion === undefined) return error
    const now = await describe(request).catch(() => undefined)
    return now?.state === 'enabled' && now.currentVersion !== wrapVersion
      ? kmsError('ERR_KMS_VERSION_RETIRED', error.details)
      : error
  }

  return {
    provider: PROVIDER,
    uri,
    credentialScope,
    facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: MAX_BLOB_BYTES },

    async wrap(key, request) {
      const plaintext = key.exposeBytes()
      const additional = contextBytes(request.context)
      const sums = [crc32c(plaintext), crc32c(additional)] as const
      const answer = await ask(request, (kms, options) =>
        kms.encrypt(
          {
            name: uri,
            plaintext,
            plaintextCrc32c: { value: sums[0] },
            additionalAuthenticatedData: additional,
            additionalAuthenticatedDataCrc32c: { value: sums[1] },
          },
          options,
        ),
      )
      const blob = bytesOf(answer.ciphertext)
      // Google received what we sent, and we received what Google sent.
      if (answer.verifiedPlaintextCrc32c !== true || answer.verifiedAdditionalAuthenticatedDataCrc32c !== true)
        throw integrity('Google did not confirm our checksums')
      assertChecksum(blob, answer.ciphertextCrc32c)
      if (blob.length < 1 || blob.length > MAX_BLOB_BYTES) throw integrity('a blob of no legal length')
      const version = versionIn(uri, answer.name)
      if (version === undefined) throw answer.name ? wrongKey() : integrity('it names no version')
      return { blob, keyVersion: version, versionEvidence: 'reported' }
    },

    async unwrap({ blob, keyVersion }, request) {
      if (blob.length < 1 || blob.length > MAX_BLOB_BYTES) throw invalidBlob('its length is out of range')
      const additional = contextBytes(request.context)
      let answer
      try {
        answer = await ask(
          request,
          (kms, options) =>
            kms.decrypt(
              {
                name: uri,
                ciphertext: blob,
                ciphertextCrc32c: { value: crc32c(blob) },
                additionalAuthenticatedData: additional,
                additionalAuthenticatedDataCrc32c: { value: crc32c(additional) },
              },
              options,
            ),
          ({ plaintext }) => zero(plaintext),
        )
      } catch (error) {
        throw await retiredOr(error, keyVersion, request)
      }
      const bytes = bytesOf(answer.plaintext)
      try {
        assertChecksum(bytes, answer.plaintextCrc32c)
        if (bytes.length !== KEY_LENGTH) throw invalidBlob('it holds no key of 32 bytes')
        return new SecretKey(Uint8Array.from(bytes))
      } finally {
        bytes.fill(0)
        zero(answer.plaintext)
      }
    },

    describe,
  }
}
