import { FieldsealError, isFieldsealError, moveWraps, type MovedWraps, nowOf } from '@fieldseal/core/adapter'
import type { Fieldseal } from '@fieldseal/core'
import { type Checkpoint, digestOf } from '../engine/checkpoint.ts'
import type { Surroundings } from '../engine/target.ts'
import { isKek, keyRecords, knownKeys } from '../keys/key-versions.ts'
import { beginApply, endApply, type Plan, planOf, stateOf } from './plan.ts'

export interface MoveOptions {
  readonly tenant?: string
}

export interface Move extends MovedWraps {
  readonly verb: 'move'
  /** Always none: a move writes key records only. */
  readonly rowsWritten: 0
}

const ATTEMPTS = 5

/** Plans to make the wraps of a tenant's KEKs agree with its configured CMKs: another key, region, account or cloud. */
export async function planMove(surroundings: Surroundings, { tenant }: MoveOptions): Promise<Plan> {
  const { fieldseal } = surroundings
  const records = await knownKeys(surroundings, { tenant })
  const cmks = await cmksOf(surroundings, tenant)
  const keks = records.filter((record) => isKek(record) && record.parent === undefined && record.wraps.length > 0)
  const found = keks.flatMap((kek) => (isKek(kek) ? kek.wraps.map(({ provider, uri }) => `${provider} ${uri}`) : []))
  return planOf({
    verb: 'move',
    madeAt: new Date(nowOf(fieldseal)).toISOString(),
    what: tenant === undefined ? {} : { tenant },
    state: stateOf(records, cmks),
    steps: [
      `make the wraps of ${keks.length} keys agree with ${cmks.current.join(', ')}`,
      `they have wraps by ${[...new Set(found)].join(', ') || 'nobody'}`,
      'each new wrap is seen to open to the same key before an old one is dropped; no row is written',
    ],
    notes: [
      'deploy the configuration to every process first: one that does not know the new CMK cannot read afterwards',
      ...cmks.former.map(
        (name) => `${name} may be disabled once this is applied and backups of the key store have expired`,
      ),
    ],
  })
}

export async function applyMove(surroundings: Surroundings, plan: Plan): Promise<Move> {
  const { fieldseal } = surroundings
  const tenant = plan.what['tenant']
  const checkpoint = await beginApply<Move>(surroundings, plan, nowOf(fieldseal), async () =>
    stateOf(await keyRecords(surroundings, tenant), await cmksOf(surroundings, tenant)),
  )
  if ('result' in checkpoint) return checkpoint.result
  await assertConfigured(surroundings, plan, checkpoint)
  const total = { rewritten: 0, unchanged: 0, wrapsAdded: 0, wrapsDropped: 0 }
  for (let attempt = 1; ; attempt++) {
    try {
      const moved = await moveWraps(fieldseal, tenant === undefined ? {} : { tenant })
      total.rewritten += moved.rewritten
      total.wrapsAdded += moved.wrapsAdded
      total.wrapsDropped += moved.wrapsDropped
      total.unchanged = moved.unchanged
      break
    } catch (error) {
      // Somebody rotates at the same time: the record is read again.
      if (attempt === ATTEMPTS || !isFieldsealError(error) || error.code !== 'ERR_KEY_STORE_UNAVAILABLE') throw error
    }
  }
  return endApply<Move>(checkpoint, { verb: 'move', rowsWritten: 0, ...total })
}

/** A move that is finished makes of the wraps what its plan says, not what is configured by then. @throws FieldsealError ERR_PLAN_OUTDATED */
async function assertConfigured(surroundings: Surroundings, plan: Plan, { state, save }: Checkpoint): Promise<void> {
  const configured = digestOf(await cmksOf(surroundings, plan.what['tenant']))
  if (state.facts['configured'] === configured) return
  if (state.facts['configured'] !== undefined)
    throw new FieldsealError('ERR_PLAN_OUTDATED', {
      operation: plan.verb,
      ...plan.what,
      reason: 'it was begun under another configuration',
      hint: 'make a new plan and look at it again',
    })
  state.facts['configured'] = configured
  await save()
}

/** CMKs as configured. */
export async function cmksOf({ fieldseal }: Surroundings, tenant: string | undefined) {
  const application = fieldseal as Fieldseal<'multi'> // in tenancy `single` no tenant is given
  application.purge(tenant) // the configuration as it is now, not as cached
  const report = await application.health(tenant)
  const all = report.tenants.flatMap(({ cmks }) => cmks)
  const named = (role: string) =>
    all.filter((cmk) => cmk.role === role).map(({ provider, uri }) => `${provider} ${uri}`)
  return { current: named('current'), former: named('former') }
}
