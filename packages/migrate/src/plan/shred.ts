import {
  type Row,
  changeKek,
  denyKey,
  FieldsealError,
  type Fieldseal,
  type KeyInfo,
  nowOf,
} from '@fieldseal/core/adapter'
import type { RowVerb } from '../engine/batch.ts'
import type { Pace } from '../engine/pace.ts'
import { runJob } from '../engine/run-job.ts'
import type { Surroundings } from '../engine/target.ts'
import { isDestroyed, isKek, type KekInfo } from '../keys/key-versions.ts'
import { rowsUnder } from '../keys/need.ts'
import { reportOf } from '../report/report.ts'
import { type Statement, statementOf } from '../report/statement.ts'
import { cmksOf } from './move.ts'
import { destroyAll, keysOf, keysToShred, restrictAll, type Scope } from './shred-keys.ts'
import {
  type ApplyOptions,
  beginApply,
  beginEnd,
  cancelPlan,
  endApply,
  modelsOf,
  type Plan,
  planOf,
  stateOf,
  unlessCancelled,
} from './plan.ts'

export interface ShredOptions {
  readonly tenant?: string
  /** `subject:<of>:<id>` or `class:<name>`. @defaultValue the whole tenant */
  readonly keyspace?: string
  /** Only this key, which was retired before and which no row needs: ends its life. @defaultValue all keys of the keyspace or tenant */
  readonly kek?: string
  /** Days between `apply` and the destruction of the keys; until then it can be cancelled. @defaultValue 7 */
  readonly destroyAfterDays?: number
}

export interface Shred {
  readonly verb: 'shred'
  readonly app: string
  readonly tenant: string
  readonly keyspace: string
  /** `pending`: unreadable, and can be cancelled until `destroyAt`. */
  readonly state: 'pending' | 'destroyed' | 'cancelled'
  readonly at: string
  readonly destroyAt: string
  readonly keys: readonly {
    readonly id: string
    readonly keyspace: string
    readonly purpose: string
    readonly version: number
    /** `denied`: its CMK answers no more, so it was restricted without the key. */
    readonly how: 'by state' | 'denied'
  }[]
  /** Rows that hold values under these keys, and tokens that were cleared. */
  readonly rows: readonly { readonly model: string; readonly rows: number }[]
  readonly tokensCleared: number | 'at destruction' | 'the source cannot'
  /** What still holds the data or the keys. */
  readonly remains: readonly string[]
}

const DAY_MS = 86_400_000

/** Plans to make data unreadable for ever by destroying its keys: of one keyspace, or of a whole tenant. */
export async function planShred(surroundings: Surroundings, options: ShredOptions): Promise<Plan> {
  const { fieldseal, host } = surroundings
  const { tenant, keyspace, kek, destroyAfterDays = 7 } = options
  if (host.tenancy === 'multi' && tenant === undefined)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'tenant', hint: 'say whose data is to be shredded' })
  if (!Number.isFinite(destroyAfterDays) || destroyAfterDays < 0 || destroyAfterDays > 365)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'destroyAfterDays', reason: '0 to 365' })
  const scope = {
    ...(tenant === undefined ? {} : { tenant }),
    ...(keyspace === undefined ? {} : { keyspace }),
    ...(kek === undefined ? {} : { kek }),
  }
  const keys = await keysToShred(surroundings, scope)
  const rows = await rowsOfKeys(surroundings, keys)
  return planOf({
    verb: 'shred',
    madeAt: new Date(nowOf(fieldseal)).toISOString(),
    what: scope,
    state: stateOf(keys, modelsOf(surroundings)),
    confirm: kek ?? keyspace ?? tenant ?? 'everything',
    destroyAfterMs: destroyAfterDays * DAY_MS,
    steps: [
      `make ${keys.length} keys unusable at once: ${keys.map(({ id }) => id).join(', ')}`,
      ...rows.map(({ model, rows: count }) => `${count} rows of ${model} cannot be read from then on`),
      `destroy the keys ${destroyAfterDays} days later, when this plan is applied again, and clear the tokens of these rows`,
      `until then: fieldseal apply --cancel`,
    ],
    notes: await whatRemains(surroundings, tenant, keys),
  })
}

