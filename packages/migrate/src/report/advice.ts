import { FieldsealError, isFieldsealError } from '@fieldseal/core/adapter'

const AGAIN = 'then run the same command again: it goes on from where it is'
const UP = `see that it runs and can be reached, ${AGAIN}`

const ALTERED = new Set([
  'ERR_KEY_RECORD_INVALID',
  'ERR_KEY_NOT_FOUND',
  'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID',
  'ERR_KMS_WRONG_KEY',
  'ERR_INDEX_UNKNOWN',
])
const RESTORE = `restore the record from a backup of the key store, if somebody has edited or removed it, ${AGAIN}`

interface Failure {
  readonly reason: string
  readonly hint: string
}

/** By SQLSTATE, or by MongoDB's number of an error. The first that matches counts. */
const SAID: readonly (readonly [RegExp, Failure])[] = [
  [/^(?:53100|14031)$/, { reason: 'its disk is full', hint: `make room there, ${AGAIN}` }],
  [/^53300$/, { reason: 'it takes no more connections', hint: `close some, or lower --concurrency, ${AGAIN}` }],
  [/^53\w{3}$/, { reason: 'it lacks memory or another resource', hint: `look at its log, ${AGAIN}` }],
  [/^(?:25006|10107|13435)$/, { reason: 'it is read-only', hint: `connect to the primary, ${AGAIN}` }],
  [/^58\w{3}$/, { reason: 'it cannot read or write its files', hint: `look at its log, ${AGAIN}` }],
  [
    /^(?:57014|55P03|50)$/,
    {
      reason: 'a statement met its time limit',
      hint: `raise statement_timeout and lock_timeout for this role, or lower --batch, ${AGAIN}`,
    },
  ],
  [/^40(?:001|P01)$/, { reason: 'others write the same rows, again and again', hint: `lower --batch, ${AGAIN}` }],
  [/^(?:57P\d\d|91|11600|11602|189)$/, { reason: 'it is shutting down or restarting', hint: UP }],
  [
    /^08P01$/,
    {
      reason: 'a pooler in front of it, such as PgBouncer, refused or lost the connection',
      hint: `the log of the pooler says why, ${AGAIN}`,
    },
  ],
  [/^(?:08\w{3}|6|7|89|9001)$/, { reason: 'the connection failed', hint: UP }],
]

const NETWORK = /^(?:ECONN\w+|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EPIPE)$/
/** Errors without a code, of drivers that have lost their server; TypeORM's when that was between two statements. */
const LOST_NAME =
  /^(?:Mongo(?:ose)?(?:Network|ServerSelection|PoolCleared|NotConnected|Topology)\w*|QueryRunnerAlreadyReleased)Error$/
const LOST_TEXT =
  /^(?:Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection)/

/**
 * What a verb ends with when a service has let it down: an error of ours that says what to do. A database that has gone, is
 * full or takes no writes is told as ERR_DATABASE_UNAVAILABLE; what is no failure of a service comes back as it is.
 */
export function advised(error: unknown, operation?: string): unknown {
  const during = operation === undefined ? {} : { operation }
  if (!isFieldsealError(error)) {
    const failure = failureOf(error)
    return failure === undefined ? error : new FieldsealError('ERR_DATABASE_UNAVAILABLE', { ...during, ...failure })
  }
  const { code, kind, details, retryAfterMs } = error
  if (details.hint !== undefined) return error
  if (kind === 'denied' && code.startsWith('ERR_KMS_'))
    return new FieldsealError(code, { ...during, ...details, hint: `have its owner allow it, ${AGAIN}` })
  if (code === 'ERR_TENANT_MISSING')
    return new FieldsealError(code, { ...during, ...details, hint: 'name the tenant: --tenant, or { tenant }' })
  if (ALTERED.has(code)) return new FieldsealError(code, { ...during, ...details, hint: RESTORE })
  if (kind !== 'unavailable') return error
  const said = saidBy(details.vendorCode ?? '')
  return new FieldsealError(code, { ...during, hint: UP, ...said, ...details }, retryAfterMs)
}

/** What to do about an error of ours. */
export function adviceOn(error: FieldsealError): string | undefined {
  const told = advised(error)
  return isFieldsealError(told) ? told.details.hint : undefined
}

function failureOf(error: unknown): (Failure & { readonly vendorCode?: string }) | undefined {
  if (!(error instanceof Error)) return undefined
  if (error instanceof AggregateError) return error.errors.map(failureOf).find((found) => found !== undefined)
  const { name, message } = error
  const given: unknown = 'code' in error ? error.code : undefined
  // MongoDB's numbers are small ones, which others use too.
  const code = typeof given === 'string' || name.startsWith('Mongo') ? String(given) : ''
  if (NETWORK.test(code)) return { reason: `the connection${placeOf(error)} failed`, hint: UP, vendorCode: code }
  const said = saidBy(code)
  if (said !== undefined) return { ...said, vendorCode: code }
  return LOST_NAME.test(name) || LOST_TEXT.test(message) ? { reason: 'the connection failed', hint: UP } : undefined
}

/** What Node tells of the other end. */
function placeOf(error: Error): string {
  const { address, hostname, port } = error as NodeJS.ErrnoException & Record<string, unknown>
  const host = hostname ?? address
  if (typeof host !== 'string') return ''
  return ` to ${host}${typeof port === 'number' ? `:${port}` : ''}`
}

function saidBy(code: string): Failure | undefined {
  return SAID.find(([pattern]) => pattern.test(code))?.[1]
}
