import { type FieldsealError, type KmsErrorCode, kmsError, memberOf, textIn } from '@fieldseal/core/kms'

export const PROVIDER = 'aws-kms'

/** A failure while getting credentials, before anything was asked of the KMS. */
export class CredentialsFailure extends Error {
  readonly failure: unknown
  /** Of one CMK's own credentials, so usually of a role in the tenant's account. */
  readonly ofTenant: boolean

  constructor(failure: unknown, ofTenant: boolean) {
    super('no credentials')
    this.failure = failure
    this.ofTenant = ofTenant
  }
}

/** Names that the SDK takes for throttling, but for LimitExceededException: in KMS that one is a quota of resources. */
const THROTTLED = new Set([
  'BandwidthLimitExceeded',
  'EC2ThrottledException',
  'PriorRequestNotComplete',
  'ProvisionedThroughputExceededException',
  'RequestLimitExceeded',
  'RequestThrottled',
  'RequestThrottledException',
  'SlowDown',
  'ThrottledException',
  'Throttling',
  'ThrottlingException',
  'TooManyRequestsException',
  'TransactionInProgressException',
])

/** AWS answers every fault of a client with HTTP 400: only the name tells. */
const BY_NAME: Readonly<Record<string, KmsErrorCode>> = {
  AbortError: 'ERR_KMS_ABORTED',
  TimeoutError: 'ERR_KMS_TIMEOUT',
  ExpiredTokenException: 'ERR_KMS_OPERATOR_CREDENTIALS',
  ExpiredToken: 'ERR_KMS_OPERATOR_CREDENTIALS',
  UnrecognizedClientException: 'ERR_KMS_OPERATOR_CREDENTIALS',
  InvalidClientTokenId: 'ERR_KMS_OPERATOR_CREDENTIALS',
  MissingAuthenticationToken: 'ERR_KMS_OPERATOR_CREDENTIALS',
  MissingAuthenticationTokenException: 'ERR_KMS_OPERATOR_CREDENTIALS',
  IncompleteSignature: 'ERR_KMS_OPERATOR_CREDENTIALS',
  IncompleteSignatureException: 'ERR_KMS_OPERATOR_CREDENTIALS',
  CredentialsProviderError: 'ERR_KMS_OPERATOR_CREDENTIALS',
  TokenProviderError: 'ERR_KMS_OPERATOR_CREDENTIALS',
  RequestExpired: 'ERR_KMS_CLOCK_SKEW',
  RequestTimeTooSkewed: 'ERR_KMS_CLOCK_SKEW',
  AccessDeniedException: 'ERR_KMS_ACCESS_DENIED',
  NotFoundException: 'ERR_KMS_KEY_NOT_FOUND',
  IncorrectKeyException: 'ERR_KMS_WRONG_KEY',
  InvalidCiphertextException: 'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID',
  InvalidKeyUsageException: 'ERR_KMS_CONFIG',
  InvalidGrantTokenException: 'ERR_KMS_CONFIG',
  ValidationException: 'ERR_KMS_CONFIG',
  InvalidArnException: 'ERR_KMS_CONFIG',
  UnsupportedOperationException: 'ERR_KMS_CONFIG',
  UnknownOperationException: 'ERR_KMS_CONFIG',
  SerializationException: 'ERR_KMS_CONFIG',
  LimitExceededException: 'ERR_KMS_CONFIG',
  KeyUnavailableException: 'ERR_KMS_UNAVAILABLE',
  DependencyTimeoutException: 'ERR_KMS_UNAVAILABLE',
  KMSInternalException: 'ERR_KMS_UNAVAILABLE',
  InternalFailure: 'ERR_KMS_UNAVAILABLE',
  ServiceUnavailable: 'ERR_KMS_UNAVAILABLE',
  ServiceUnavailableException: 'ERR_KMS_UNAVAILABLE',
  // An answer that is not what AWS sends: cut, altered or not from AWS at all.
  SyntaxError: 'ERR_KMS_INTEGRITY_FAILED',
  ResponseTooLarge: 'ERR_KMS_INTEGRITY_FAILED',
}

const NETWORK =
  /^(ECONNRESET|ECONNREFUSED|ECONNABORTED|EPIPE|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|EPROTO|UND_ERR_SOCKET|ERR_STREAM_PREMATURE_CLOSE|HPE_\w+)$/
const TIMEOUT = /^(ETIMEDOUT|ESOCKETTIMEDOUT|UND_ERR_CONNECT_TIMEOUT)$/
const CERTIFICATE = /^(CERT_|UNABLE_TO_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT|ERR_TLS_|HOSTNAME_MISMATCH)/

/**
 * The code for anything that the SDK throws; total, and pure.
 * @see https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html for the texts of a key's states
 */
