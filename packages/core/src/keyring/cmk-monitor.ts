import { ERROR_CODES, type ErrorCode } from '../errors/codes.ts'
import type { Cmk } from '../keys/cmk.ts'
import type { EventBus, HealthStatus, KmsCallEvent } from '../observe/events.ts'

/** What is known of one CMK, and since when. Instants are epoch milliseconds. */
export interface CmkWord {
  readonly status: HealthStatus
  readonly code?: ErrorCode
  readonly deletesAt?: Date
  /** Since when it has been so. */
  readonly since: number
  /** When it was last heard. */
  readonly heardAt: number
}

/** Remembers the last word of each tenant's CMKs and says when it changes. */
export interface CmkMonitor {
  wordOf(tenant: string, cmk: Pick<Cmk, 'provider' | 'uri'>): CmkWord | undefined
  learn(tenant: string, cmk: Pick<Cmk, 'provider' | 'uri'>, word: Pick<CmkWord, 'status' | 'code' | 'deletesAt'>): void
  /** Tenants that this process has worked for, least recently heard of first. */
  tenants(): readonly string[]
}

const MAX_TENANTS = 10_000
/** What these calls are answered tells whether a key may be used; others need permissions of their own. */
const TELLING: ReadonlySet<KmsCallEvent['operation']> = new Set(['wrap', 'unwrap', 'generate', 'rewrap', 'probe'])
/** Calls whose refusal is wanted, or learned from elsewhere. */
const UNTELLING_PURPOSES: ReadonlySet<string> = new Set(['activate', 'health'])

export function createCmkMonitor({
  events,
  now,
}: {
  readonly events: EventBus
  readonly now: () => number
}): CmkMonitor {
  const words = new Map<string, Map<string, CmkWord>>()

  function wordsOf(tenant: string): Map<string, CmkWord> {
    const known = words.get(tenant) ?? new Map<string, CmkWord>()
    words.delete(tenant)
    words.set(tenant, known)
    if (words.size > MAX_TENANTS) words.delete(words.keys().next().value ?? '')
    return known
  }

  const monitor: CmkMonitor = {
    wordOf: (tenant, cmk) => words.get(tenant)?.get(nameOf(cmk)),
    tenants: () => [...words.keys()],
    learn(tenant, { provider, uri }, word) {
      const known = wordsOf(tenant)
      const name = nameOf({ provider, uri })
      const before = known.get(name)
      const changed = before?.status !== word.status
      known.set(name, { ...word, since: changed ? now() : before.since, heardAt: now() })
      const from = before?.status ?? 'unknown'
      if (!changed || (from === 'unknown' && word.status === 'healthy')) return
      events.emit('health.changed', { tenant, provider, uri, from, to: word.status, ...whatElse(word) })
    },
  }
  events.on('kms.call', ({ tenant, provider, uri, operation, outcome, keyPurpose }) => {
    if (!TELLING.has(operation) || UNTELLING_PURPOSES.has(keyPurpose) || tenant === '') return
    const status = statusOf(outcome)
    if (status !== undefined)
      monitor.learn(tenant, { provider, uri }, { status, ...(outcome === 'ok' ? {} : { code: outcome }) })
  })
  return monitor
}

/** What an outcome says of a CMK; undefined when it speaks of one blob or caller only. */
export function statusOf(outcome: 'ok' | ErrorCode): HealthStatus | undefined {
  switch (outcome) {
    case 'ok':
      return 'healthy'
    case 'ERR_KMS_KEY_PENDING_DELETION':
      return 'pending-deletion'
    case 'ERR_KMS_KEY_DESTROYED':
      return 'destroyed'
    case 'ERR_KMS_THROTTLED':
    case 'ERR_KMS_INTEGRITY_FAILED':
    case 'ERR_KMS_VERSION_RETIRED':
    case 'ERR_KMS_CONFIG':
      return 'degraded'
    case 'ERR_KMS_ABORTED':
    case 'ERR_KMS_CONTEXT_INVALID':
      return undefined
    default: {
      const { kind } = ERROR_CODES[outcome]
      return kind === 'denied' ? 'denied' : kind === 'unavailable' ? 'unreachable' : undefined
    }
  }
}

function whatElse({ code, deletesAt }: Pick<CmkWord, 'code' | 'deletesAt'>) {
  return { ...(code === undefined ? {} : { code }), ...(deletesAt === undefined ? {} : { deletesAt }) }
}

function nameOf({ provider, uri }: Pick<Cmk, 'provider' | 'uri'>): string {
  return `${provider} ${uri}`
}
