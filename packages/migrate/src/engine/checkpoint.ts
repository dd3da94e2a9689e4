import { createHash } from 'node:crypto'
import { type CheckpointStore, type ErrorCode, FieldsealError } from '@fieldseal/core/adapter'
import type { RowFailure } from '../report/report.ts'

export type Counts = Record<string, number>

/** How far a job is with one model. */
export interface ModelProgress {
  pass: number
  /** Position of the last row of the last finished batch, base64; undefined at the beginning of a pass. */
  after?: string | undefined
  done: boolean
  /** Counts of this pass; `updated` of all passes. */
  counts: Counts
  updated: number
  failures: RowFailure[]
}

export interface JobState {
  /** Of verb, options and configuration. */
  readonly digest: string
  readonly startedAt: number
  models: Record<string, ModelProgress>
  /** Facts of the verb's own that must survive a crash. */
  facts: Record<string, string | number | readonly string[]>
  finished: boolean
}

/** The durable state of one job, changed by compare-and-set: whoever took over last goes on, the one before stops. */
export interface Checkpoint {
  readonly state: JobState
  readonly resumed: boolean
  save(): Promise<void>
}

const FORMAT = 1

/** A digest of JSON facts; keys in the order they are given. */
export function digestOf(facts: unknown): string {
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 32)
}

const RESTART = 'begin it anew with restart: true (--restart)'

/**
 * Opens the checkpoint of a job. One that is finished is begun anew.
 *
 * @param anew what to do instead of going on. @defaultValue the option `restart`
 * @throws FieldsealError ERR_CHECKPOINT_MISMATCH when it was made under another configuration, or cannot be read
 */
export async function openCheckpoint(
  store: CheckpointStore,
  job: string,
  {
    digest,
    restart,
    now,
    anew = RESTART,
  }: { readonly digest: string; readonly restart: boolean; readonly now: number; readonly anew?: string },
): Promise<Checkpoint> {
  const stored = await store.load(job)
  // What is begun anew need not be read.
  const before = stored === undefined || restart ? undefined : parse(job, stored.state, anew)
  const goesOn = before !== undefined && !before.finished
  if (goesOn && before.digest !== digest)
    throw new FieldsealError('ERR_CHECKPOINT_MISMATCH', {
      operation: job,
      reason: 'models, fields, keys or options are not those it began with',
      hint: `put the configuration back to finish the job, or ${anew}`,
    })
  const state: JobState = goesOn ? before : { digest, startedAt: now, models: {}, facts: {}, finished: false }
  let version = stored?.version ?? 0
  let saving: Promise<void> = Promise.resolve()

  async function write(): Promise<void> {
    const bytes = Buffer.from(JSON.stringify({ format: FORMAT, ...state }))
    version++
    if ((await store.save(job, version, bytes)) === 'saved') return
    throw new FieldsealError('ERR_CHECKPOINT_TAKEN', {
      operation: job,
      hint: 'let one process run it, or give each a shard',
    })
  }

  return {
    state,
    resumed: goesOn,
    save() {
      // One after the other: each save is compared with the one before.
      saving = saving.then(write)
      return saving
    },
  }
}

function parse(job: string, bytes: Uint8Array, hint: string): JobState {
  try {
    const parsed = JSON.parse(Buffer.from(bytes).toString('utf8')) as JobState & { readonly format: number } // checked below
    const { format, digest, models, facts } = parsed
    if (format === FORMAT && typeof digest === 'string' && [models, facts].every(isObject)) return parsed
  } catch {
    // Said below: what it holds is not repeated.
  }
  throw new FieldsealError('ERR_CHECKPOINT_MISMATCH', {
    operation: job,
    reason: 'it is not readable',
    hint,
  })
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

export function newProgress(pass: number, updated: number): ModelProgress {
  return { pass, done: false, counts: {}, updated, failures: [] }
}

const MAX_FAILURES = 100

export function noteFailure(progress: ModelProgress, failure: RowFailure & { readonly code: ErrorCode }): void {
  if (progress.failures.length < MAX_FAILURES) progress.failures.push(failure)
}
