import {
  changeKek,
  denyKey,
  FieldsealError,
  type Fieldseal,
  findKey,
  type KekId,
  type KeyInfo,
  nowOf,
} from '@fieldseal/core/adapter'
import type { Surroundings } from '../engine/target.ts'
import { isKek } from '../keys/key-versions.ts'
import { needsOf, rowsUnder } from '../keys/need.ts'
import { cmksOf } from './move.ts'
import { beginApply, cancelPlan, endApply, modelsOf, type Plan, planOf, stateOf, unlessCancelled } from './plan.ts'

export interface RetireOptions {
  /** Id of a KEK, or of a direct key record. */
  readonly kek: string
  /** How long a transaction or a queued rewrap of yours may still write what it sealed before. @defaultValue 600_000 */
  readonly longestTransactionMs?: number
}

export interface Retirement {
  readonly verb: 'retire'
  readonly kekId: string
  readonly state: 'retired' | 'decrypt-only'
  readonly cancelled: boolean
}

/** Ten minutes: longer transactions than that are an incident. */
const LONGEST_TRANSACTION_MS = 600_000

/**
 * Plans to take a key out of use. It must wrap no more already; it is retired only when nothing needs it, counted after every
 * running process has heard of that and whatever was under way has been written.
 *
 * @throws FieldsealError ERR_PLAN_REFUSED for a key that still wraps
 */
export async function planRetire(surroundings: Surroundings, options: RetireOptions): Promise<Plan> {
  const { fieldseal } = surroundings
  const { kek, longestTransactionMs = LONGEST_TRANSACTION_MS } = options
  if (!Number.isFinite(longestTransactionMs) || longestTransactionMs < 0)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'longestTransactionMs', reason: 'milliseconds' })
  const record = await keyOf(surroundings, kek)
  assertWrapsNoMore(record)
  await assertNotWrapping(surroundings, record)
  const now = nowOf(fieldseal)
  const bound = (fieldseal as Fieldseal<'multi'>).revocationBoundMs(record.tenant) // ignored in tenancy `single`
  const rows = await rowsUnder(surroundings, record.id)
  const found = rows.filter((one) => one.rows > 0).map((one) => `${one.rows} rows of ${one.model}`)
  return planOf({
    verb: 'retire',
    madeAt: new Date(now).toISOString(),
    what: { kek, tenant: record.tenant },
    state: stateOf([record], modelsOf(surroundings)),
    notBefore: new Date(now + bound.reachable + longestTransactionMs).toISOString(),
    steps: [
      `count what needs the key ${kek}, then take it out of use`,
      found.length === 0 ? 'no row needs it now' : `it is still needed by ${found.join(', ')}: rewrap them first`,
    ],
    notes: [
      'values under it cannot be read afterwards; that can be undone until the key is destroyed',
      'only rows in the configured sources are counted: a database or schema that is not configured is not seen',
    ],
  })
}

export async function applyRetire(surroundings: Surroundings, plan: Plan, cancel: boolean): Promise<Retirement> {
  const { fieldseal } = surroundings
  const record = await keyOf(surroundings, plan.what['kek'] ?? '')
  if (cancel) {
    await cancelPlan(surroundings, plan, nowOf(fieldseal))
    await setState(surroundings, record, 'decrypt-only')
    return { verb: 'retire', kekId: record.id, state: 'decrypt-only', cancelled: true }
  }
  const checkpoint = await beginApply<Retirement>(surroundings, plan, nowOf(fieldseal), async () =>
    stateOf([record], modelsOf(surroundings)),
  )
  if ('result' in checkpoint) return checkpoint.result
  await assertNotWrapping(surroundings, record)
  await assertUnneeded(surroundings, record)
  const takeBack = () => setState(surroundings, record, 'decrypt-only')
  const retire = async () => {
    await setState(surroundings, record, 'retired')
    try {
      // Nobody could write under it any more; whoever did all the same gets the key back before the row is missed.
      await assertUnneeded(surroundings, record)
    } catch (error) {
      await takeBack()
      throw error
    }
    const retired = { verb: 'retire', kekId: record.id, state: 'retired', cancelled: false } as const
    return endApply<Retirement>(checkpoint, retired)
  }
  return unlessCancelled(surroundings, plan, retire, takeBack)
}

async function setState(
  { fieldseal }: Surroundings,
  record: KeyInfo,
  state: 'retired' | 'decrypt-only',
): Promise<void> {
  if (isKek(record)) await changeKek(fieldseal, record.id, { to: state })
  else await denyKey(fieldseal, record.id, state === 'retired' ? 'retired' : undefined)
}

async function keyOf({ fieldseal }: Surroundings, id: string): Promise<Exclude<KeyInfo, { readonly kind: 'index' }>> {
  const record = await findKey(fieldseal, id as KekId) // unknown where it is none
  if (record !== undefined && record.kind !== 'index') return record
  throw new FieldsealError('ERR_ARGUMENT_INVALID', {
    field: 'kek',
    reason: 'no key with this id',
    hint: 'fieldseal status lists them',
  })
}

function assertWrapsNoMore(record: KeyInfo): void {
  if (!isKek(record) || record.state === 'decrypt-only') return
  throw new FieldsealError('ERR_PLAN_REFUSED', {
    operation: 'retire',
    kekId: record.id,
    reason: `it is ${record.state}`,
    ...(record.state === 'active' ? { hint: 'rotate kek first: the newer key makes this one decrypt-only' } : {}),
  })
}

/** A direct key record has no state that says so: it wraps as long as its CMK is the first of the tenant's. @throws FieldsealError ERR_PLAN_REFUSED */
async function assertNotWrapping(surroundings: Surroundings, record: KeyInfo): Promise<void> {
  const { sources, host } = surroundings
  if (record.kind !== 'direct' || !sources.some(({ models }) => models.some(({ mode }) => mode === 'direct'))) return
  const { current } = await cmksOf(surroundings, host.tenancy === 'single' ? undefined : record.tenant)
  if (current[0] !== `${record.provider} ${record.uri}`) return
  throw new FieldsealError('ERR_PLAN_REFUSED', {
    operation: 'retire',
    tenant: record.tenant,
    kekId: record.id,
    reason: 'rows of mode direct are wrapped by its CMK',
    hint: 'name another CMK first among cmks and this one under formerCmks, rewrap the rows, then retire it',
  })
}

/** @throws FieldsealError ERR_KEY_NEEDED naming what needs the key */
async function assertUnneeded(surroundings: Surroundings, key: KeyInfo): Promise<void> {
  const { rows, subjects, indexes } = await needsOf(surroundings, key)
  const needs = [...rows, ...subjects, ...indexes]
  if (needs.length === 0) return
  throw new FieldsealError('ERR_KEY_NEEDED', {
    tenant: key.tenant,
    kekId: key.id,
    reason: needs.join(', '),
    hint:
      rows.length > 0
        ? 'rewrap them, then apply again'
        : indexes.length > 0
          ? 'give its indexes a new key first: fieldseal reindex --new-key'
          : 'rewrap the tenant first; a subject that is being shredded ends with its destruction',
  })
}
