import { changeKek, denyKey, FieldsealError, isFieldsealError, type KeyInfo } from '@fieldseal/core/adapter'
import type { Surroundings, What } from '../engine/target.ts'
import { isDestroyed, isKek, keyRecords } from '../keys/key-versions.ts'
import { needsOf, rowsUnder } from '../keys/need.ts'

/** What is shredded. */
export interface Scope extends Pick<What, 'tenant' | 'keyspace'> {
  readonly kek?: string
}

/** Keys of the scope that are not those of data subjects under them: these end with their parent. */
export async function keysOf(
  surroundings: Surroundings,
  { tenant, keyspace, kek }: Scope,
): Promise<readonly KeyInfo[]> {
  const records = await keyRecords(surroundings, surroundings.host.tenancy === 'single' ? undefined : tenant)
  return records.filter((record) => {
    if (record.kind === 'index') return false
    if (kek !== undefined) return isKek(record) && record.id === kek
    if (keyspace !== undefined) return record.keyspace === keyspace
    return !isKek(record) || record.parent === undefined
  })
}

/** @throws FieldsealError when there are none, or when rows of mode `direct` need the customer's CMK itself */
export async function keysToShred(surroundings: Surroundings, scope: Scope): Promise<readonly KeyInfo[]> {
  const keys = await keysOf(surroundings, scope)
  if (keys.length === 0)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      field: scope.keyspace === undefined ? 'tenant' : 'keyspace',
      reason: 'the key store has no key of it',
      hint: 'check the spelling',
    })
  const { keyspace, kek } = scope
  if (kek !== undefined) {
    for (const key of keys) await assertRetired(surroundings, key)
    return keys
  }
  if (keyspace === 'default') {
    const others = (await keyRecords(surroundings, scope.tenant)).filter(
      (record) => isKek(record) && record.keyspace !== 'default',
    )
    if (others.length > 0)
      throw new FieldsealError('ERR_PLAN_REFUSED', {
        operation: 'shred',
        ...scope,
        reason: 'the keys of other keyspaces and of all indexes stand under it',
        hint: 'shred the tenant as a whole, without a keyspace',
      })
  }
  for (const key of keys) {
    if (key.kind !== 'direct') continue
    const rows = (await rowsUnder(surroundings, key.id)).filter((one) => one.rows > 0)
    if (rows.length > 0)
      throw new FieldsealError('ERR_KEY_NEEDED', {
        tenant: key.tenant,
        kekId: key.id,
        reason: `${rows.map((one) => `${one.rows} rows of ${one.model}`).join(', ')} in mode direct: there is no key of ours to destroy`,
        hint: "rewrap them into mode kek first; or the customer destroys its CMK, which ends all of the tenant's data",
      })
  }
  return keys
}

/** A single key ends only after it was retired and read by nobody since: a soak that an incident would have shown in. */
async function assertRetired(surroundings: Surroundings, key: KeyInfo): Promise<void> {
  if (isKek(key) && key.state === 'retired') return assertUnneeded(surroundings, key)
  throw new FieldsealError('ERR_PLAN_REFUSED', {
    operation: 'shred',
    tenant: key.tenant,
    kekId: key.id,
    reason: 'it is not retired',
    hint: 'plan retire first, and see that nobody misses it',
  })
}

/** @throws FieldsealError ERR_KEY_NEEDED naming what needs the key */
async function assertUnneeded(surroundings: Surroundings, key: KeyInfo): Promise<void> {
  const needs = Object.values(await needsOf(surroundings, key)).flat()
  if (needs.length === 0) return
  throw new FieldsealError('ERR_KEY_NEEDED', {
    operation: 'shred',
    tenant: key.tenant,
    kekId: key.id,
    reason: needs.join(', '),
    hint: 'take the key back with --cancel, then rewrap the tenant',
  })
}

/**
 * Makes keys unusable, newest versions last: while an older one is readable, a writer would make a new one. Looks again
 * until none is left that somebody has made meanwhile.
 */
export async function restrictAll(surroundings: Surroundings, scope: Scope, destroyAt: number): Promise<void> {
  for (let round = 0; round < 5; round++) {
    const readable = (await keysOf(surroundings, scope)).filter(isUsable)
    if (readable.length === 0) return
    const ordered = readable.toSorted((a, b) => rankOf(a) - rankOf(b))
    for (const key of ordered) await restrict(surroundings, key, destroyAt)
  }
  throw new FieldsealError('ERR_PLAN_REFUSED', {
    operation: 'shred',
    ...scope,
    reason: 'new keys appear again and again',
    hint: 'stop what rotates them, then apply again',
  })
}

function isUsable(key: KeyInfo): boolean {
  if (key.kind !== 'kek') return !('denial' in key && key.denial !== undefined)
  const ended = key.state === 'pending-destruction' || key.state === 'destroyed'
  return !ended && key.denial !== 'pending-destruction' && key.denial !== 'destroyed'
}

function rankOf(key: KeyInfo): number {
  if (!isKek(key)) return 0
  return (key.state === 'active' ? 1e9 : 0) + key.version
}

async function restrict({ fieldseal }: Surroundings, key: KeyInfo, destroyAt: number): Promise<void> {
  if (!isKek(key)) {
    await denyKey(fieldseal, key.id, 'pending-destruction')
    return
  }
  try {
    await changeKek(fieldseal, key.id, { to: 'pending-destruction', destroyAt })
  } catch (error) {
    // A customer who has disabled its CMK is off-boarded all the same.
    if (!isFieldsealError(error) || error.kind === 'unavailable' || error.kind === 'refused') throw error
    await denyKey(fieldseal, key.id, 'pending-destruction')
  }
}

/**
 * Ends keys for ever: a single one only if still nothing needs it.
 *
 * @param begin runs when nothing is in the way any more, before the first is destroyed
 * @throws FieldsealError ERR_KEY_NEEDED, ERR_PLAN_REFUSED
 */
export async function destroyAll(surroundings: Surroundings, scope: Scope, begin: () => Promise<void>): Promise<void> {
  const keys = (await keysOf(surroundings, scope)).filter((key) => !isDestroyed(key))
  if (scope.kek !== undefined) for (const key of keys) await assertUnneeded(surroundings, key)
  // Who took some back, through another plan, has not been asked again.
  if (keys.some(isUsable))
    throw new FieldsealError('ERR_PLAN_REFUSED', {
      operation: 'shred',
      ...scope,
      reason: 'keys of it can be used again: they were taken back, or made since',
      hint: 'make a new plan and look at it again',
    })
  await begin()
  for (const key of keys) await destroy(surroundings, key)
}

async function destroy({ fieldseal }: Surroundings, key: KeyInfo): Promise<void> {
  if (isKek(key) && key.denial === undefined) {
    try {
      await changeKek(fieldseal, key.id, { to: 'destroyed' })
      return
    } catch (error) {
      if (!isFieldsealError(error) || error.kind === 'unavailable' || error.kind === 'refused') throw error
    }
  }
  await denyKey(fieldseal, key.id, 'destroyed')
}