/** Makes the keys unusable; applied again after `destroyAt`, destroys them. */
export async function applyShred(
  surroundings: Surroundings,
  plan: Plan,
  { confirm, cancel = false, signal }: ApplyOptions,
): Promise<Statement<Shred>> {
  const { fieldseal } = surroundings
  const now = nowOf(fieldseal)
  const scope = scopeOf(plan)
  if (!cancel && confirm !== plan.confirm)
    throw new FieldsealError('ERR_PLAN_REFUSED', {
      operation: 'shred',
      reason: 'not confirmed',
      hint: `confirm by the name: ${plan.confirm ?? ''}`,
    })
  if (cancel) return cancelled(surroundings, plan, scope)
  const checkpoint = await beginApply<Statement<Shred>>(surroundings, plan, now, async () =>
    stateOf(await keysToShred(surroundings, scope), modelsOf(surroundings)),
  )
  if ('result' in checkpoint) return checkpoint.result
  const { facts } = checkpoint.state
  if (facts['destroyAt'] === undefined) {
    facts['destroyAt'] = now + (plan.destroyAfterMs ?? 7 * DAY_MS)
    await checkpoint.save()
  }
  const destroyAt = Number(facts['destroyAt'])
  if (facts['pending'] !== 1) {
    const restrict = async () => {
      await restrictAll(surroundings, scope, destroyAt)
      facts['pending'] = 1
      await checkpoint.save()
    }
    await unlessCancelled(surroundings, plan, restrict, () => takeBack(surroundings, scope))
    if (now < destroyAt) return statement(surroundings, scope, 'pending', destroyAt, 'at destruction')
  }
  if (now < destroyAt)
    throw new FieldsealError('ERR_PLAN_REFUSED', {
      operation: 'shred',
      ...scope,
      reason: `the keys may be destroyed from ${new Date(destroyAt).toISOString()} on`,
      hint: 'apply it again then, or cancel it with --cancel',
    })
  await destroyAll(surroundings, scope, () => beginEnd(checkpoint))
  const cleared = await clearTokens(surroundings, scope, signal === undefined ? {} : { signal })
  return endApply(checkpoint, await statement(surroundings, scope, 'destroyed', destroyAt, cleared))
}

function scopeOf({ what }: Plan): Scope {
  const { tenant, keyspace, kek } = what
  return {
    ...(tenant === undefined ? {} : { tenant }),
    ...(keyspace === undefined ? {} : { keyspace }),
    ...(kek === undefined ? {} : { kek }),
  }
}

async function cancelled(surroundings: Surroundings, plan: Plan, scope: Scope): Promise<Statement<Shred>> {
  const { fieldseal } = surroundings
  const keys = await keysOf(surroundings, scope)
  if (keys.some(isDestroyed))
    throw new FieldsealError('ERR_PLAN_REFUSED', {
      operation: 'shred',
      ...scope,
      reason: 'keys are destroyed already: that cannot be taken back',
    })
  const checkpoint = await cancelPlan(surroundings, plan, nowOf(fieldseal))
  await takeBack(surroundings, scope)
  const destroyAt = Number(checkpoint.state.facts['destroyAt'] ?? Date.parse(plan.madeAt))
  return statement(surroundings, scope, 'cancelled', destroyAt, 'at destruction')
}

async function takeBack(surroundings: Surroundings, scope: Scope): Promise<void> {
  const { fieldseal } = surroundings
  for (const key of await keysOf(surroundings, scope)) {
    if ('denial' in key && key.denial === 'pending-destruction') await denyKey(fieldseal, key.id, undefined)
    if (!isKek(key) || key.state !== 'pending-destruction') continue
    await changeKek(fieldseal, key.id, { to: 'retired' })
  }
  // Two loops: a key that was brought half the way back when this was killed is found by its state.
  for (const key of await keysOf(surroundings, scope))
    if (isKek(key) && key.state === 'retired' && key.denial === undefined)
      await changeKek(fieldseal, key.id, { to: 'decrypt-only' })
}

async function rowsOfKeys(surroundings: Surroundings, keys: readonly KeyInfo[]) {
  const rows = new Map<string, number>()
  for (const key of keys) {
    if (isKek(key) && key.purpose === 'index') continue
    for (const one of await rowsUnder(surroundings, key.id)) rows.set(one.model, (rows.get(one.model) ?? 0) + one.rows)
  }
  return [...rows].flatMap(([model, count]) => (count > 0 ? [{ model, rows: count }] : []))
}

