import {
  FieldsealError,
  isFieldsealError,
  nowOf,
  rotateKek as rotateOne,
  type RotatedKek,
} from '@fieldseal/core/adapter'
import { assertKnown } from '../engine/run-job.ts'
import type { Surroundings } from '../engine/target.ts'
import { isReadable, type KekInfo, type KekVersions, keyRecords, newestOf, versionsOf } from '../keys/key-versions.ts'
import type { Report } from '../report/report.ts'
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
}

const DAY_MS = 86_400_000

/**
 * Gives keyspaces a new KEK. Running applications follow within their cache's refresh; nothing is restarted. With `due`,
 * what fails for one tenant is thrown when the others are done.
 */
export async function rotateKek(surroundings: Surroundings, options: RotateKekOptions = {}): Promise<KekRotation> {
  const { fieldseal, host } = surroundings
  const { tenant, keyspace, dryRun = false } = options
  if (options.due === true) return rotateDue(surroundings, options)
  assertKnown(tenant, (await keyRecords(surroundings, tenant)).length)
  if (dryRun) return { rotated: [], due: [], rewraps: [] }
  const target = { ...(tenant === undefined ? {} : { tenant }), ...(keyspace === undefined ? {} : { keyspace }) }
  const rotated = await rotateOne(fieldseal, target)
  const named = { tenant: tenant ?? (host.tenancy === 'single' ? '$single' : ''), keyspace: keyspace ?? 'default' }
  return { rotated: [{ ...rotated, ...named }], due: [], rewraps: [] }
}

async function rotateDue(
  surroundings: Surroundings,
  { tenant, keyspace, dryRun = false }: RotateKekOptions,
): Promise<KekRotation> {
  const { fieldseal, host, policy } = surroundings
  const groups = versionsOf(await keyRecords(surroundings, tenant), keyspace === undefined ? {} : { keyspace })
  const due: DueKek[] = []
  const rotated: KekRotation['rotated'][number][] = []
  const crowded = new Set<string>()
  const failures: unknown[] = []
  /** What one tenant's keys are in the way of does not keep the others waiting. */
  async function goOn({ tenant: of }: { readonly tenant: string }, act: () => Promise<unknown>): Promise<void> {
    try {
      await act()
    } catch (error) {
      if (!isFieldsealError(error) || (error.kind === 'unavailable' && !error.code.startsWith('ERR_KMS_'))) throw error
      failures.push(error.code === 'ERR_ROWS_REMAIN' ? error : withTenant(error, of))
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
      await goOn(group, async () => {
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
  const rewraps: Report[] = []
  if (!dryRun)
    for (const one of crowded)
      await goOn({ tenant: one }, async () =>
        rewraps.push(await rewrap(surroundings, host.tenancy === 'single' ? {} : { tenant: one })),
      )
  if (failures.length > 0) throw failures[0]
  return { rotated, due, rewraps }
}

function withTenant({ code, details, retryAfterMs }: FieldsealError, tenant: string): FieldsealError {
  return new FieldsealError(code, { tenant, ...details }, retryAfterMs)
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
