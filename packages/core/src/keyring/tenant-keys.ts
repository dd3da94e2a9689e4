import type { Clock } from '../cache/clock.ts'
import type { KeyCacheOptions, KeyCachePolicy } from '../cache/options.ts'
import { within } from '../cache/deadline.ts'
import { lookUpDeadlineMs, stricterPolicy } from '../cache/options.ts'
import { createRevalidatingCache, type Use } from '../cache/revalidating-cache.ts'
import { SHARED_TENANT } from '../context/tenant-id.ts'
import { dispositionOf, FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { Cmk } from '../keys/cmk.ts'

/** The CMKs of one tenant: together they are the allow-list of everything that may wrap or unwrap its keys. */
export interface TenantKeys {
  /** Every new KEK is wrapped by each of them; reads try them in this order. */
  readonly cmks: readonly Cmk[]
  /** May unwrap but never wrap: the CMKs of before a move. @defaultValue [] */
  readonly formerCmks?: readonly Cmk[]
  /** How many of `cmks` must have wrapped a KEK before it is used. @defaultValue all */
  readonly minWraps?: number
  /** `any-leg`: a denial by one CMK closes the key although another one would open it. @defaultValue 'any-leg' */
  readonly revocation?: 'any-leg' | 'all-legs'
  /** May only be stricter than the application's. */
  readonly cache?: KeyCacheOptions
}

/** Finds a tenant's CMKs. null = no such tenant: its keys are purged. A throw = no answer: cached keys live on for a while. */
export type KeyRegistry = (tenant: string) => Promise<TenantKeys | null>

export interface ResolvedTenantKeys {
  readonly cmks: readonly Cmk[]
  readonly formerCmks: readonly Cmk[]
  readonly minWraps: number
  readonly revocation: 'any-leg' | 'all-legs'
  readonly policy: KeyCachePolicy
}

export interface TenantKeyring {
  get(tenant: string, use: Use): Promise<ResolvedTenantKeys>
  /** What is known without asking: the tenant's own policy, or the application's until the registry has answered. */
  policyOf(tenant: string): KeyCachePolicy
  purge(tenant: string): void
}

export interface TenantKeySettings {
  readonly keys: TenantKeys | KeyRegistry
  readonly sharedKeys: { readonly cmks: readonly Cmk[] } | undefined
  readonly policy: KeyCachePolicy
  readonly clock: Clock
  readonly onRevoked: (tenant: string, error: unknown) => void
}

export function createTenantKeyring(settings: TenantKeySettings): TenantKeyring {
  const { keys, policy, clock } = settings
  const constant = typeof keys === 'function' ? undefined : resolve(keys, policy)
  const shared = settings.sharedKeys === undefined ? constant : resolve(settings.sharedKeys, policy)
  const cache = createRevalidatingCache<ResolvedTenantKeys>({
    clock,
    maxEntries: policy.maxEntries,
    limitsOf: (resolved) => resolved.policy,
    patienceMs: (resolved) => resolved.policy.callDeadlineMs,
    onRevoked: (key, _value, error) => settings.onRevoked(key.slice(0, -1), error),
  })

  async function ask(tenant: string): Promise<ResolvedTenantKeys> {
    let answer: TenantKeys | null | undefined
    try {
      // Only reached when `keys` is a function; it may throw before it gives a promise.
      const asked = (async () => (keys as KeyRegistry)(tenant))()
      answer = await within(lookUpDeadlineMs(policy), asked, () => silent(tenant))
    } catch (error) {
      // A throw is no answer, whatever it says: only null denies.
      if (isFieldsealError(error) && dispositionOf(error) !== 'revoke') throw error
      throw new FieldsealError('ERR_REGISTRY_UNAVAILABLE', { tenant })
    }
    if (answer === null) throw new FieldsealError('ERR_TENANT_UNKNOWN', { tenant })
    if (typeof answer !== 'object')
      throw new FieldsealError('ERR_CONFIG_INVALID', {
        tenant,
        field: 'keys',
        reason: `the registry answered ${typeof answer}`,
        hint: 'return { cmks }, or null for a tenant that does not exist',
      })
    return resolve(answer, policy)
  }

  return {
    async get(tenant, use) {
      if (tenant === SHARED_TENANT) {
        if (shared === undefined)
          throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'sharedKeys', hint: SHARED_HINT })
        return shared
      }
      return constant ?? cache.get(keyOf(tenant), use, () => ask(tenant))
    },
    policyOf(tenant) {
      if (tenant === SHARED_TENANT) return shared?.policy ?? policy
      return (constant ?? cache.peek(keyOf(tenant)))?.policy ?? policy
    },
    purge(tenant) {
      cache.drop(keyOf(tenant))
      cache.forgive(keyOf(tenant))
    },
  }
}

/** Tenant ids hold no control characters, so no key is the prefix of another tenant's. */
function keyOf(tenant: string): string {
  return `${tenant}\0`
}

const SHARED_HINT = 'an index across tenants needs sharedKeys: { cmks } beside a registry'

const OPTIONS: readonly string[] = [
  'cmks',
  'formerCmks',
  'minWraps',
  'revocation',
  'cache',
] satisfies (keyof TenantKeys)[]

/** Checks, copies and freezes. @throws FieldsealError ERR_CONFIG_INVALID */
function resolve(keys: TenantKeys, base: KeyCachePolicy): ResolvedTenantKeys {
  const unknown = Object.keys(keys).find((name) => !OPTIONS.includes(name))
  if (unknown !== undefined) throw invalid(unknown, `unknown option; known: ${OPTIONS.join(', ')}`)
  const { cmks, formerCmks = [], minWraps = cmks?.length, revocation = 'any-leg' } = keys
  if (!Array.isArray(cmks) || cmks.length === 0) throw invalid('cmks', 'at least one CMK')
  if (!Array.isArray(formerCmks)) throw invalid('formerCmks', 'a list of CMKs')
  for (const cmk of [...cmks, ...formerCmks]) {
    if (typeof cmk?.wrap !== 'function' || typeof cmk.unwrap !== 'function')
      throw invalid('cmks', 'a CMK is made by kms.cmk(uri)')
    if (!/^[a-z][a-z0-9-]{0,62}$/.test(cmk.provider) || cmk.provider === 'kek')
      throw invalid('cmks', 'the provider name of a CMK is malformed')
  }
  const names = [...cmks, ...formerCmks].map(({ provider, uri }) => `${provider} ${uri}`)
  if (new Set(names).size < names.length) throw invalid('cmks', 'a CMK stands twice')
  if (!Number.isSafeInteger(minWraps) || minWraps < 1 || minWraps > cmks.length)
    throw invalid('minWraps', `a whole number from 1 to ${cmks.length}`)
  if (revocation !== 'any-leg' && revocation !== 'all-legs') throw invalid('revocation', "'any-leg' or 'all-legs'")
  return Object.freeze({
    cmks: Object.freeze([...cmks]),
    formerCmks: Object.freeze([...formerCmks]),
    minWraps,
    revocation,
    policy: stricterPolicy(base, keys.cache),
  })
}

function silent(tenant: string): FieldsealError {
  return new FieldsealError('ERR_REGISTRY_UNAVAILABLE', { tenant, reason: 'no answer in time' })
}

function invalid(option: string, reason: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', { field: `keys.${option}`, reason })
}
