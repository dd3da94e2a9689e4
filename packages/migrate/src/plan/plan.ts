import { FieldsealError, type KeyInfo } from '@fieldseal/core/adapter'
import { type Checkpoint, digestOf, openCheckpoint } from '../engine/checkpoint.ts'
import type { Surroundings } from '../engine/target.ts'

export type PlannedVerb = 'move' | 'retire' | 'shred'

/** What an `apply` will do, and the state it was made from. JSON: it can be read, reviewed and kept. */
export interface Plan {
  readonly format: 1
  readonly verb: PlannedVerb
  readonly madeAt: string
  readonly what: Readonly<Record<string, string>>
  /** Digest of the key records and configuration that the plan is about. */
  readonly state: string
  /** What will be done, for a reader. */
  readonly steps: readonly string[]
  readonly notes: readonly string[]
  /** Not applied before: running processes may still work by the state before the plan. */
  readonly notBefore?: string
  /** What `apply` wants to see typed. */
  readonly confirm?: string
  /** How long keys wait for their destruction, in milliseconds. */
  readonly destroyAfterMs?: number
  /** Of all the rest: what was reviewed is what is applied. It proves nothing about who made the plan. */
  readonly digest: string
}

/** What a verb plans, as a plan of this version. */
export function planOf(made: Omit<Plan, 'format' | 'digest'>): Plan {
  const plan = { format: 1, ...made } as const
  return { ...plan, digest: digestOfPlan(plan) }
}

/** Whatever the order in which a file has the parts. */
function digestOfPlan(plan: Omit<Plan, 'digest'>): string {
  const { format, verb, madeAt, what, state, steps, notes, notBefore, confirm, destroyAfterMs } = plan
  return digestOf([
    [format, verb, madeAt, Object.entries(what).toSorted(([a], [b]) => (a < b ? -1 : 1)), state, steps, notes],
    [notBefore ?? null, confirm ?? null, destroyAfterMs ?? null],
  ])
}

export interface ApplyOptions {
  /** The name that the plan asks for. */
  readonly confirm?: string
  /** Takes back what can be taken back: a retirement, or a shred before its keys are destroyed. @defaultValue false */
  readonly cancel?: boolean
  /** Stops a shred while it clears tokens; the checkpoint is kept. */
  readonly signal?: AbortSignal
}

const VERBS: ReadonlySet<unknown> = new Set<PlannedVerb>(['move', 'retire', 'shred'])

/** @throws FieldsealError ERR_ARGUMENT_INVALID for what is no plan of this version, or is not what it was made as */
export function checkedPlan(plan: unknown): Plan {
  const isPlan =
    typeof plan === 'object' &&
    plan !== null &&
    'format' in plan &&
    plan.format === 1 &&
    'verb' in plan &&
    VERBS.has(plan.verb) &&
    'what' in plan &&
    typeof plan.what === 'object' &&
    plan.what !== null
  if (!isPlan) throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'plan', reason: 'no plan of this version' })
  const whole = plan as unknown as Plan // as `plan` made it, if its digest says so
  if (whole.digest === digestOfPlan(whole)) return whole
  throw new FieldsealError('ERR_ARGUMENT_INVALID', {
    field: 'plan',
    reason: 'it was changed since it was made',
    hint: 'make a new plan that says what you want, and look at it again',
  })
}

/** The models whose rows are counted and walked. */
export function modelsOf({ sources }: Pick<Surroundings, 'sources'>): readonly (readonly string[])[] {
  return sources.map(({ models }) => models.map(({ id }) => id).toSorted())
}

/** A digest of key records as far as they decide; in any order. */
export function stateOf(records: readonly KeyInfo[], ...further: readonly unknown[]): string {
  const facts = records.map((record) =>
    record.kind === 'kek'
      ? [record.id, record.rowVersion, record.revision, record.state, record.denial ?? '']
      : [record.id, record.rowVersion, record.kind],
  )
  return digestOf([facts.toSorted((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1)), ...further])
}

/**
 * The checkpoint of a plan's application. A plan that was begun goes on whatever its own first run has changed; one that
 * was not is refused when the state is no longer that of the plan.
 */
export async function beginApply<R>(
  surroundings: Surroundings,
  plan: Plan,
  now: number,
  stateNow: () => Promise<string>,
): Promise<Checkpoint | { readonly result: R }> {
  const checkpoint = await checkpointOf(surroundings, plan, now)
  const { facts } = checkpoint.state
  // Applied before: its caller may have been killed before it heard of that.
  if (typeof facts['result'] === 'string' && facts['cancelled'] !== 1)
    return { result: JSON.parse(facts['result']) as R } // written by `endApply`
  if (facts['begun'] === 1 && facts['cancelled'] !== 1) return checkpoint
  if (facts['cancelled'] === 1 || (await stateNow()) !== plan.state)
    throw new FieldsealError('ERR_PLAN_OUTDATED', {
      operation: plan.verb,
      ...plan.what,
      hint: 'make a new plan and look at it again',
    })
  if (plan.notBefore !== undefined && now < Date.parse(plan.notBefore))
    throw new FieldsealError('ERR_PLAN_REFUSED', {
      operation: plan.verb,
      ...plan.what,
      reason: `running processes may still write under the key until ${plan.notBefore}`,
      hint: 'apply it then',
    })
  facts['begun'] = 1
  await checkpoint.save()
  return checkpoint
}

export async function endApply<R>(checkpoint: Checkpoint, result: R): Promise<R> {
  checkpoint.state.facts['result'] = JSON.stringify(result)
  await checkpoint.save()
  return result
}

/**
 * Does what a plan says. Another process that cancels it meanwhile has not seen what is done after that: whoever did it
 * takes it back.
 */
export async function unlessCancelled<R>(
  surroundings: Surroundings,
  plan: Plan,
  act: () => Promise<R>,
  takeBack: () => Promise<unknown>,
): Promise<R> {
  try {
    return await act()
  } catch (error) {
    const { state } = await checkpointOf(surroundings, plan, 0)
    if (state.facts['cancelled'] !== 1) throw error
    await takeBack()
    throw new FieldsealError('ERR_PLAN_OUTDATED', {
      operation: plan.verb,
      ...plan.what,
      reason: 'another process has cancelled it meanwhile',
      hint: 'make a new plan and look at it again',
    })
  }
}

/** From here on a plan cannot be cancelled; whoever did it before is heard. */
export async function beginEnd({ state, save }: Checkpoint): Promise<void> {
  state.facts['final'] = 1
  await save()
}

/** Ends a plan for ever, before anything is taken back. @throws FieldsealError ERR_PLAN_REFUSED after `beginEnd` */
export async function cancelPlan(surroundings: Surroundings, plan: Plan, now: number): Promise<Checkpoint> {
  const checkpoint = await checkpointOf(surroundings, plan, now)
  if (checkpoint.state.facts['final'] === 1)
    throw new FieldsealError('ERR_PLAN_REFUSED', {
      operation: plan.verb,
      ...plan.what,
      reason: 'its keys are destroyed, or are just being: that cannot be taken back',
    })
  checkpoint.state.facts['cancelled'] = 1
  await checkpoint.save()
  return checkpoint
}

async function checkpointOf({ sources }: Surroundings, plan: Plan, now: number): Promise<Checkpoint> {
  const [source] = sources
  if (source === undefined) throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'sources' })
  const { digest } = plan
  return openCheckpoint(source.checkpoints, `fieldseal apply ${digest}`, {
    digest,
    restart: false,
    now,
    anew: 'make a new plan',
  })
}
