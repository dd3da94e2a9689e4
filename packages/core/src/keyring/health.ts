import type { Clock } from '../cache/clock.ts'
import type { KmsCalls } from '../cache/kms-calls.ts'
import { createSingleFlight } from '../cache/single-flight.ts'
import type { EncryptionContext } from '../context/encryption-context.ts'
import { DEFAULT_KEYSPACE } from '../context/keyspace.ts'
import type { KekId } from '../context/record-id.ts'
import type { ErrorCode } from '../errors/codes.ts'
import { isFieldsealError } from '../errors/fieldseal-error.ts'
import type { Cmk, CmkDescription, CmkState } from '../keys/cmk.ts'
import type { KekRecord, StoredWrap } from '../keys/records.ts'
import type { HealthStatus, KmsOperation } from '../observe/events.ts'
import { type CmkMonitor, type CmkWord, statusOf } from './cmk-monitor.ts'
import { isKek, isReadable } from './kek-selection.ts'
import { kekContext, type KekWraps, probed } from './kek-wraps.ts'
import type { Snapshots } from './snapshots.ts'
import type { ResolvedTenantKeys, TenantKeyring } from './tenant-keys.ts'

/** What is known of one CMK of one tenant. */
export interface CmkHealth {
  readonly provider: string
  readonly uri: string
  /** `former`: may only unwrap, until a move is applied. Its status does not count for the tenant's. */
  readonly role: 'current' | 'former'
  readonly status: HealthStatus
  /** What it answered, when it is not healthy. */
  readonly code?: ErrorCode
  /** When the KMS will delete it. */
  readonly deletesAt?: Date
  /** Since when it has been so, as far as this process knows. */
  readonly since?: Date
  readonly checkedAt?: Date
}

/** What is known of one tenant's keys. */
export interface TenantHealth {
  readonly tenant: string
  readonly status: HealthStatus
  /** Why, when it is not the CMKs: the registry or the key store. */
  readonly code?: ErrorCode
  readonly cmks: readonly CmkHealth[]
}

export interface Health {
  of(tenant: string, options: { readonly maxAgeMs: number }): Promise<TenantHealth>
}

export interface HealthSettings {
  readonly app: string
  readonly calls: KmsCalls
  readonly wraps: KekWraps
  readonly tenantKeys: TenantKeyring
  readonly snapshots: Snapshots
  readonly monitor: CmkMonitor
  readonly clock: Clock
  readonly deniedKeks: ReadonlySet<KekId>
}

type Word = Pick<CmkWord, 'status' | 'code' | 'deletesAt'>

/**
 * Asks CMKs by `describe` and `probe` where they have them. One without `probe` is believed healthy while its last call
 * says so; otherwise it is asked to unwrap a key that it has wrapped. Never throws for what is broken.
 */
export function createHealth(settings: HealthSettings): Health {
  const { app, calls, wraps, tenantKeys, snapshots, monitor, clock, deniedKeks } = settings
  const flights = createSingleFlight<void>()

  async function check(
    tenant: string,
    cmk: Cmk,
    keys: ResolvedTenantKeys,
    records: readonly KekRecord[],
  ): Promise<void> {
    const context: EncryptionContext = { app, fieldseal: '1', tenant, keyspace: DEFAULT_KEYSPACE, purpose: 'health' }
    const call = <R>(operation: KmsOperation, run: Parameters<typeof calls.call<R>>[2], under = context) =>
      calls.call(cmk, { operation, context: under, keyPurpose: 'health', deadlineMs: keys.policy.callDeadlineMs }, run)
    const described = await heard(async () => {
      if (cmk.describe === undefined) return undefined
      return fromDescription(await call('describe', async (request) => cmk.describe?.(request)))
    })
    const last = monitor.wordOf(tenant, cmk)
    const allowed = await heard(async () => {
      if (cmk.probe === undefined && last?.status === 'healthy') return undefined // ordinary calls tell
      const wrapped = await wrapBy(cmk, records, keys)
      if (cmk.probe !== undefined)
        await call('probe', (request) => probed(cmk, wrapped?.wrap, request), wrapped?.context)
      else if (wrapped === undefined) return undefined
      else (await call('unwrap', (request) => cmk.unwrap(wrapped.wrap, request), wrapped.context))[Symbol.dispose]()
      return { status: 'healthy' }
    })
    const word = combined(described, allowed, last)
    if (word !== undefined) monitor.learn(tenant, cmk, word)
  }

  /** A wrap that the CMK made, for those that cannot tell without one. */
  async function wrapBy(
    cmk: Cmk,
    records: readonly KekRecord[],
    keys: ResolvedTenantKeys,
  ): Promise<{ readonly wrap: StoredWrap; readonly context: EncryptionContext } | undefined> {
    for (const record of records) {
      const context = kekContext(record, record.purpose, record.id)
      const wrap = await wraps.wrapOf(record, cmk, context, keys)
      if (wrap !== undefined) return { wrap, context }
    }
    return undefined
  }

  async function recordsOf(
    tenant: string,
  ): Promise<{ readonly records: readonly KekRecord[]; readonly code?: ErrorCode }> {
    try {
      const snapshot = await snapshots.get({ app, tenant, keyspace: DEFAULT_KEYSPACE }, 'read')
      // A key that nobody may use any more is not unwrapped to ask after a CMK.
      const usable = [...snapshot.records.values()].filter(isKek).filter((record) => isReadable(record, deniedKeks))
      return { records: usable.toSorted((a, b) => b.createdAt - a.createdAt) }
    } catch (error) {
      return { records: [], code: codeOf(error, 'ERR_KEY_STORE_UNAVAILABLE') }
    }
  }

  return {
    async of(tenant, { maxAgeMs }) {
      let keys: ResolvedTenantKeys
      try {
        keys = await tenantKeys.get(tenant, 'read')
      } catch (error) {
        const code = codeOf(error, 'ERR_REGISTRY_UNAVAILABLE')
        return { tenant, status: code === 'ERR_TENANT_UNKNOWN' ? 'denied' : 'unreachable', code, cmks: [] }
      }
      const { records, code } = await recordsOf(tenant)
      const all = [...keys.cmks, ...keys.formerCmks]
      await Promise.all(
        all.map(async (cmk) => {
          const heardAt = monitor.wordOf(tenant, cmk)?.heardAt
          if (heardAt !== undefined && clock.now() - heardAt < maxAgeMs) return
          await flights.run(`${tenant}\0${cmk.provider} ${cmk.uri}`, () => check(tenant, cmk, keys, records))
        }),
      )
      const cmks = all.map((cmk, i) =>
        healthOf(cmk, i < keys.cmks.length ? 'current' : 'former', monitor.wordOf(tenant, cmk)),
      )
      const status = tenantStatus(cmks, keys.revocation)
      return code === undefined ? { tenant, status, cmks } : { tenant, status: worse(status, 'degraded'), code, cmks }
    },
  }
}

