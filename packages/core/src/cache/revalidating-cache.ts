import { dispositionOf } from '../errors/fieldseal-error.ts'
import { ageOf, momentOf, type Clock, type Moment } from './clock.ts'
import type { KeyCachePolicy } from './options.ts'

/** Writes may use an entry up to `validForMs`, reads up to `maxStaleMs`. */
export type Use = 'read' | 'write'

type Limits = Pick<KeyCachePolicy, 'refreshAfterMs' | 'validForMs' | 'maxStaleMs'>

export interface CacheSettings<V> {
  readonly clock: Clock
  readonly maxEntries: number
  readonly limitsOf: (value: V) => Limits
  /** The value leaves the cache: evicted, replaced, denied or dead. */
  readonly dispose?: (value: V) => void
  /** An authoritative denial met a cached or remembered entry. */
  readonly onRevoked?: (key: string, value: V | undefined, error: unknown) => void
  readonly onRestored?: (key: string, value: V) => void
  readonly onStale?: (key: string, value: V, ageMs: number) => void
  readonly onBackgroundFailure?: (key: string, value: V, error: unknown) => void
}

/**
 * Entries that must be confirmed from time to time by somebody who may deny them (a KMS, a key store, a registry).
 *
 * By age: *fresh* (served), *refresh-ahead* (served, and confirmed in the background because it is in use),
 * *must-revalidate* (waits for confirmation), *stale* (only reads, only when nobody answers), *dead*. What an error does
 * is its disposition. A denial is remembered for some seconds, so that it is not asked for again on every use.
 */
export interface RevalidatingCache<V> {
  /** @throws whatever `confirm` throws, when the entry may not be used without it */
  get(key: string, use: Use, confirm: (previous: V | undefined) => Promise<V>): Promise<V>
  /** The entry if it may be used as it is; counts as a use, starts no refresh. */
  fresh(key: string): V | undefined
  /** The entry whatever its age, up to dead. */
  peek(key: string): V | undefined
  /** Confirms now, joining a confirmation that is under way. */
  revalidate(key: string, confirm: (previous: V | undefined) => Promise<V>): Promise<V>
  /** Puts in a value confirmed elsewhere, at `since`. */
  put(key: string, value: V, since: Moment): void
  /** Drops all entries whose key begins with `prefix`; their flights under way are neither joined nor cached any more. */
  drop(prefix: string): void
  /** Forgets remembered denials. */
  forgive(prefix: string): void
}

interface Entry<V> {
  readonly value: V
  readonly since: Moment
  readonly refreshAfterMs: number
  failed?: { readonly error: unknown; readonly at: Moment }
}

interface Flight<V> {
  readonly result: Promise<V>
}

const DENIAL_MS = { least: 5_000, spread: 10_000 } as const
const RETRY_AFTER_FAILURE_MS = 1_000
const MAX_DENIALS = 10_000