/** Tokens are under a key of the tenant, not of the data subject: they would tell whether a value is the shredded one. */
async function clearTokens(surroundings: Surroundings, scope: Scope, pace: Pace): Promise<Shred['tokensCleared']> {
  if (scope.kek !== undefined) return 0 // no row needs the key
  if (surroundings.sources.every(({ clearTokens: clear }) => clear === undefined)) return 'the source cannot'
  const verb: RowVerb = {
    name: 'clear-tokens',
    converges: false,
    async work(rows, { source, map }) {
      const keys = rows.map(({ stored }) => stored.key)
      if (map.indexes.length > 0 && keys.length > 0) await source.clearTokens?.(map, keys)
      return rows.map(({ row }) => ({ counts: { tokens: tokensOf(row) } }))
    },
  }
  const job = { verb, what: scope, pace, pinned: [], hint: 'apply it again' }
  const report = await runJob(surroundings, job).catch((error: unknown) => {
    // A row whose keyspace cannot be told belongs to nobody's key.
    const partly = reportOf(error)
    if (partly === undefined || partly.models.some(({ changed, denied }) => changed + denied > 0)) throw error
    return partly
  })
  return report.models.reduce((sum, { counts }) => sum + (counts['tokens'] ?? 0), 0)
}

/** Told by the values, which stay: a run that was killed counts what it had cleared before. */
function tokensOf({ map, cells }: Row<unknown>): number {
  const held = cells.filter(({ value }) => value !== null && value !== undefined).map(({ field }) => field)
  const compounds = map.indexes.filter(
    ({ fields }) => fields.length > 1 && fields.every((field) => held.includes(field)),
  )
  return held.filter(({ blindIndex }) => blindIndex !== undefined).length + compounds.length
}

async function statement(
  surroundings: Surroundings,
  scope: Scope,
  state: Shred['state'],
  destroyAt: number,
  tokensCleared: Shred['tokensCleared'],
): Promise<Statement<Shred>> {
  const { fieldseal, signingKey } = surroundings
  const keys = await keysOf(surroundings, scope)
  const report: Shred = {
    verb: 'shred',
    app: keys[0]?.app ?? '',
    tenant: scope.tenant ?? '$single',
    keyspace: scope.keyspace ?? (scope.kek === undefined ? 'all' : `key ${scope.kek}`),
    state,
    at: new Date(nowOf(fieldseal)).toISOString(),
    destroyAt: new Date(destroyAt).toISOString(),
    keys: keys.filter(isKek).map((key) => ({
      id: key.id,
      keyspace: key.keyspace,
      purpose: key.purpose,
      version: key.version,
      how: key.denial === undefined ? 'by state' : 'denied',
    })),
    rows: await rowsOfKeys(surroundings, keys),
    tokensCleared,
    remains: await whatRemains(surroundings, scope.tenant, keys),
  }
  return statementOf(report, signingKey)
}

/** What shredding does not reach, in words for the one who signs for it. */
async function whatRemains(
  surroundings: Surroundings,
  tenant: string | undefined,
  keys: readonly KeyInfo[],
): Promise<readonly string[]> {
  const { fieldseal } = surroundings
  const bound = (fieldseal as Fieldseal<'multi'>).revocationBoundMs(tenant) // ignored in tenancy `single`
  const wraps = keys.flatMap((key) => (isKek(key) ? key.wraps.map(({ provider, uri }) => `${provider} ${uri}`) : []))
  const { current, former } = await cmksOf(surroundings, tenant)
  const subjects = keys.filter((key): key is KekInfo => isKek(key) && key.keyspace === 'default').length
  return [
    `processes that run now may use cached keys for up to ${Math.ceil(bound.reachable / 1_000)} s, and up to ${Math.ceil(bound.unreachable / 1_000)} s where they cannot ask`,
    'backups of the rows hold ciphertext; they open only together with a backup of the key store and the CMK',
    'backups of the key store hold wrapped keys until they expire: restoring one brings the keys back',
    ...[...new Set([...wraps, ...current, ...former])].map(
      (name) => `${name} opens such backups until it is deleted in its KMS`,
    ),
    ...onTheirWay(surroundings).map((name) => `${name} may hold plaintext, which no key protects: backfill it first`),
    ...(subjects > 0 ? ['keys of data subjects under these keys end with them'] : []),
    'plaintext that an application copied elsewhere (logs, exports, search engines) is not reached',
  ]
}

/** Fields whose values may stand in plaintext. */
function onTheirWay({ sources }: Surroundings): readonly string[] {
  const fields = sources.flatMap(({ models }) => models.flatMap((map) => map.fields))
  return fields.flatMap(({ model, id, state }) => (state === 'encrypted' ? [] : [`${model}.${id}`]))
}
