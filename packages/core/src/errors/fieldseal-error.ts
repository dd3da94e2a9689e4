import { ERROR_CODES, type Disposition, type ErrorCode, type ErrorKind, type KmsErrorCode } from './codes.ts'

/** The only facts an error may carry. A closed list, so that a plaintext cannot ride along. */
export interface ErrorDetails {
  readonly tenant?: string
  readonly model?: string
  /** Field path, index id or the name of the option at fault; never a value. */
  readonly field?: string
  readonly operation?: string
  /** Lower-case hex of the KEK's 12-byte id. */
  readonly kekId?: string
  readonly provider?: string
  /** The vendor's error name, never its text: that names principals and key ARNs. */
  readonly vendorCode?: string
  readonly requestId?: string
  /** Why, from a closed list of names or in a few words; never a value. */
  readonly reason?: string
  /** What to do instead. */
  readonly hint?: string
}

const brand: unique symbol = Symbol.for('@fieldseal/core:error') as never

/**
 * The one error class of the family. `kind` says what a caller can do; `code` what happened.
 *
 * Its text and details never hold a value, key, token, ciphertext or a KMS vendor's message.
 */
export class FieldsealError extends Error {
  // On the prototype: drivers that copy an error's own properties fail on an own `name`.
  static {
    Object.defineProperty(this.prototype, 'name', { value: 'FieldsealError', configurable: true, writable: true })
    Object.defineProperty(this.prototype, brand, { value: true })
  }
  readonly code: ErrorCode
  readonly kind: ErrorKind
  readonly details: ErrorDetails
  /** Milliseconds after which asking again makes sense; only where known. */
  readonly retryAfterMs?: number

  constructor(code: ErrorCode, details: ErrorDetails = {}, retryAfterMs?: number) {
    super(messageOf(code, details))
    this.code = code
    this.kind = ERROR_CODES[code].kind
    this.details = Object.freeze({ ...details })
    if (retryAfterMs !== undefined) this.retryAfterMs = retryAfterMs
  }
}

function messageOf(code: ErrorCode, details: ErrorDetails): string {
  const where = [details.model, details.field].filter(Boolean).join('.')
  const text =
    details.reason === undefined ? ERROR_CODES[code].summary : `${ERROR_CODES[code].summary} (${details.reason})`
  const head = where === '' ? code : `${code} ${where}`
  return details.hint === undefined ? `${head}: ${text}` : `${head}: ${text}; hint: ${details.hint}`
}

/** `instanceof` breaks when the ESM and CommonJS copies of core meet; this does not. */
export function isFieldsealError(value: unknown): value is FieldsealError {
  return typeof value === 'object' && value !== null && brand in value
}

/** What the key cache does about `error`; anything unclassified is treated as "no answer". */
export function dispositionOf(error: unknown): Disposition {
  return isFieldsealError(error) ? ERROR_CODES[error.code].disposition : 'serve-stale'
}

/** A classified failure of a KMS, for authors of providers: the disposition follows from the code. */
export function kmsError(
  code: KmsErrorCode,
  details: Pick<ErrorDetails, 'provider' | 'vendorCode' | 'requestId' | 'reason' | 'hint'>,
  retryAfterMs?: number,
): FieldsealError {
  return new FieldsealError(code, details, retryAfterMs)
}