export function awsCodeOf(error: unknown): KmsErrorCode {
  if (error instanceof CredentialsFailure) return credentialsCodeOf(error)
  const name = textIn(error, 'name')
  const message = textIn(error, 'message')
  if (name === 'DisabledException')
    return /pending (replica )?deletion/.test(message) ? 'ERR_KMS_KEY_PENDING_DELETION' : 'ERR_KMS_KEY_DISABLED'
  if (name === 'KMSInvalidStateException') return stateCodeOf(message)
  if (name === 'InvalidSignatureException' || name === 'SignatureDoesNotMatch') {
    return /expired|not yet/i.test(message) ? 'ERR_KMS_CLOCK_SKEW' : 'ERR_KMS_OPERATOR_CREDENTIALS'
  }
  const system = textIn(error, 'code')
  if (NETWORK.test(system)) return 'ERR_KMS_NETWORK'
  if (TIMEOUT.test(system)) return 'ERR_KMS_TIMEOUT'
  // What the SDK's endpoint rules say, without a name.
  if (CERTIFICATE.test(system) || message.startsWith('Invalid Configuration')) return 'ERR_KMS_CONFIG'
  const status =
    memberOf(memberOf(error, '$metadata'), 'httpStatusCode') ?? memberOf(memberOf(error, '$response'), 'statusCode')
  const failed = typeof status === 'number' && status >= 500
  // A proxy's page about an outage is no JSON either.
  if (name === 'SyntaxError' && failed) return 'ERR_KMS_UNAVAILABLE'
  const known = Object.hasOwn(BY_NAME, name) ? BY_NAME[name] : undefined
  if (known !== undefined) return known
  if (THROTTLED.has(name) || status === 429) return 'ERR_KMS_THROTTLED'
  return failed ? 'ERR_KMS_UNAVAILABLE' : 'ERR_KMS_UNKNOWN'
}

/** The text is all that tells the states apart, and all that a custom key store says. */
function stateCodeOf(message: string): KmsErrorCode {
  if (/pending (replica )?deletion/.test(message)) return 'ERR_KMS_KEY_PENDING_DELETION'
  if (/pending import/.test(message)) return 'ERR_KMS_KEY_PENDING_IMPORT'
  if (/is (creating|updating)/.test(message)) return 'ERR_KMS_UNAVAILABLE'
  return /access denied|not found|disabled/i.test(message)
    ? 'ERR_KMS_EXTERNAL_KEY_DENIED'
    : 'ERR_KMS_EXTERNAL_KEY_UNREACHABLE'
}

/** A refusal to give us the tenant's role is the tenant's; everything else that denies is about our own credentials. */
function credentialsCodeOf({ failure, ofTenant }: CredentialsFailure): KmsErrorCode {
  const name = textIn(failure, 'name')
  if (name === 'AccessDenied' || name === 'AccessDeniedException')
    return ofTenant ? 'ERR_KMS_TENANT_CREDENTIALS_DENIED' : 'ERR_KMS_OPERATOR_CREDENTIALS'
  const code = awsCodeOf(failure)
  return [
    'ERR_KMS_NETWORK',
    'ERR_KMS_TIMEOUT',
    'ERR_KMS_THROTTLED',
    'ERR_KMS_UNAVAILABLE',
    'ERR_KMS_ABORTED',
    'ERR_KMS_CLOCK_SKEW',
  ].includes(code)
    ? code
    : 'ERR_KMS_OPERATOR_CREDENTIALS'
}

const MAX_RETRY_AFTER_MS = 60_000

/** The error that core sees: code, the vendor's name for it and the request's id; none of the vendor's text. */
export function mapAwsError(error: unknown): FieldsealError {
  const cause = error instanceof CredentialsFailure ? error.failure : error
  const vendorCode = [textIn(cause, 'name'), textIn(cause, 'code')].find(
    (name) => /^[A-Z][A-Za-z0-9_]{2,63}$/.test(name) && name !== 'Error',
  )
  const requestId = textIn(memberOf(cause, '$metadata'), 'requestId')
  return kmsError(
    awsCodeOf(error),
    {
      provider: PROVIDER,
      ...(vendorCode === undefined ? {} : { vendorCode }),
      ...(/^[\w-]{1,64}$/.test(requestId) ? { requestId } : {}),
    },
    retryAfterMs(cause),
  )
}

function retryAfterMs(error: unknown): number | undefined {
  const header = memberOf(memberOf(memberOf(error, '$response'), 'headers'), 'retry-after')
  const seconds = typeof header === 'string' && /^\d{1,6}$/.test(header) ? Number(header) : undefined
  return seconds === undefined ? undefined : Math.min(seconds * 1_000, MAX_RETRY_AFTER_MS)
}
