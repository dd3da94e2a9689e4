import type { EncryptionContext } from '../context/encryption-context.ts'
import { assertContext } from '../context/encryption-context.ts'
import { ERROR_CODES } from '../errors/codes.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { Cmk, KmsRequest } from '../keys/cmk.ts'
import type { EventBus, KmsOperation } from '../observe/events.ts'
import type { Clock } from './clock.ts'
import { afterMs } from './deadline.ts'

export interface KmsCallFacts {
  readonly operation: KmsOperation
  readonly context: EncryptionContext
  /** What the call is told to be for. @defaultValue the purpose in the context */
  readonly keyPurpose?: string
  /** Whole budget with all retries and waiting, in milliseconds. */
  readonly deadlineMs: number
}

/** The only way in which core talks to a KMS: deadline, retries, breaker and concurrency, one budget per credential scope. */
export interface KmsCalls {
  /** @throws FieldsealError with a KMS code; a failure that a provider did not classify is ERR_KMS_UNKNOWN */
  call<R>(cmk: Cmk, facts: KmsCallFacts, run: (request: KmsRequest) => Promise<R>): Promise<R>
}

interface Scope {
  running: number
  readonly waiting: (() => void)[]
  failures: number
  openUntil: number | undefined
  trial: boolean
}

const MAX_CONCURRENT = 32
const FAILURES_TO_OPEN = 5
const OPEN_MS = 5_000
const RETRY_DELAY_MS = 50
const THROTTLE_DELAY_MS = 500

export function createKmsCalls({ clock, events }: { readonly clock: Clock; readonly events: EventBus }): KmsCalls {
  const scopes = new Map<string, Scope>()

  function scopeOf(name: string): Scope {
    let scope = scopes.get(name)
    if (scope === undefined) {
      scopes.set(name, (scope = { running: 0, waiting: [], failures: 0, openUntil: undefined, trial: false }))
    }
    return scope
  }

  /** @returns whether this call is the one trial of a half-open breaker */
  function passBreaker(scope: Scope, provider: string): boolean {
    if (scope.openUntil === undefined) return false
    const waitMs = scope.openUntil - clock.monotonic()
    if (waitMs > 0 || scope.trial) {
      throw new FieldsealError(
        'ERR_KMS_UNAVAILABLE',
        { provider, reason: 'breaker open after repeated failures' },
        Math.max(0, Math.ceil(waitMs)),
      )
    }
    return (scope.trial = true)
  }

  function report(scope: Scope, name: string, error: unknown): void {
    const answered =
      error === undefined || (isFieldsealError(error) && ERROR_CODES[error.code].disposition !== 'serve-stale')
    if (answered) {
      if (scope.openUntil !== undefined) events.emit('breaker.closed', { credentialScope: name })
      scope.failures = 0
      scope.openUntil = undefined
    } else if (++scope.failures >= FAILURES_TO_OPEN) {
      const wasOpen = scope.openUntil !== undefined && scope.openUntil > clock.monotonic()
      scope.openUntil = clock.monotonic() + OPEN_MS * (1 + clock.jitter())
      if (!wasOpen) events.emit('breaker.opened', { credentialScope: name, retryAfterMs: OPEN_MS })
    }
  }

  return {
    async call<R>(
      cmk: Cmk,
      { operation, context, keyPurpose, deadlineMs }: KmsCallFacts,
      run: (request: KmsRequest) => Promise<R>,
    ): Promise<R> {
      assertContext(context)
      const scope = scopeOf(cmk.credentialScope)
      const startedAt = clock.monotonic()
      let attempts = 0
      let failure: unknown
      let requestId: string | undefined
      const answered = (facts: { readonly requestId: string }) => void (requestId = facts.requestId)
      const trial = passBreaker(scope, cmk.provider)
      const deadline = startDeadline(deadlineMs, cmk.provider)
      try {
        await deadline.race(acquire(scope, deadline.signal))
        try {
          for (;;) {
            attempts++
            let work: Promise<R> | undefined
            try {
              work = run({ context, signal: deadline.signal, answered })
              return await deadline.race(work)
            } catch (error) {
              work?.then(zeroLateKey, () => undefined)
              const classified = classify(error, cmk.provider)
              const delayMs = retryDelay(classified, attempts)
              if (delayMs === undefined || delayMs >= deadline.leftMs()) throw classified
              await deadline.race(sleep(delayMs))
            }
          }
        } finally {
          release(scope)
        }
      } catch (error) {
        failure = error
        throw error
      } finally {
        deadline.stop()
        if (trial) scope.trial = false
        report(scope, cmk.credentialScope, failure)
        events.emit('kms.call', {
          operation,
          provider: cmk.provider,
          uri: cmk.uri,
          credentialScope: cmk.credentialScope,
          ...contextFacts(context),
          ...(keyPurpose === undefined ? {} : { keyPurpose }),
          outcome: isFieldsealError(failure) ? failure.code : failure === undefined ? 'ok' : 'ERR_KMS_UNKNOWN',
          attempts,
          elapsedMs: clock.monotonic() - startedAt,
          ...(requestId === undefined ? {} : { requestId }),
          ...(isFieldsealError(failure) ? vendorFacts(failure) : {}),
        })
      }
    },
  }
}

