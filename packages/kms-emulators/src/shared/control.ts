import { type CallFacts, type CallMatch, type LoggedCall, matches, type Policy } from './calls.ts'
import { createFaultPlan, type FaultOptions, type FaultPlan } from './faults.ts'

/** What both emulators let a test do, beside the states of their keys. */
export interface EmulatorControl<Answer> {
  /** Every call so far, oldest first. */
  readonly calls: readonly LoggedCall[]
  forgetCalls(): void
  /** Refuses matching calls as a policy would. @returns takes the refusal away again */
  deny(match?: CallMatch | ((call: CallFacts) => boolean), options?: Propagation): () => void
  /** A whole policy, for allow-lists and conditions. @returns takes it away again */
  policy(policy: Policy, options?: Propagation): () => void
  throttle(options?: FaultOptions & { readonly retryAfterSeconds?: number }): () => void
  /** Milliseconds before every answer, or before the answers to matching calls. */
  latency(ms: number, only?: FaultOptions['only']): void
  /** Cuts connections. */
  drop(options?: FaultOptions & { readonly when?: 'before' | 'midway' }): () => void
  hang(options?: FaultOptions): () => void
  slowBody(ms: number, options?: FaultOptions): () => void
  /** Answers with the truth, changed. For what a hostile or broken service might send. */
  alter(change: (answer: Answer) => Answer, options?: FaultOptions): () => void
  /** Takes away all faults, policies and latency. States of keys stay. */
  restore(): void
}

/** Eventual consistency: a change takes effect so many milliseconds later. */
export interface Propagation {
  /** @defaultValue 0 */
  readonly afterMs?: number
}

/** The same as a tool of the emulators themselves. */
export interface ControlState<Answer> extends EmulatorControl<Answer> {
  readonly faults: FaultPlan<Answer>
  log(call: LoggedCall): void
  allowed(call: CallFacts): boolean
  delayMs(call: CallFacts): number
  /** Runs `change` now, or later when it has to propagate first. */
  propagate(change: () => void, options: Propagation | undefined): void
  /** Runs `change` again and again, until the emulator stops. */
  every(ms: number, change: () => void): void
  endTimers(): void
}

export function createControl<Answer>(): ControlState<Answer> {
  const calls: LoggedCall[] = []
  const policies = new Set<Policy>()
  const faults = createFaultPlan<Answer>()
  const timers = new Set<NodeJS.Timeout>()
  let delays: { readonly ms: number; readonly only: FaultOptions['only'] }[] = []

  const control: ControlState<Answer> = {
    calls,
    faults,
    forgetCalls: () => void calls.splice(0),
    log: (call) => void calls.push(call),
    allowed: (call) => [...policies].every((policy) => policy(call) === 'allow'),
    delayMs: (call) => Math.max(0, ...delays.filter(({ only }) => matches(call, only)).map(({ ms }) => ms)),
    propagate(change, options) {
      if ((options?.afterMs ?? 0) === 0) change()
      else setTimeout(change, options?.afterMs).unref()
    },
    every: (ms, change) => void timers.add(setInterval(change, ms).unref()),
    endTimers: () => timers.forEach((timer) => clearInterval(timer)),
    deny: (match, options) => control.policy((call) => (matches(call, match) ? 'deny' : 'allow'), options),
    policy(policy, options) {
      let active = true
      control.propagate(() => active && policies.add(policy), options)
      return () => {
        active = false
        policies.delete(policy)
      }
    },
    throttle: ({ retryAfterSeconds, ...options } = {}) =>
      faults.add({ kind: 'throttle', ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) }, options),
    latency: (ms, only) => void delays.push({ ms, only }),
    drop: ({ when = 'before', ...options } = {}) => faults.add({ kind: 'drop', when }, options),
    hang: (options) => faults.add({ kind: 'hang' }, options),
    slowBody: (ms, options) => faults.add({ kind: 'slow-body', ms }, options),
    alter: (change, options) => faults.add({ kind: 'alter', change }, options),
    restore() {
      faults.clear()
      policies.clear()
      delays = []
    },
  }
  return control
}
