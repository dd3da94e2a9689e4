import { type FieldsealError, type KmsErrorCode, kmsError, memberOf, textIn } from '@fieldseal/core/kms'

export const PROVIDER = 'gcp-kms'

/** A failure while getting credentials, before anything was asked of the KMS. */
export class CredentialsFailure extends Error {
  readonly failure: unknown
  /** Of one CMK's own credentials, so usually of a service account of the tenant. */
  readonly ofTenant: boolean

  constructor(failure: unknown, ofTenant: boolean) {
    super('no credentials')
    this.failure = failure
    this.ofTenant = ofTenant
  }
}

/** google.rpc.Code; the numbers are part of the protocol. */
const BY_STATUS: Readonly<Record<number, KmsErrorCode>> = {
  1: 'ERR_KMS_UNAVAILABLE',
  2: 'ERR_KMS_UNAVAILABLE',
  3: 'ERR_KMS_CONFIG',
  4: 'ERR_KMS_TIMEOUT',
  5: 'ERR_KMS_KEY_NOT_FOUND',
  7: 'ERR_KMS_ACCESS_DENIED',
  8: 'ERR_KMS_THROTTLED',
  9: 'ERR_KMS_UNAVAILABLE',
  10: 'ERR_KMS_UNAVAILABLE',
  11: 'ERR_KMS_CONFIG',
  12: 'ERR_KMS_CONFIG',
  13: 'ERR_KMS_UNAVAILABLE',
  14: 'ERR_KMS_UNAVAILABLE',
  15: 'ERR_KMS_UNAVAILABLE',
  16: 'ERR_KMS_OPERATOR_CREDENTIALS',
}

const NETWORK =
  /ECONNRESET|ECONNREFUSED|EPIPE|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|Name resolution failed|Connection dropped|socket hang up/
const CERTIFICATE =
  /self-signed certificate|unable to (verify|get)|certificate has expired|does not match certificate|CERT_|DEPTH_ZERO_SELF_SIGNED|ERR_TLS_/

/**
 * The code for anything that Google's client throws; total, and pure. The vendor throws plain errors: only the number in
 * `code`, the details and the text tell.
 * @see https://cloud.google.com/kms/docs/reference/ekm_errors for the violations of external keys
 */
export function gcpCodeOf(error: unknown): KmsErrorCode {
  if (error instanceof CredentialsFailure) return credentialsCodeOf(error)
  const status = memberOf(error, 'code')
  const message = textIn(error, 'message')
  if (typeof status !== 'number') return codeWithoutStatus(error, message)
  switch (status) {
    case 3:
      if (/checksum|crc32c/i.test(message)) return 'ERR_KMS_INTEGRITY_FAILED'
      return /Decryption failed|ciphertext is invalid/i.test(message)
        ? 'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID'
        : 'ERR_KMS_CONFIG'
    case 7:
      // The one reason that is always about our own project, never about the tenant's.
      return memberOf(error, 'reason') === 'USER_PROJECT_DENIED' ? 'ERR_KMS_CONFIG' : 'ERR_KMS_ACCESS_DENIED'
    case 8:
      return /message larger than/i.test(message) ? 'ERR_KMS_INTEGRITY_FAILED' : 'ERR_KMS_THROTTLED'
    case 9:
      return preconditionCodeOf(violationsOf(error), message)
    case 14:
      if (CERTIFICATE.test(message)) return 'ERR_KMS_CONFIG'
      return NETWORK.test(message) ? 'ERR_KMS_NETWORK' : 'ERR_KMS_UNAVAILABLE'
    default:
      return BY_STATUS[status] ?? 'ERR_KMS_UNKNOWN'
  }
}

