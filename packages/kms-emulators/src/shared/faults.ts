import { type CallFacts, type CallMatch, matches } from './calls.ts'

/** How the next calls go wrong. */
export type Fault<Answer> =
  /** No answer until the caller gives up. */
  | { readonly kind: 'hang' }
  /** The connection is cut: before the answer, or in the middle of it. */
  | { readonly kind: 'drop'; readonly when?: 'before' | 'midway' }
  /** The answer trickles in over so many milliseconds. */
  | { readonly kind: 'slow-body'; readonly ms: number }
  | { readonly kind: 'throttle'; readonly retryAfterSeconds?: number }
  /** An error of the vendor's, by its name (AWS) or status code (Google). */
  | { readonly kind: 'error'; readonly error: unknown }
  /** A dishonest answer: the true one, changed. */
  | { readonly kind: 'alter'; readonly change: (answer: Answer) => Answer }

export interface FaultPlan<Answer> {
  /** Adds a fault for the next `times` calls that match. @returns takes it away again */
  add(fault: Fault<Answer>, options?: FaultOptions): () => void
  /** The fault that this call meets, if any. The first that was added and matches. */
  take(call: CallFacts): Fault<Answer> | undefined
  clear(): void
}

export interface FaultOptions {
  /** @defaultValue Infinity: until taken away */
  readonly times?: number
  /** @defaultValue every call */
  readonly only?: CallMatch | ((call: CallFacts) => boolean)
}

export function createFaultPlan<Answer>(): FaultPlan<Answer> {
  const planned = new Set<{ readonly fault: Fault<Answer>; left: number; readonly only: FaultOptions['only'] }>()
  return {
    add(fault, { times = Infinity, only } = {}) {
      const entry = { fault, left: times, only }
      planned.add(entry)
      return () => void planned.delete(entry)
    },
    take(call) {
      for (const entry of planned) {
        if (!matches(call, entry.only)) continue
        if (--entry.left <= 0) planned.delete(entry)
        return entry.fault
      }
      return undefined
    },
    clear: () => planned.clear(),
  }
}
