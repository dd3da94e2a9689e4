import { FieldsealError } from '../errors/fieldseal-error.ts'

/** How long unwrapped keys live in this process. */
export interface KeyCacheOptions {
  /** After this age, in milliseconds, a use starts a check in the background. @defaultValue 60_000 */
  readonly refreshAfterMs?: number
  /** After this age a read waits for the check, and a write fails without it. A revoked CMK stops working this long after, plus one call, plus the provider's own propagation. @defaultValue 300_000 */
  readonly validForMs?: number
  /** After this age nothing is served, whoever does not answer. @defaultValue 900_000 */
  readonly maxStaleMs?: number
  /** Longest call to a KMS with all its retries, in milliseconds; registry and key store get five times as long. @defaultValue 2_000 */
  readonly callDeadlineMs?: number
  /** Most keys held at once; the least recently used leaves first. @defaultValue 10_000 */
  readonly maxEntries?: number
}

export type KeyCachePolicy = Required<KeyCacheOptions>

/** Frozen, each with its reason: a minute spares the KMS, five bound a revocation, fifteen outlast a usual outage. */
export const DEFAULT_CACHE: KeyCachePolicy = Object.freeze({
  refreshAfterMs: 60_000,
  validForMs: 300_000,
  maxStaleMs: 900_000,
  callDeadlineMs: 2_000,
  maxEntries: 10_000,
})

/** How long the registry or the key store may take to answer, in milliseconds: a database may have to wait for a connection. */
export function lookUpDeadlineMs({ callDeadlineMs }: Pick<KeyCachePolicy, 'callDeadlineMs'>): number {
  return 5 * callDeadlineMs
}

/** A stricter profile for regulated tenants: revocation within one minute when the KMS answers, two when it does not. */
export const REGULATED_CACHE: KeyCacheOptions = Object.freeze({
  refreshAfterMs: 15_000,
  validForMs: 60_000,
  maxStaleMs: 120_000,
})

/** @throws FieldsealError ERR_CONFIG_INVALID naming the option */
export function cachePolicy(
  options: KeyCacheOptions | undefined,
  base: KeyCachePolicy = DEFAULT_CACHE,
): KeyCachePolicy {
  const policy = Object.freeze({ ...base, ...checkedLimits(options) })
  if (policy.refreshAfterMs > policy.validForMs) throw invalid('refreshAfterMs', 'must not exceed validForMs')
  if (policy.validForMs > policy.maxStaleMs) throw invalid('maxStaleMs', 'must not be less than validForMs')
  return policy
}

function checkedLimits(options: KeyCacheOptions = {}): Partial<KeyCachePolicy> {
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  for (const [name, value] of given) {
    if (!Object.hasOwn(DEFAULT_CACHE, name)) throw invalid(name, 'unknown option')
    if (!Number.isSafeInteger(value) || value < 1) throw invalid(name, 'must be a positive whole number')
  }
  return Object.fromEntries(given)
}

/** The stricter of two policies, limit by limit; a shorter limit shortens those that must not exceed it. */
export function strictest(a: KeyCachePolicy, b: KeyCachePolicy): KeyCachePolicy {
  if (a === b) return a
  const maxStaleMs = Math.min(a.maxStaleMs, b.maxStaleMs)
  const validForMs = Math.min(a.validForMs, b.validForMs, maxStaleMs)
  return {
    refreshAfterMs: Math.min(a.refreshAfterMs, b.refreshAfterMs, validForMs),
    validForMs,
    maxStaleMs,
    callDeadlineMs: Math.min(a.callDeadlineMs, b.callDeadlineMs),
    maxEntries: Math.min(a.maxEntries, b.maxEntries),
  }
}

/** A tenant's own options on top of the application's: each limit may only be stricter, so a looser one has no effect. */
export function stricterPolicy(base: KeyCachePolicy, options: KeyCacheOptions | undefined): KeyCachePolicy {
  const own = { ...base, ...checkedLimits(options), maxEntries: base.maxEntries }
  return Object.freeze(strictest(base, own))
}

/** Upper bounds of a revocation in this process, in milliseconds, beside the provider's own propagation. */
export interface RevocationBound {
  /** While the KMS answers. */
  readonly reachable: number
  /** While it does not, or somebody keeps it from answering. */
  readonly unreachable: number
}

export function revocationBoundOf(policy: KeyCachePolicy): RevocationBound {
  return {
    reachable: policy.validForMs + policy.callDeadlineMs,
    unreachable: policy.maxStaleMs + policy.callDeadlineMs,
  }
}

function invalid(option: string, reason: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', { field: `cache.${option}`, reason })
}