function preconditionCodeOf(violations: readonly string[], message: string): KmsErrorCode {
  const has = (pattern: RegExp) => violations.some((type) => pattern.test(type))
  const state = /current state is: (\w+)/.exec(message)?.[1] ?? ''
  if (has(/^KEY_DISABLED$/) || state === 'DISABLED') return 'ERR_KMS_KEY_DISABLED'
  if (has(/^KEY_DESTROY_SCHEDULED$/) || state === 'DESTROY_SCHEDULED') return 'ERR_KMS_KEY_PENDING_DELETION'
  if (has(/^KEY_DESTROYED$/) || state.startsWith('DESTROY')) return 'ERR_KMS_KEY_DESTROYED'
  if (has(/PERMISSION_DENIED$|KEY_NOT_FOUND$|JUSTIFICATION/)) return 'ERR_KMS_EXTERNAL_KEY_DENIED'
  if (has(/^EXTERNAL_|^EKM_/)) return 'ERR_KMS_EXTERNAL_KEY_UNREACHABLE'
  // Being generated or imported, and what we do not know: no answer for now.
  return 'ERR_KMS_UNAVAILABLE'
}

/** Errors before a call was made: of google-auth-library, of the network, ours. */
function codeWithoutStatus(error: unknown, message: string): KmsErrorCode {
  const text = `${textIn(error, 'code')} ${message}`
  if (textIn(error, 'name') === 'AbortError') return 'ERR_KMS_ABORTED'
  if (CERTIFICATE.test(text)) return 'ERR_KMS_CONFIG'
  if (NETWORK.test(text)) return 'ERR_KMS_NETWORK'
  if (/ETIMEDOUT|ESOCKETTIMEDOUT/.test(text) || textIn(error, 'name') === 'TimeoutError') return 'ERR_KMS_TIMEOUT'
  return /default credentials|invalid_grant|unable to impersonate|credential|access token/i.test(message)
    ? 'ERR_KMS_OPERATOR_CREDENTIALS'
    : 'ERR_KMS_UNKNOWN'
}

/** A token service that refuses to give us the tenant's account is the tenant's refusal; one that is down is not. */
function credentialsCodeOf({ failure, ofTenant }: CredentialsFailure): KmsErrorCode {
  const status = httpStatusOf(failure)
  if (status === 429) return 'ERR_KMS_THROTTLED'
  if (status !== undefined && status >= 500) return 'ERR_KMS_UNAVAILABLE'
  if (ofTenant && (status === 403 || status === 404)) return 'ERR_KMS_TENANT_CREDENTIALS_DENIED'
  const code = codeWithoutStatus(failure, textIn(failure, 'message'))
  return code === 'ERR_KMS_UNKNOWN' || status !== undefined ? 'ERR_KMS_OPERATOR_CREDENTIALS' : code
}

/** The error that core sees: code and the vendor's numbers and names for it, none of its text. */
export function mapGcpError(error: unknown): FieldsealError {
  return kmsError(gcpCodeOf(error), { provider: PROVIDER, vendorCode: vendorCodeOf(error) })
}

/** `grpc:9/KEY_DISABLED`, `http:403`, or `none`. */
function vendorCodeOf(error: unknown): string {
  const failure = error instanceof CredentialsFailure ? error.failure : error
  const http = httpStatusOf(failure)
  if (error instanceof CredentialsFailure && http !== undefined) return `http:${http}`
  const status = memberOf(failure, 'code')
  if (typeof status !== 'number' || !Number.isSafeInteger(status))
    return /^[A-Z][A-Z0-9_]{2,40}$/.test(textIn(failure, 'code')) ? textIn(failure, 'code') : 'none'
  const detail = [...violationsOf(failure), textIn(failure, 'reason')].find((name) =>
    /^[A-Z][A-Z0-9_]{1,62}$/.test(name),
  )
  return detail === undefined ? `grpc:${status}` : `grpc:${status}/${detail}`
}

function httpStatusOf(error: unknown): number | undefined {
  const status = memberOf(error, 'status') ?? memberOf(memberOf(error, 'response'), 'status')
  return typeof status === 'number' ? status : undefined
}

/** The types of all google.rpc.PreconditionFailure violations. */
function violationsOf(error: unknown): readonly string[] {
  return listIn(error, 'statusDetails').flatMap((detail) =>
    listIn(detail, 'violations').map((violation) => textIn(violation, 'type')),
  )
}

function listIn(value: unknown, member: string): readonly unknown[] {
  const list = memberOf(value, member)
  try {
    return Array.isArray(list) ? [...list] : []
  } catch {
    return []
  }
}
