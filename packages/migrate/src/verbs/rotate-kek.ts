import {
  FieldsealError,
  isFieldsealError,
  nowOf,
  rotateKek as rotateOne,
  type RotatedKek,
} from '@fieldseal/core/adapter'
import type { Surroundings } from '../engine/target.ts'
import {
  assertKnown,
  isReadable,
  type KekInfo,
  type KekVersions,
  knownKeys,
  newestOf,
  versionsOf,
} from '../keys/key-versions.ts'
import { type Report, reportOf, type TenantFailure, tenantFailure } from '../report/report.ts'
import { rewrap } from './rewrap.ts'

export interface RotateKekOptions {
  readonly tenant?: string
  /** @defaultValue `default`, or with `due` all that are due */
  readonly keyspace?: string
  /** Rotates what the policy says is due, of one tenant or of all; what is not is left alone. @defaultValue false */
  readonly due?: boolean
  /** Tells what it would do. @defaultValue false */
  readonly dryRun?: boolean
}

export interface DueKek {
  readonly tenant: string
  readonly keyspace: string
  readonly kekId: string
  readonly why: 'age' | 'wraps' | 'not-after'
  readonly dueAt: Date
  readonly overdue: boolean
}

export interface KekRotation {
  readonly rotated: readonly (RotatedKek & { readonly tenant: string; readonly keyspace: string })[]
  /** Due now or soon, by the policy. Only with `due`. */
  readonly due: readonly DueKek[]
  /** Rewraps that were run because a keyspace had more readable versions than the policy allows. */
  readonly rewraps: readonly Report[]
  /** Tenants whose keys could not be rotated, or whose rows could not all be rewrapped. Only with `due`. */
  readonly failures: readonly TenantFailure[]
}

const DAY_MS = 86_400_000

/**
 * Gives keyspaces a new KEK. Running applications follow within their cache's refresh; nothing is restarted. With `due`,
 * what fails for one tenant waits until the others are done.
 *
 * @throws FieldsealError what failed first; `rotationOf` tells all that failed, and what was done
 */
export async function rotateKek(surroundings: Surroundings, options: RotateKekOptions = {}): Promise<KekRotation> {
  const { fieldseal, host } = surroundings
  const { tenant, keyspace, dryRun = false } = options
  if (options.due === true) return rotateDue(surroundings, options)
  await assertKnown(surroundings, { tenant, keyspace })
  if (dryRun) return { rotated: [], due: [], rewraps: [], failures: [] }
  const target = { ...(tenant === undefined ? {} : { tenant }), ...(keyspace === undefined ? {} : { keyspace }) }
  const rotated = await rotateOne(fieldseal, target)
  const named = { tenant: tenant ?? (host.tenancy === 'single' ? '$single' : ''), keyspace: keyspace ?? 'default' }
  return { rotated: [{ ...rotated, ...named }], due: [], rewraps: [], failures: [] }
}

