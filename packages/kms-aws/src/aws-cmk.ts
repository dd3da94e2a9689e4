import {
  DecryptCommand,
  DescribeKeyCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  type KeyState,
  type KMSClient,
  ReEncryptCommand,
} from '@aws-sdk/client-kms'
import {
  abortedError,
  type Cmk,
  type CmkState,
  isFieldsealError,
  KEY_LENGTH,
  type KmsRequest,
  SecretKey,
  untilAborted,
} from '@fieldseal/core/kms'
import {
  assertBlob,
  assertKey,
  blobOf,
  invalidBlob,
  isMaterialId,
  MAX_BLOB_BYTES,
  unexpected,
  wrapOf,
} from './answers.ts'
import { isKeyArn, type KeyRef } from './key-ref.ts'
import { mapAwsError, PROVIDER } from './map-error.ts'

const STATES: Readonly<Partial<Record<KeyState, CmkState>>> = {
  Enabled: 'enabled',
  Disabled: 'disabled',
  PendingDeletion: 'pending-deletion',
  PendingReplicaDeletion: 'pending-deletion',
  PendingImport: 'pending-import',
}

export interface AwsCmkSettings {
  readonly uri: string
  readonly ref: KeyRef
  readonly credentialScope: string
  readonly grantTokens: readonly string[]
  /** What ends the calls under way, of all CMKs, when the KMS is closed. */
  readonly underWay: Set<() => void>
  /** The client of this CMK's scope; asked for at each call, because it may have left the cache. */
  client(): KMSClient
  /** The next call makes a new client, with new credentials. */
  forgetClient(): void
}

/**
 * The port to one CMK. There is no `probe`: AWS documents a dry run as a check of permissions and parameters, not of
 * the key's state, and a real Decrypt checks all three.
 */
export function awsCmk({
  uri,
  ref,
  credentialScope,
  grantTokens,
  underWay,
  client,
  forgetClient,
}: AwsCmkSettings): Cmk {
  const GrantTokens = [...grantTokens]
  // Invariant: an alias is resolved once in the life of this port, so that what is stored is what was used.
  let pinned = ref.canonical

  /** @throws FieldsealError */
  async function ask<Answer extends { readonly $metadata: { readonly requestId?: string | undefined } }>(
    { signal, answered }: KmsRequest,
    send: (client: KMSClient, options: { readonly abortSignal: AbortSignal }) => Promise<Answer>,
    discard: (answer: Answer) => void = () => undefined,
  ): Promise<Answer> {
    if (signal.aborted) throw abortedError(PROVIDER, signal)
    let answer: Answer
    try {
      const call = (abortSignal: AbortSignal) => send(client(), { abortSignal })
      answer = await untilAborted(PROVIDER, call, signal, underWay, discard)
    } catch (error) {
      if (isFieldsealError(error)) throw error
      if (signal.aborted) throw abortedError(PROVIDER, signal)
      const mapped = mapAwsError(error)
      // The SDK keeps credentials until they expire, also when AWS has refused them: core's next attempt fetches new ones.
      if (mapped.code === 'ERR_KMS_OPERATOR_CREDENTIALS') forgetClient()
      throw mapped
    }
    const { requestId } = answer.$metadata
    if (requestId !== undefined) answered?.({ requestId })
    return answer
  }

  async function resolve(request: KmsRequest): Promise<string> {
    if (pinned !== undefined) return pinned
    const { KeyMetadata } = await ask(request, (kms, options) =>
      kms.send(new DescribeKeyCommand({ KeyId: ref.address, GrantTokens }), options),
    )
    if (!isKeyArn(KeyMetadata?.Arn)) throw unexpected('DescribeKey named no key')
    return (pinned ??= KeyMetadata.Arn)
  }

  /** The ARN that a request names. Never an alias: it could move between two calls. */
  async function address(request: KmsRequest): Promise<string> {
    const canonical = await resolve(request)
    return ref.canonical === undefined ? canonical : ref.address
  }

  return {
    provider: PROVIDER,
    uri,
    credentialScope,
    facts: { bindsContext: true, authenticatesWrap: true, maxBlobBytes: MAX_BLOB_BYTES },

    canonicalUri: resolve,

    async wrap(key, request) {
      const KeyId = await address(request)
      const answer = await ask(request, (kms, options) =>
        kms.send(
          new EncryptCommand({
            KeyId,
            Plaintext: key.exposeBytes(),
            EncryptionContext: { ...request.context },
            GrantTokens,
          }),
          options,
        ),
      )
      assertKey(KeyId, answer.KeyId)
      // Encrypt does not say which key material it used; the first unwrap will.
      return { blob: blobOf(answer.CiphertextBlob), versionEvidence: 'unknown' }
    },

    async generate(request) {
      const KeyId = await address(request)
      const answer = await ask(
        request,
        (kms, options) =>
          kms.send(
            new GenerateDataKeyCommand({
              KeyId,
              KeySpec: 'AES_256',
              EncryptionContext: { ...request.context },
              GrantTokens,
            }),
            options,
          ),
        ({ Plaintext }) => Plaintext?.fill(0),
      )
      try {
        assertKey(KeyId, answer.KeyId)
        const wrap = wrapOf(answer.CiphertextBlob, answer.KeyMaterialId)
        if (answer.Plaintext?.length !== KEY_LENGTH) throw unexpected('a key of another length')
        return { key: new SecretKey(Uint8Array.from(answer.Plaintext)), wrap }
      } finally {
        answer.Plaintext?.fill(0)
      }
    },

    async unwrap({ blob }, request) {
      assertBlob(blob)
      const KeyId = await address(request)
      const answer = await ask(
        request,
        (kms, options) =>
          kms.send(
            new DecryptCommand({ KeyId, CiphertextBlob: blob, EncryptionContext: { ...request.context }, GrantTokens }),
            options,
          ),
        ({ Plaintext }) => Plaintext?.fill(0),
      )
      try {
        assertKey(KeyId, answer.KeyId)
        if (answer.Plaintext?.length !== KEY_LENGTH) throw invalidBlob('it holds no key of 32 bytes')
        return new SecretKey(Uint8Array.from(answer.Plaintext))
      } finally {
        answer.Plaintext?.fill(0)
      }
    },

    async rewrap({ blob }, request) {
      assertBlob(blob)
      const KeyId = await address(request)
      const context = { ...request.context }
      const answer = await ask(request, (kms, options) =>
        kms.send(
          new ReEncryptCommand({
            CiphertextBlob: blob,
            SourceKeyId: KeyId,
            SourceEncryptionContext: context,
            DestinationKeyId: KeyId,
            DestinationEncryptionContext: context,
            GrantTokens,
          }),
          options,
        ),
      )
      assertKey(KeyId, answer.SourceKeyId)
      assertKey(KeyId, answer.KeyId)
      return wrapOf(answer.CiphertextBlob, answer.DestinationKeyMaterialId)
    },

    async describe(request) {
      const KeyId = await address(request)
      const { KeyMetadata } = await ask(request, (kms, options) =>
        kms.send(new DescribeKeyCommand({ KeyId, GrantTokens }), options),
      )
      assertKey(KeyId, KeyMetadata?.Arn)
      const { KeyState, DeletionDate, CurrentKeyMaterialId } = KeyMetadata ?? {}
      return {
        state: (KeyState === undefined ? undefined : STATES[KeyState]) ?? 'unknown',
        ...(isMaterialId(CurrentKeyMaterialId) ? { currentVersion: CurrentKeyMaterialId } : {}),
        ...(DeletionDate === undefined ? {} : { deletesAt: DeletionDate }),
      }
    },
  }
}
