/** What a caller can do about an error; a catch block switches on this and nothing else. */
export type ErrorKind = 'unavailable' | 'denied' | 'erased' | 'corrupt' | 'misuse' | 'refused'

/**
 * What the key cache does with a cached key when asking for it again ends in this error.
 *
 * - `revoke`: an authoritative denial; the key is purged now and the denial remembered for some seconds.
 * - `serve-stale`: no answer; the cached key may be used until its hard limit.
 * - `fail`: this blob or request is bad; the cache is left alone.
 * - `fatal`: a fault of the program or its deployment; the cache is left alone.
 */
export type Disposition = 'revoke' | 'serve-stale' | 'fail' | 'fatal'

interface CodeFacts {
  readonly kind: ErrorKind
  readonly disposition: Disposition
  /** How often core repeats a call to a KMS that ended so, beyond the first attempt and within the deadline. */
  readonly retries: number
  readonly summary: string
}

/** Every code the family can throw. Kind, disposition, retry advice and text stand in one place, so that they cannot disagree. */
export const ERROR_CODES = {
  ERR_CONFIG_INVALID: row('misuse', 'fatal', 0, 'an option is missing, contradictory or out of range'),
  ERR_ARGUMENT_INVALID: row('misuse', 'fatal', 0, 'an argument has the wrong type or is out of range'),
  ERR_CLOSED: row('misuse', 'fatal', 0, 'this Fieldseal has been closed'),

  ERR_TENANT_MISSING: row('misuse', 'fatal', 0, 'no tenant: call inside fieldseal.runAs({ tenant }, …)'),
  ERR_TENANT_MISMATCH: row('misuse', 'fail', 0, 'the row belongs to another tenant than the one this code runs as'),
  ERR_TENANT_UNKNOWN: row('denied', 'revoke', 0, 'the key registry knows no such tenant'),
  ERR_REGISTRY_UNAVAILABLE: row('unavailable', 'serve-stale', 0, 'the key registry did not answer'),

  ERR_VALUE_INVALID: row('misuse', 'fail', 0, 'the value does not fit the type or the limits of its field'),
  ERR_PLAINTEXT_BLOCKED: row('refused', 'fail', 0, 'an encrypted field was about to leave this process unencrypted'),
  ERR_QUERY_UNSUPPORTED: row('refused', 'fail', 0, 'this query cannot be answered on an encrypted field'),
  ERR_WRITE_UNSUPPORTED: row('refused', 'fail', 0, 'this write cannot be protected'),
  ERR_UNREADABLE_VALUE: row('refused', 'fail', 0, 'a value that could not be opened cannot be written back'),

  ERR_ENVELOPE_MALFORMED: row('corrupt', 'fail', 0, 'the stored value is not an envelope'),
  ERR_ENVELOPE_VERSION: row(
    'corrupt',
    'fail',
    0,
    'the stored value was written by a newer version or with a suite this version does not know',
  ),
  ERR_LAYOUT_REFUSED: row('corrupt', 'fail', 0, 'the stored value has a layout that its model does not accept'),
  ERR_DECRYPT_FAILED: row('corrupt', 'fail', 0, 'authentication failed'),
  ERR_PLAINTEXT_FOUND: row('corrupt', 'fail', 0, 'plaintext or a database NULL stands where only an envelope may'),
  ERR_TOKEN_MISMATCH: row('corrupt', 'fail', 0, 'a blind-index token does not belong to the value beside it'),

  ERR_KEY_NOT_FOUND: row(
    'corrupt',
    'revoke',
    0,
    'the key store holds no key with this id for this tenant and keyspace',
  ),
  ERR_KEY_RETIRED: row('denied', 'revoke', 0, 'the key is retired or denied by configuration'),
  ERR_KEY_ERASED: row('erased', 'revoke', 0, 'the key was destroyed: the data is erased'),
  ERR_KEY_MISSING: row('misuse', 'fail', 0, 'no key exists yet and none can be made here'),
  ERR_KEY_RECORD_INVALID: row('corrupt', 'fail', 0, 'a key record is malformed, altered or belongs elsewhere'),
  ERR_KEY_CHANGED: row('corrupt', 'revoke', 0, 'the KMS returned another key than before for the same record'),
  ERR_KEY_STORE_UNAVAILABLE: row('unavailable', 'serve-stale', 0, 'the key store did not answer'),
  ERR_DATABASE_UNAVAILABLE: row('unavailable', 'serve-stale', 0, 'the database did not answer, or could not write'),
  ERR_ACTIVATION_REFUSED: row('refused', 'fail', 0, 'the CMK did not prove that it protects keys of this tenant'),
  ERR_AUDIT_UNAVAILABLE: row('unavailable', 'fail', 0, 'the audit sink did not take the entry of a privileged act'),
  ERR_INDEX_COLLISION: row(
    'refused',
    'fail',
    0,
    'a unique index, or another constraint of the database, does not let the row in',
  ),
  ERR_INDEX_UNKNOWN: row('refused', 'fail', 0, 'a live blind index is not described by the annotation'),

  ERR_ROWS_REMAIN: row(
    'refused',
    'fail',
    0,
    'rows, or keys of tenants, remain that the verb could not bring to its goal',
  ),
  ERR_KEY_NEEDED: row('refused', 'fail', 0, 'rows, keys or indexes still need the key'),
  ERR_KEY_STATE_REFUSED: row('refused', 'fail', 0, 'a key cannot go from the state it is in to the one asked for'),
  ERR_PLAN_OUTDATED: row('refused', 'fail', 0, 'the state has changed since the plan was made'),
  ERR_PLAN_REFUSED: row('refused', 'fail', 0, 'the plan cannot be applied now'),
  ERR_CHECKPOINT_MISMATCH: row('refused', 'fail', 0, 'a checkpoint of this job was made under another configuration'),
  ERR_CHECKPOINT_TAKEN: row('refused', 'fail', 0, 'another process has taken over this job'),

  ERR_KMS_ACCESS_DENIED: row('denied', 'revoke', 0, 'the KMS refused this caller or this context'),
  ERR_KMS_KEY_DISABLED: row('denied', 'revoke', 0, 'the CMK is disabled'),
  ERR_KMS_KEY_PENDING_DELETION: row('denied', 'revoke', 0, 'the CMK is scheduled for deletion'),
  ERR_KMS_KEY_DESTROYED: row('denied', 'revoke', 0, 'the CMK or the version that made this wrap is destroyed'),
  ERR_KMS_KEY_NOT_FOUND: row('denied', 'revoke', 0, 'the KMS knows no such CMK'),
  ERR_KMS_KEY_PENDING_IMPORT: row('denied', 'revoke', 0, 'the CMK has no key material'),
  ERR_KMS_VERSION_RETIRED: row('denied', 'revoke', 0, 'the CMK version that made this wrap is switched off'),
  ERR_KMS_EXTERNAL_KEY_DENIED: row('denied', 'revoke', 0, 'the external key manager refused'),
  ERR_KMS_TENANT_CREDENTIALS_DENIED: row('denied', 'revoke', 0, 'the tenant no longer lets us use its credentials'),
  ERR_KMS_WRONG_KEY: row('corrupt', 'fail', 0, 'the wrap was made by another CMK'),
  ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID: row('corrupt', 'fail', 0, 'the KMS refused the wrapped key or its context'),
  ERR_KMS_INTEGRITY_FAILED: row('unavailable', 'serve-stale', 2, 'a checksum of the KMS traffic did not match'),
  ERR_KMS_THROTTLED: row('unavailable', 'serve-stale', 2, 'the KMS throttled us'),
  ERR_KMS_UNAVAILABLE: row(
    'unavailable',
    'serve-stale',
    1,
    'the KMS could not be reached or answered with a server error',
  ),
  ERR_KMS_EXTERNAL_KEY_UNREACHABLE: row('unavailable', 'serve-stale', 1, 'the external key manager did not answer'),
  ERR_KMS_TIMEOUT: row('unavailable', 'serve-stale', 1, 'the KMS did not answer in time'),
  ERR_KMS_NETWORK: row('unavailable', 'serve-stale', 1, 'the connection to the KMS failed'),
  ERR_KMS_ABORTED: row('unavailable', 'fail', 0, 'the call was aborted'),
  ERR_KMS_OPERATOR_CREDENTIALS: row(
    'unavailable',
    'serve-stale',
    1,
    'our own credentials for the KMS are missing or expired',
  ),
  ERR_KMS_CLOCK_SKEW: row('unavailable', 'serve-stale', 1, 'the KMS refused our clock'),
  ERR_KMS_CONFIG: row(
    'misuse',
    'fatal',
    0,
    'the KMS refused the request itself: a CMK of the wrong kind, or one that is not configured for this tenant',
  ),
  ERR_KMS_CONTEXT_INVALID: row(
    'misuse',
    'fatal',
    0,
    'the encryption context breaks the limits that hold for every KMS',
  ),
  ERR_KMS_UNKNOWN: row('unavailable', 'serve-stale', 0, 'the KMS failed in a way that is not classified'),
} as const satisfies Record<`ERR_${string}`, CodeFacts>

export type ErrorCode = keyof typeof ERROR_CODES

/** The codes that a KMS may throw. */
export type KmsErrorCode = Extract<ErrorCode, `ERR_KMS_${string}`>

function row<K extends ErrorKind>(kind: K, disposition: Disposition, retries: number, summary: string) {
  return { kind, disposition, retries, summary }
}
