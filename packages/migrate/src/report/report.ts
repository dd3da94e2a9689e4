import { FieldsealError, type ErrorCode } from '@fieldseal/core/adapter'
import { adviceOn } from './advice.ts'

/** A row that a verb could not bring to its goal, by its key; never a value. */
export interface RowFailure {
  readonly key: string
  readonly tenant?: string
  readonly field?: string
  readonly code: ErrorCode
}

/** A tenant whose keys a verb could not bring to its goal, while it went on with those of the others. */
export interface TenantFailure {
  readonly tenant: string
  readonly keyspace?: string
  readonly code: ErrorCode
  /** What to do. */
  readonly hint: string
}

/** What a verb did to one model. Every row seen in the last pass is in exactly one of the counts from `unchanged` to `gone`, or was updated. */
export interface ModelReport {
  readonly model: string
  /** Walks over the table; a further one looks after rows that were written meanwhile. */
  readonly passes: number
  /** Rows seen in the last pass. */
  readonly rows: number
  /** Rows rewritten, in all passes. */
  readonly updated: number
  readonly unchanged: number
  /** Rows that cannot be opened, or are not what they should be. */
  readonly failed: number
  /** Rows whose key a customer or the configuration denies. */
  readonly denied: number
  /** Rows of shredded keyspaces: nothing can be done for them, and nothing needs to. */
  readonly erased: number
  /** Rows that somebody else changed at each attempt. */
  readonly changed: number
  /** Rows that were deleted, or done by somebody else, between reading and writing. */
  readonly gone: number
  /** Rows that are not yet what the verb makes of them, counted after the last pass. */
  readonly remaining: number
  /** Counts of the verb's own: `values`, `tokens`, `outdated`. */
  readonly counts: Readonly<Record<string, number>>
  /** The first of the rows that failed or are denied. */
  readonly failures: readonly RowFailure[]
}

export interface Report {
  readonly verb: string
  readonly tenant?: string
  readonly dryRun: boolean
  /** True when the job went on from a checkpoint. */
  readonly resumed: boolean
  readonly elapsedMs: number
  readonly models: readonly ModelReport[]
  /** Tenants whose keys stay as they were: those of data subjects after a `rewrap`, those of indexes after a `reindex`. */
  readonly failures: readonly TenantFailure[]
  /** Rows that remain, in all models. */
  readonly remaining: number
  /** What a dry run expects. */
  readonly estimatedMs?: number
  readonly notes: readonly string[]
}

/** The refusal of a verb that has not reached its goal; `reportOf` gives its report. */
export function rowsRemain(report: Report, hint: string): FieldsealError {
  const tenants = report.failures.length
  const error = new FieldsealError('ERR_ROWS_REMAIN', {
    operation: report.verb,
    ...(report.tenant === undefined ? {} : { tenant: report.tenant }),
    reason: `${report.remaining} rows${tenants === 0 ? '' : `, keys of ${tenants} ${tenants === 1 ? 'tenant' : 'tenants'}`}`,
    hint,
  })
  // Not enumerable: drivers and loggers copy an error's own properties.
  return Object.defineProperty(error, 'report', { value: report })
}

/** The report that a rejection with ERR_ROWS_REMAIN carries. */
export function reportOf(error: unknown): Report | undefined {
  return typeof error === 'object' && error !== null && 'report' in error ? (error.report as Report) : undefined // set by `rowsRemain` only
}

export function tenantFailure(error: FieldsealError, at: Pick<TenantFailure, 'tenant' | 'keyspace'>): TenantFailure {
  return { ...at, code: error.code, hint: adviceOn(error) ?? 'see what doctor says of this tenant' }
}