export function createRevalidatingCache<V>(settings: CacheSettings<V>): RevalidatingCache<V> {
  const { clock, limitsOf } = settings
  const entries = new Map<string, Entry<V>>()
  const denials = new Map<string, { readonly error: unknown; readonly at: Moment; readonly forMs: number }>()
  const flights = new Map<string, Flight<V>>()

  function remove(key: string): void {
    const entry = entries.get(key)
    if (entry === undefined) return
    entries.delete(key)
    settings.dispose?.(entry.value)
  }

  function put(key: string, value: V, since: Moment): void {
    const previous = entries.get(key)
    entries.delete(key)
    if (previous !== undefined && previous.value !== value) settings.dispose?.(previous.value)
    const { refreshAfterMs } = limitsOf(value)
    // Early by up to a tenth, so that many processes do not ask at the same moment.
    entries.set(key, { value, since, refreshAfterMs: refreshAfterMs * (1 - 0.1 * clock.jitter()) })
    if (entries.size > settings.maxEntries) remove(entries.keys().next().value ?? '')
  }

  /** The live entry, moved to the end of the eviction order; a dead one is removed. */
  function touch(key: string): Entry<V> | undefined {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    if (ageOf(entry.since, clock) >= limitsOf(entry.value).maxStaleMs) {
      remove(key)
      return undefined
    }
    entries.delete(key)
    entries.set(key, entry)
    return entry
  }

  function denialOf(key: string): unknown {
    const denial = denials.get(key)
    if (denial === undefined) return undefined
    return ageOf(denial.at, clock) < denial.forMs ? denial.error : undefined
  }

  function revoke(key: string, error: unknown): void {
    const value = entries.get(key)?.value
    const known = denials.has(key)
    remove(key)
    if (denials.size >= MAX_DENIALS) denials.delete(denials.keys().next().value ?? '')
    denials.set(key, { error, at: momentOf(clock), forMs: DENIAL_MS.least + DENIAL_MS.spread * clock.jitter() })
    if (value !== undefined || !known) settings.onRevoked?.(key, value, error)
  }

  function revalidate(key: string, confirm: (previous: V | undefined) => Promise<V>): Promise<V> {
    const running = flights.get(key)
    if (running !== undefined) return running.result
    const flight: Flight<V> = { result: Promise.resolve().then(() => fly(key, flight, confirm)) }
    flights.set(key, flight)
    return flight.result
  }

  async function fly(key: string, flight: Flight<V>, confirm: (previous: V | undefined) => Promise<V>): Promise<V> {
    const since = momentOf(clock) // the answer is as old as the question
    const previous = entries.get(key)
    // Invariant: what was asked before a drop is never cached after it.
    const current = () => flights.get(key) === flight
    try {
      const value = await confirm(previous?.value)
      if (!current()) return value
      put(key, value, since)
      if (denials.delete(key)) settings.onRestored?.(key, value)
      return value
    } catch (error) {
      if (current() && dispositionOf(error) === 'revoke') revoke(key, error)
      else if (previous !== undefined) previous.failed = { error, at: momentOf(clock) }
      throw error
    } finally {
      if (current()) flights.delete(key)
    }
  }

  function refreshAhead(key: string, entry: Entry<V>, confirm: (previous: V | undefined) => Promise<V>): void {
    if (flights.has(key) || justFailed(entry)) return
    revalidate(key, confirm).catch((error: unknown) => settings.onBackgroundFailure?.(key, entry.value, error))
  }

  function justFailed(entry: Entry<V>): boolean {
    return entry.failed !== undefined && ageOf(entry.failed.at, clock) < RETRY_AFTER_FAILURE_MS
  }

  async function get(key: string, use: Use, confirm: (previous: V | undefined) => Promise<V>): Promise<V> {
    const entry = touch(key)
    if (entry === undefined) {
      const denial = denialOf(key)
      if (denial !== undefined) throw denial
      return revalidate(key, confirm)
    }
    const age = ageOf(entry.since, clock)
    if (age < limitsOf(entry.value).validForMs) {
      if (age >= entry.refreshAfterMs) refreshAhead(key, entry, confirm)
      return entry.value
    }
    try {
      if (justFailed(entry)) throw entry.failed?.error
      return await revalidate(key, confirm)
    } catch (error) {
      const stale = touch(key)
      if (use === 'write' || stale === undefined || dispositionOf(error) === 'revoke') throw error
      settings.onStale?.(key, stale.value, ageOf(stale.since, clock))
      return stale.value
    }
  }

  return {
    get,
    revalidate,
    put,
    fresh(key) {
      const entry = touch(key)
      return entry !== undefined && ageOf(entry.since, clock) < entry.refreshAfterMs ? entry.value : undefined
    },
    peek: (key) => touch(key)?.value,
    drop(prefix) {
      for (const key of entries.keys()) if (key.startsWith(prefix)) remove(key)
      for (const key of flights.keys()) if (key.startsWith(prefix)) flights.delete(key)
    },
    forgive(prefix) {
      for (const key of denials.keys()) if (key.startsWith(prefix)) denials.delete(key)
    },
  }
}
