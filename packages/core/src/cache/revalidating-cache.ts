import { dispositionOf } from '../errors/fieldseal-error.ts'
import { afterMs } from './deadline.ts'
import { ageOf, momentOf, type Clock, type Moment } from './clock.ts'
import type { KeyCachePolicy } from './options.ts'

/** Writes may use an entry up to `validForMs`, reads up to `maxStaleMs`. */
export type Use = 'read' | 'write'

export type Limits = Pick<KeyCachePolicy, 'refreshAfterMs' | 'validForMs' | 'maxStaleMs'>

export interface CacheSettings<V> {
  readonly clock: Clock
  readonly maxEntries: number
  /** The limits of an entry as they are now: a tenant may have become stricter since it was confirmed. */
  readonly limitsOf: (value: V) => Limits
  /** How long a read waits for a confirmation before it is served what may be served stale, in real milliseconds. @defaultValue until it ends */
  readonly patienceMs?: (value: V) => number
  /** The value must not be used any more: dropped, denied or dead. */
  readonly dispose?: (value: V) => void
  /** The value is no longer the cache's, but whoever got it may go on: evicted, replaced, or confirmed too late to be cached. */
  readonly release?: (value: V) => void
  /** An authoritative denial met a cached entry. */
  readonly onRevoked?: (key: string, value: V, error: unknown) => void
  readonly onRestored?: (key: string, value: V) => void
  readonly onStale?: (key: string, value: V, ageMs: number) => void
  readonly onBackgroundFailure?: (key: string, value: V, error: unknown) => void
}

/** Since when an answer is being waited for. */
export interface Asked extends Moment {
  /** How many drops there had been. */
  readonly drops: number
}

/**
 * Entries that must be confirmed from time to time by somebody who may deny them (a KMS, a key store, a registry).
 *
 * By age: *fresh* (served), *refresh-ahead* (served, and confirmed in the background because it is in use),
 * *must-revalidate* (waits for confirmation), *stale* (only reads, only while nobody denies), *dead*. What an error does
 * is its disposition. A denial is remembered for some seconds, so that it is not asked for again on every use.
 */
export interface RevalidatingCache<V> {
  /**
   * `from`: when the caller began to gather what `confirm` relies on; nothing is cached that a drop has overtaken since.
   * @throws whatever `confirm` throws, when the entry may not be used without it
   */
  get(key: string, use: Use, confirm: (previous: V | undefined) => Promise<V>, from?: Asked): Promise<V>
  /** The entry if it may be used as it is; counts as a use, starts no refresh. */
  fresh(key: string): V | undefined
  /** The entry whatever its age, up to dead. */
  peek(key: string): V | undefined
  /** Confirms by a question that is asked after this call: one that is under way may not know yet what its caller knows. */
  renew(key: string, confirm: (previous: V | undefined) => Promise<V>): Promise<V>
  /** To be taken before a question whose answer goes to `put`. */
  asking(): Asked
  /** Puts in a value confirmed elsewhere; released instead when its key was dropped since it was asked for. */
  put(key: string, value: V, asked: Asked): void
  /** Drops all entries whose key begins with `prefix`; their flights under way are neither joined nor cached any more. */
  drop(prefix: string): void
  /** Forgets remembered denials. */
  forgive(prefix: string): void
}

interface Entry<V> {
  readonly value: V
  readonly since: Moment
  /** Refreshed early by up to a tenth, so that many processes do not ask at the same moment. */
  readonly early: number
  failed?: { readonly error: unknown; readonly at: Moment }
}

interface Flight<V> {
  readonly result: Promise<V>
  /** Since when somebody waits, in real milliseconds. */
  readonly since: number
  /** Whether the question was asked already. */
  begun: boolean
}

const DENIAL_MS = { least: 5_000, spread: 10_000 } as const
const RETRY_AFTER_FAILURE_MS = 1_000
const MAX_DENIALS = 10_000
const MAX_DROPS = 1_000