interface Deadline {
  readonly signal: AbortSignal
  race<R>(work: Promise<R>): Promise<R>
  leftMs(): number
  stop(): void
}

/** Holds even when a provider ignores its signal. In real time: an injected clock does not speed up a socket. */
function startDeadline(ms: number, provider: string): Deadline {
  const controller = new AbortController()
  const endsAt = performance.now() + ms
  const { promise: expired, reject } = Promise.withResolvers<never>()
  expired.catch(() => undefined)
  const stop = afterMs(ms, () => {
    reject(new FieldsealError('ERR_KMS_TIMEOUT', { provider }))
    controller.abort()
  })
  return {
    signal: controller.signal,
    race: (work) => Promise.race([work, expired]),
    leftMs: () => endsAt - performance.now(),
    stop,
  }
}

/** A provider that ignores its signal may still answer with a key that nobody waits for. */
function zeroLateKey(answer: unknown): void {
  for (const key of [answer, typeof answer === 'object' && answer !== null && 'key' in answer ? answer.key : undefined])
    if (isDisposable(key)) key[Symbol.dispose]()
}

function isDisposable(value: unknown): value is Disposable {
  return typeof value === 'object' && value !== null && Symbol.dispose in value
}

function acquire(scope: Scope, signal: AbortSignal): Promise<void> {
  if (scope.running < MAX_CONCURRENT) {
    scope.running++
    return Promise.resolve()
  }
  return new Promise((resolve) => {
    const turn = () => resolve()
    scope.waiting.push(turn)
    signal.addEventListener('abort', () => {
      const place = scope.waiting.indexOf(turn)
      if (place >= 0) scope.waiting.splice(place, 1)
    })
  })
}

/** Hands the place to the next in line, or gives it back. */
function release(scope: Scope): void {
  const next = scope.waiting.shift()
  if (next === undefined) scope.running--
  else next()
}

function classify(error: unknown, provider: string): FieldsealError {
  if (isFieldsealError(error)) return error
  // The vendor's error is not kept: its text names principals and key ARNs.
  return new FieldsealError('ERR_KMS_UNKNOWN', {
    provider,
    hint: 'the provider threw an error that it did not classify',
  })
}

function retryDelay(error: FieldsealError, attempts: number): number | undefined {
  if (attempts > ERROR_CODES[error.code].retries) return undefined
  return error.retryAfterMs ?? (error.code === 'ERR_KMS_THROTTLED' ? THROTTLE_DELAY_MS : RETRY_DELAY_MS) * attempts
}

function contextFacts({ tenant = '', keyspace = '', purpose = '', kek = '', model, row }: EncryptionContext) {
  return {
    tenant,
    keyspace,
    keyPurpose: purpose,
    kekId: kek,
    ...(model === undefined ? {} : { model }),
    ...(row === undefined ? {} : { row }),
  }
}

function vendorFacts({ details }: FieldsealError): { readonly vendorCode?: string; readonly requestId?: string } {
  return {
    ...(details.vendorCode === undefined ? {} : { vendorCode: details.vendorCode }),
    ...(details.requestId === undefined ? {} : { requestId: details.requestId }),
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
