import { setTimeout as sleep } from 'node:timers/promises'
import { type Fieldseal, monotonicOf } from '@fieldseal/core/adapter'

const TELL_EVERY_MS = 1_000

/** What a wait is for, and how long it lasts beyond what caches allow. */
export interface DrainOptions {
  /** `reachable`: nobody writes by older records; `unreachable`: nobody reads by them either. */
  readonly bound: 'reachable' | 'unreachable'
  readonly why: string
  readonly longestTransactionMs: number
  /** When the records were changed, by the monotonic clock. @defaultValue now */
  readonly since?: number
  readonly onWait: ((wait: { readonly why: string; readonly remainingMs: number }) => void) | undefined
  readonly signal: AbortSignal | undefined
}

/** Waits until no process may use records that it read before they were changed. Tenants can only be stricter than the application. */
export async function drain(
  fieldseal: Fieldseal<never> | Fieldseal,
  { bound, why, longestTransactionMs, since = monotonicOf(fieldseal), onWait, signal }: DrainOptions,
): Promise<void> {
  const waitMs = (fieldseal as Fieldseal<'multi'>).revocationBoundMs()[bound] + longestTransactionMs
  const remaining = () => waitMs - (monotonicOf(fieldseal) - since)
  while (remaining() >= 0) {
    onWait?.({ why, remainingMs: remaining() })
    const pauseMs = Math.min(remaining() + 1, TELL_EVERY_MS)
    if (pauseMs > 0) await sleep(pauseMs, undefined, signal === undefined ? {} : { signal })
  }
}