export function createRevalidatingCache<V>(settings: CacheSettings<V>): RevalidatingCache<V> {
  const { clock, limitsOf } = settings
  const entries = new Map<string, Entry<V>>()
  const denials = new Map<string, { readonly error: unknown; readonly at: Moment; readonly forMs: number }>()
  const flights = new Map<string, Flight<V>>()
  const drops: string[] = []
  let dropsForgotten = 0

  function remove(key: string): void {
    const entry = entries.get(key)
    if (entry === undefined) return
    entries.delete(key)
    settings.dispose?.(entry.value)
  }

  function release(value: V | undefined): void {
    if (value !== undefined) settings.release?.(value)
  }

  const asking = (): Asked => ({ ...momentOf(clock), drops: dropsForgotten + drops.length })

  function droppedSince(key: string, asked: Asked): boolean {
    if (asked.drops < dropsForgotten) return true
    return drops.slice(asked.drops - dropsForgotten).some((prefix) => key.startsWith(prefix))
  }

  function put(key: string, value: V, asked: Asked): void {
    // Invariant: what was asked before a drop is never cached after it.
    if (droppedSince(key, asked)) return release(value)
    const previous = entries.get(key)
    entries.delete(key)
    if (previous?.value !== value) release(previous?.value)
    removeDead()
    entries.set(key, { value, since: asked, early: 1 - 0.1 * clock.jitter() })
    if (entries.size <= settings.maxEntries) return
    const oldest = entries.entries().next().value
    if (oldest === undefined) return
    entries.delete(oldest[0])
    release(oldest[1].value)
  }

  /** What nobody asks for any more leaves when others come: those confirmed or used longest ago stand first. */
  function removeDead(): void {
    for (const [key, { value, since }] of entries) {
      if (ageOf(since, clock) < limitsOf(value).maxStaleMs) return
      remove(key)
    }
  }

  /** The live entry, moved to the end of the eviction order; a dead one is removed. */
  function touch(key: string): Entry<V> | undefined {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    if (ageOf(entry.since, clock) >= limitsOf(entry.value).maxStaleMs) {
      remove(key)
      return undefined
    }
    // The order matters only where something may soon have to leave.
    if (entries.size * 2 > settings.maxEntries) {
      entries.delete(key)
      entries.set(key, entry)
    }
    return entry
  }

  function isFresh(entry: Entry<V>): boolean {
    const { refreshAfterMs, validForMs } = limitsOf(entry.value)
    return ageOf(entry.since, clock) < Math.min(refreshAfterMs * entry.early, validForMs)
  }

  function denialOf(key: string): unknown {
    const denial = denials.get(key)
    if (denial === undefined) return undefined
    return ageOf(denial.at, clock) < denial.forMs ? denial.error : undefined
  }

  function revoke(key: string, error: unknown): void {
    const entry = entries.get(key)
    remove(key)
    if (denials.size >= MAX_DENIALS) denials.delete(denials.keys().next().value ?? '')
    denials.set(key, { error, at: momentOf(clock), forMs: DENIAL_MS.least + DENIAL_MS.spread * clock.jitter() })
    if (entry !== undefined) settings.onRevoked?.(key, entry.value, error)
  }

  /** Confirms, joining a confirmation that is under way. */
  function revalidate(key: string, confirm: (previous: V | undefined) => Promise<V>, from = asking()): Promise<V> {
    const running = flights.get(key)
    if (running !== undefined) return running.result
    const result = Promise.resolve().then(() => fly(key, flight, confirm, from))
    const flight: Flight<V> = { begun: false, since: performance.now(), result }
    flights.set(key, flight)
    return flight.result
  }

  async function fly(
    key: string,
    flight: Flight<V>,
    confirm: (previous: V | undefined) => Promise<V>,
    { drops: before }: Asked,
  ): Promise<V> {
    flight.begun = true
    const asked = { ...asking(), drops: before } // the answer is as old as the question
    const previous = entries.get(key)
    const current = () => flights.get(key) === flight
    try {
      const value = await confirm(previous?.value)
      if (!current()) {
        release(value)
        return value
      }
      put(key, value, asked)
      if (entries.get(key)?.value === value && denials.delete(key)) settings.onRestored?.(key, value)
      return value
    } catch (error) {
      if (current() && dispositionOf(error) === 'revoke') revoke(key, error)
      else if (previous !== undefined) previous.failed = { error, at: momentOf(clock) }
      throw error
    } finally {
      if (current()) flights.delete(key)
    }
  }

  /** What a confirmation under way gives, or nothing when a read has waited long enough for it. */
  async function patiently(key: string, entry: Entry<V>, confirmed: Promise<V>): Promise<V | undefined> {
    const patience = settings.patienceMs?.(entry.value)
    if (patience === undefined) return confirmed
    const waited = performance.now() - (flights.get(key)?.since ?? performance.now())
    const { promise: enough, resolve } = Promise.withResolvers<undefined>()
    const stop = afterMs(Math.max(0, patience - waited), () => resolve(undefined))
    confirmed.catch(() => undefined) // whoever asks next hears of it
    return Promise.race([confirmed, enough]).finally(stop)
  }

  async function renew(key: string, confirm: (previous: V | undefined) => Promise<V>): Promise<V> {
    const running = flights.get(key)
    if (running?.begun === true) await running.result.catch(() => undefined)
    return revalidate(key, confirm)
  }

  function refreshAhead(
    key: string,
    entry: Entry<V>,
    confirm: (previous: V | undefined) => Promise<V>,
    from: Asked,
  ): void {
    if (flights.has(key) || justFailed(entry)) return
    revalidate(key, confirm, from).catch((error: unknown) => settings.onBackgroundFailure?.(key, entry.value, error))
  }

  function justFailed(entry: Entry<V>): boolean {
    return entry.failed !== undefined && ageOf(entry.failed.at, clock) < RETRY_AFTER_FAILURE_MS
  }

  async function get(
    key: string,
    use: Use,
    confirm: (previous: V | undefined) => Promise<V>,
    from = asking(),
  ): Promise<V> {
    const entry = touch(key)
    if (entry === undefined) {
      const denial = denialOf(key)
      if (denial !== undefined) throw denial
      return revalidate(key, confirm, from)
    }
    if (ageOf(entry.since, clock) < limitsOf(entry.value).validForMs) {
      if (!isFresh(entry)) refreshAhead(key, entry, confirm, from)
      return entry.value
    }
    try {
      if (justFailed(entry)) throw entry.failed?.error
      const confirmed = revalidate(key, confirm, from)
      if (use === 'write') return await confirmed
      return (await patiently(key, entry, confirmed)) ?? staleOf(key) ?? (await confirmed)
    } catch (error) {
      const stale = use === 'write' || dispositionOf(error) === 'revoke' ? undefined : staleOf(key)
      if (stale === undefined) throw error
      return stale
    }
  }

  /** Serves an entry that nobody has confirmed in time, unless it is dead. */
  function staleOf(key: string): V | undefined {
    const stale = touch(key)
    if (stale !== undefined) settings.onStale?.(key, stale.value, ageOf(stale.since, clock))
    return stale?.value
  }

  return {
    get,
    renew,
    asking,
    put,
    fresh(key) {
      const entry = touch(key)
      return entry !== undefined && isFresh(entry) ? entry.value : undefined
    },
    peek: (key) => touch(key)?.value,
    drop(prefix) {
      drops.push(prefix)
      if (drops.length > MAX_DROPS) {
        drops.shift()
        dropsForgotten++
      }
      for (const key of entries.keys()) if (key.startsWith(prefix)) remove(key)
      for (const key of flights.keys()) if (key.startsWith(prefix)) flights.delete(key)
    },
    forgive(prefix) {
      for (const key of denials.keys()) if (key.startsWith(prefix)) denials.delete(key)
    },
  }
}