async function rotateDue(
  surroundings: Surroundings,
  { tenant, keyspace, dryRun = false }: RotateKekOptions,
): Promise<KekRotation> {
  const { fieldseal, host, policy } = surroundings
  const groups = versionsOf(
    await knownKeys(surroundings, { tenant, keyspace }),
    keyspace === undefined ? {} : { keyspace },
  )
  const due: DueKek[] = []
  const rotated: KekRotation['rotated'][number][] = []
  const crowded = new Set<string>()
  const rewraps: Report[] = []
  const failures: TenantFailure[] = []
  let first: FieldsealError | undefined
  /** What one tenant's keys are in the way of does not keep the others waiting. */
  async function goOn(at: Pick<TenantFailure, 'tenant' | 'keyspace'>, act: () => Promise<unknown>): Promise<void> {
    try {
      await act()
    } catch (error) {
      if (!isFieldsealError(error) || (error.kind === 'unavailable' && !error.code.startsWith('ERR_KMS_'))) throw error
      first ??= error
      failures.push(tenantFailure(error, at))
      const report = reportOf(error)
      if (report !== undefined) rewraps.push(report)
    }
  }
  for (const group of groups) {
    if (group.purpose !== 'wrap') continue // index keys change by a reindex
    const one = await dueOf(surroundings, group)
    if (one !== undefined) {
      due.push(one)
      host.events.emit('kek.due', one)
    }
    if (one?.overdue === true && !dryRun) {
      const target = host.tenancy === 'single' ? {} : { tenant: group.tenant }
      await goOn({ tenant: group.tenant, keyspace: group.keyspace }, async () => {
        const done = await rotateOne(fieldseal, { ...target, keyspace: group.keyspace })
        rotated.push({ ...done, tenant: group.tenant, keyspace: group.keyspace })
      })
    }
    const live = group.versions.filter(isReadable).length + (one?.overdue === true ? 1 : 0)
    if (live >= policy.maxLiveVersions && live > 1)
      host.events.emit('kek.versions', {
        tenant: group.tenant,
        keyspace: group.keyspace,
        live,
        allowed: policy.maxLiveVersions,
      })
    if (live > policy.maxLiveVersions) crowded.add(group.tenant)
  }
  if (!dryRun)
    for (const one of crowded)
      await goOn({ tenant: one }, async () =>
        rewraps.push(await rewrap(surroundings, host.tenancy === 'single' ? {} : { tenant: one })),
      )
  const rotation: KekRotation = { rotated, due, rewraps, failures }
  if (first !== undefined) throw notAll(first, rotation)
  return rotation
}

function notAll({ code, details, retryAfterMs }: FieldsealError, rotation: KekRotation): FieldsealError {
  const [{ tenant, hint } = { tenant: '', hint: '' }] = rotation.failures
  const others = new Set(rotation.failures.map((one) => one.tenant)).size - 1
  const more = others === 0 ? '' : `; so it is with ${others} other ${others === 1 ? 'tenant' : 'tenants'}`
  const error = new FieldsealError(code, { tenant, ...details, hint: `${hint}${more}` }, retryAfterMs)
  return Object.defineProperty(error, 'rotation', { value: rotation }) // not enumerable, as `report` is
}

/** What a rotation that failed for some tenants has done for the others. */
export function rotationOf(error: unknown): KekRotation | undefined {
  return typeof error === 'object' && error !== null && 'rotation' in error
    ? (error.rotation as KekRotation)
    : undefined // set above only
}

/** The KEK that wraps now, when the policy ends its time or will soon. */
async function dueOf(surroundings: Surroundings, group: KekVersions): Promise<DueKek | undefined> {
  const { fieldseal, policy } = surroundings
  const now = nowOf(fieldseal)
  const newest = newestOf(group, now)
  if (newest === undefined) return undefined // shredded or retired as a whole, or made at the next write
  const dueAtOf = (why: DueKek['why'], dueAt: number): DueKek => ({
    tenant: group.tenant,
    keyspace: group.keyspace,
    kekId: newest.id,
    why,
    dueAt: new Date(dueAt),
    overdue: dueAt <= now,
  })
  const byAge = dueAtOf('age', newest.createdAt + policy.maxAgeDays * DAY_MS)
  const byFact = newest.notAfter === undefined ? undefined : dueAtOf('not-after', newest.notAfter)
  const byTime = byFact !== undefined && byFact.dueAt < byAge.dueAt ? byFact : byAge
  if (byTime.overdue) return byTime
  if (policy.maxWraps < 2 ** 31 && (await rowsUnder(surroundings, newest)) >= policy.maxWraps)
    return dueAtOf('wraps', now)
  return byTime.dueAt.getTime() - now <= policy.warnDays * DAY_MS ? byTime : undefined
}

async function rowsUnder({ sources }: Surroundings, { id }: KekInfo): Promise<number> {
  let rows = 0
  for (const source of sources) for (const map of source.models) rows += (await source.count(map, { kekId: id })).rows
  return rows
}
