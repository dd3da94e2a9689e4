import { setTimeout as sleep } from 'node:timers/promises'
import { FieldsealError } from '@fieldseal/core/adapter'

/** Where a verb is, for a progress bar. */
export interface Progress {
  readonly verb: string
  readonly model: string
  readonly pass: number
  readonly rows: number
  /** Rows of the table as counted at the beginning; undefined where nobody knows. */
  readonly total: number | undefined
  readonly updated: number
  readonly rowsPerSecond: number
  readonly etaMs: number | undefined
}

/** How fast a verb goes, and how it is stopped. */
export interface Pace {
  /** Rows read and written together. @defaultValue 500 */
  readonly batchSize?: number
  /** Batches under way at once. @defaultValue 2 */
  readonly concurrency?: number
  /** @defaultValue unlimited */
  readonly rowsPerSecond?: number
  /** Shard i of n, counted from 1: n processes share a table. */
  readonly shard?: readonly [number, number]
  /** Counts and estimates, writes nothing. @defaultValue false */
  readonly dryRun?: boolean
  /** Begins anew although a checkpoint is there. @defaultValue false */
  readonly restart?: boolean
  /** Stops after the batches under way; the checkpoint is kept. */
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: Progress) => void
}

export const DEFAULTS = {
  /** One statement of a few hundred kilobytes, some milliseconds of cipher work. */
  batchSize: 500,
  /** One batch is read while another is written. */
  concurrency: 2,
} as const

/** @throws FieldsealError ERR_ARGUMENT_INVALID naming the option */
export function checkedPace(pace: Pace): Pace & { readonly batchSize: number; readonly concurrency: number } {
  const { batchSize = DEFAULTS.batchSize, concurrency = DEFAULTS.concurrency, rowsPerSecond, shard } = pace
  between('batchSize', batchSize, 1, 10_000)
  between('concurrency', concurrency, 1, 64)
  if (rowsPerSecond !== undefined) between('rowsPerSecond', rowsPerSecond, 1, 10_000_000)
  if (shard !== undefined) {
    between('shard', shard[1], 1, 1_000)
    between('shard', shard[0], 1, shard[1])
  }
  return { ...pace, batchSize, concurrency }
}

function between(field: string, value: number, least: number, most: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return
  throw new FieldsealError('ERR_ARGUMENT_INVALID', { field, reason: `a whole number from ${least} to ${most}` })
}

/** Lets `rowsPerSecond` rows pass in a second, in the long run. */
export interface RateLimit {
  take(rows: number): Promise<void>
}

export function createRateLimit(rowsPerSecond: number | undefined, signal: AbortSignal | undefined): RateLimit {
  let freeAt = performance.now()
  return {
    async take(rows) {
      signal?.throwIfAborted()
      if (rowsPerSecond === undefined) return
      const now = performance.now()
      const waitMs = freeAt - now
      freeAt = Math.max(freeAt, now) + (rows / rowsPerSecond) * 1_000
      if (waitMs > 0) await sleep(waitMs, undefined, signal === undefined ? {} : { signal })
    },
  }
}