/** The word, or what the failure to get one says. */
async function heard(ask: () => Promise<Word | undefined>): Promise<Word | undefined> {
  try {
    return await ask()
  } catch (error) {
    const code = codeOf(error, 'ERR_KMS_UNKNOWN')
    const status = statusOf(code)
    return status === undefined ? undefined : { status, code }
  }
}

const STATES: Readonly<Record<CmkState, Word | undefined>> = {
  enabled: { status: 'healthy' },
  disabled: { status: 'denied', code: 'ERR_KMS_KEY_DISABLED' },
  'pending-deletion': { status: 'pending-deletion', code: 'ERR_KMS_KEY_PENDING_DELETION' },
  destroyed: { status: 'destroyed', code: 'ERR_KMS_KEY_DESTROYED' },
  'pending-import': { status: 'denied', code: 'ERR_KMS_KEY_PENDING_IMPORT' },
  unknown: undefined,
}
/** Denials that a description would show. */
const DESCRIBED: ReadonlySet<ErrorCode | undefined> = new Set(Object.values(STATES).map((word) => word?.code))

function fromDescription(description: CmkDescription | undefined): Word | undefined {
  const word = description && STATES[description.state]
  return word && description.deletesAt !== undefined ? { ...word, deletesAt: description.deletesAt } : word
}

/** What to believe of a description, a probe and the last call. A refusal to describe says nothing about the right to use. */
function combined(described: Word | undefined, allowed: Word | undefined, last: CmkWord | undefined): Word | undefined {
  const refused = described?.status === 'denied' && !DESCRIBED.has(described.code)
  if (described !== undefined && !refused && described.status !== 'healthy' && described.status !== 'unreachable')
    return described
  if (allowed !== undefined) return allowed
  if (described === undefined || refused) return undefined
  const stillDenied = last?.status === 'denied' && !DESCRIBED.has(last.code)
  return described.status === 'healthy' && stillDenied ? undefined : described
}

function healthOf({ provider, uri }: Cmk, role: CmkHealth['role'], word: CmkWord | undefined): CmkHealth {
  if (word === undefined) return { provider, uri, role, status: 'unknown' }
  const { since, heardAt, ...rest } = word
  return { provider, uri, role, ...rest, since: new Date(since), checkedAt: new Date(heardAt) }
}

const SEVERITY: readonly HealthStatus[] = [
  'unknown',
  'healthy',
  'degraded',
  'unreachable',
  'denied',
  'pending-deletion',
  'destroyed',
]

export function worse(a: HealthStatus, b: HealthStatus): HealthStatus {
  return SEVERITY.indexOf(a) >= SEVERITY.indexOf(b) ? a : b
}

/** Can the tenant's data be read and written? As long as one CMK answers, others that do not only degrade it. */
function tenantStatus(cmks: readonly CmkHealth[], revocation: ResolvedTenantKeys['revocation']): HealthStatus {
  const current = cmks.filter(({ role }) => role === 'current').map(({ status }) => status)
  const worst = current.reduce(worse)
  const closes = (status: HealthStatus) => SEVERITY.indexOf(status) >= SEVERITY.indexOf('denied')
  if (closes(worst) && (revocation === 'any-leg' || current.every(closes))) return worst
  const works = current.some((status) => status === 'healthy' || status === 'degraded')
  return works && worst !== 'healthy' && worst !== 'unknown' ? 'degraded' : closes(worst) ? 'unreachable' : worst
}

function codeOf(error: unknown, otherwise: ErrorCode): ErrorCode {
  return isFieldsealError(error) ? error.code : otherwise
}
