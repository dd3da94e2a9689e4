import type { EncryptionContext } from '../context/encryption-context.ts'
import type { SecretKey } from './secret-key.ts'

/** One client of one KMS: sockets, credentials, an LRU of clients. Makes ports to single CMKs. */
export interface Kms<Options extends object = object> {
  /** The port to one CMK. Cheap, does no I/O. @throws FieldsealError ERR_CONFIG_INVALID when `uri` cannot name a CMK of this KMS */
  cmk(uri: string, options?: Options): Cmk
  /** Ends sockets and timers. Idempotent. */
  close?(): Promise<void>
}

/**
 * One customer-managed key in one KMS: wraps and unwraps KEKs, or DEKs in mode `direct`.
 *
 * An implementation must not cache, must not retry, and must translate every failure into a
 * `FieldsealError` with a KMS code (`kmsError`). Core does the rest: deadline, retries, breaker, concurrency.
 * An optional method is a capability.
 */
export interface Cmk {
  /** Written into every wrap, so it can never change. Lower-case, e.g. `aws-kms`. */
  readonly provider: string
  /** As configured; `canonicalUri()` when it may be an alias or a path. */
  readonly uri: string
  /** CMKs of one scope share client, breaker, concurrency and retry budget. */
  readonly credentialScope: string
  /** What core cannot see otherwise: whether the KMS itself authenticates the context and the wrap. */
  readonly facts: { readonly bindsContext: boolean; readonly authenticatesWrap: boolean; readonly maxBlobBytes: number }
  /** @throws FieldsealError kind `denied` when the KMS refuses, `unavailable` when it does not answer */
  wrap(key: SecretKey, request: KmsRequest): Promise<CmkWrap>
  /** @throws FieldsealError as `wrap`, and kind `corrupt` when the KMS says that `wrap` or `context` is wrong */
  unwrap(wrap: CmkWrap, request: KmsRequest): Promise<SecretKey>
  /** The name that is stored beside a wrap. Absent = `uri` is canonical. */
  canonicalUri?(request: KmsRequest): Promise<string>
  /** A new random key made by the KMS, with its wrap. Absent = core makes the key and calls `wrap`. */
  generate?(request: KmsRequest): Promise<{ readonly key: SecretKey; readonly wrap: CmkWrap }>
  /** Moves a key to the newest CMK version inside the KMS. Absent = core unwraps and wraps. */
  rewrap?(wrap: CmkWrap, request: KmsRequest): Promise<CmkWrap>
  describe?(request: KmsRequest): Promise<CmkDescription>
  /** May this CMK still be used? Never throws for a denial; moves no key material where the KMS can answer so. */
  probe?(wrap: CmkWrap | undefined, request: KmsRequest): Promise<'allowed' | 'denied' | 'unreachable'>
}

export interface KmsRequest {
  /** Authenticated with the wrap; a KMS may log it in clear. */
  readonly context: EncryptionContext
  /** Ends the call when its deadline has passed or its caller has gone. */
  readonly signal: AbortSignal
  /** To be called with the KMS's own id of its answer, where it has one: the audit trail names it beside a success. */
  answered?(facts: { readonly requestId: string }): void
}

/** A key encrypted under a CMK. Safe to store; only the KMS that made it can read `blob`. */
export interface CmkWrap {
  /** 1–6,144 bytes. */
  readonly blob: Uint8Array
  /** The CMK version that made `blob`, as far as the KMS tells. At most 64 UTF-8 bytes. A hint, not evidence. */
  readonly keyVersion?: string
  readonly versionEvidence: 'reported' | 'requested' | 'parsed' | 'unknown'
}

export type CmkState = 'enabled' | 'disabled' | 'pending-deletion' | 'destroyed' | 'pending-import' | 'unknown'

export interface CmkDescription {
  readonly state: CmkState
  readonly currentVersion?: string
  readonly deletesAt?: Date
}
