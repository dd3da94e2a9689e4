import { FieldsealError } from '../errors/fieldseal-error.ts'
import { kekRecordMac } from '../keys/record-mac.ts'
import type { Denial, DirectKeyRecord, KekFacts, KekRecord, KekState, RecordId } from '../keys/records.ts'
import { keyspaceOf } from '../keys/records.ts'
import type { KeyringSettings } from './keyrings.ts'
import { createKekOpener } from './open-kek.ts'
import { answered } from './snapshots.ts'

/** What is to become of a KEK. Instants are epoch milliseconds. */
export type KekChange =
  | { readonly to: 'decrypt-only' | 'retired' | 'destroyed' }
  | { readonly to: 'pending-destruction'; readonly destroyAt: number }
  /** No more wraps under it; reading goes on. Cannot be undone. */
  | { readonly to: 'compromised' }

/** `unchanged`: it was so already. */
export type KekChanged = 'changed' | 'unchanged'

const FORWARD: readonly KekState[] = ['active', 'decrypt-only', 'retired', 'pending-destruction', 'destroyed']
const BACK: Readonly<Partial<Record<KekState, KekState>>> = {
  retired: 'decrypt-only',
  'pending-destruction': 'retired',
}
const ATTEMPTS = 5

/**
 * Changes the state of a KEK: forward over any number of states, back only retired → decrypt-only and
 * pending-destruction → retired. One compare-and-set under a renewed MAC, revision + 1: a crash leaves the old record or
 * the new one. A repeated call finds what is done. `destroyed` leaves a tombstone without wraps, at `destroyAt` at the
 * earliest.
 *
 * @throws FieldsealError ERR_KEY_STATE_REFUSED, ERR_KEY_NOT_FOUND, and kind `denied` or `unavailable` when no CMK opens the
 * key: then `denyKey` restricts it without
 */
export async function changeKek(
  app: string,
  id: RecordId,
  change: KekChange,
  settings: KeyringSettings,
): Promise<KekChanged> {
  const { keyStore, clock, snapshots } = settings
  using opener = createKekOpener(settings)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const record = await recordOf(app, id, settings)
    if (record.kind !== 'kek') throw refused(record, 'a direct key record has no states: deny it')
    const facts = nextFacts(record, change, clock.now())
    if (facts === undefined) return 'unchanged'
    using key = await opener.open(record)
    const { wraps, denial, rowVersion } = record
    const next: KekRecord = {
      ...facts,
      mac: kekRecordMac(key.exposeKeyObject(), facts),
      wraps: facts.state === 'destroyed' ? [] : wraps,
      rowVersion: rowVersion + 1,
      ...(denial === undefined ? {} : { denial }),
    }
    if ((await answered(() => keyStore.update(next), record)) === 'changed') continue
    await snapshots.reload({ app, tenant: record.tenant, keyspace: keyspaceOf(record) })
    return 'changed'
  }
  throw contended(id)
}

/**
 * Restricts a key without it, for a customer whose CMK answers no more; `undefined` takes a denial back. `destroyed` drops
 * the wraps, so it cannot be taken back.
 *
 * @throws FieldsealError ERR_KEY_STATE_REFUSED when that would weaken a denial other than by taking it back
 */
export async function denyKey(
  app: string,
  id: RecordId,
  denial: Denial | undefined,
  settings: KeyringSettings,
): Promise<KekChanged> {
  const { keyStore, snapshots } = settings
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const record = await recordOf(app, id, settings)
    if (record.denial === denial) return 'unchanged'
    if (record.denial === 'destroyed') throw refused(record, 'it was destroyed')
    if (denial === 'retired' && record.denial !== undefined) throw refused(record, `it is ${record.denial} already`)
    const { denial: _before, ...rest } = record
    const next = {
      ...rest,
      ...(record.kind === 'kek' && denial === 'destroyed' ? { wraps: [] } : {}),
      ...(denial === undefined ? {} : { denial }),
      rowVersion: record.rowVersion + 1,
    }
    if ((await answered(() => keyStore.update(next), record)) === 'changed') continue
    await snapshots.reload({ app, tenant: record.tenant, keyspace: keyspaceOf(record) })
    return 'changed'
  }
  throw contended(id)
}

/** The facts to store, undefined when they are so already. @throws FieldsealError ERR_KEY_STATE_REFUSED */
function nextFacts(record: KekRecord, change: KekChange, now: number): KekFacts | undefined {
  const { mac: _mac, wraps: _wraps, denial: _denial, rowVersion: _rowVersion, ...facts } = record
  const revision = record.revision + 1
  if (change.to === 'compromised') return record.compromised ? undefined : { ...facts, revision, compromised: true }
  const { state } = record
  if (state === change.to) return undefined
  const forward = FORWARD.indexOf(change.to) > FORWARD.indexOf(state)
  if (!forward && BACK[state] !== change.to) throw refused(record, `it is ${state}, which never becomes ${change.to}`)
  if (change.to === 'destroyed') {
    const { destroyAt } = record
    if (state !== 'pending-destruction' || destroyAt === undefined)
      throw refused(record, 'set it to pending-destruction first')
    if (now < destroyAt) throw refused(record, `it may be destroyed from ${new Date(destroyAt).toISOString()} on`)
    return { ...facts, revision, state: 'destroyed' }
  }
  const { destroyAt: _destroyAt, ...kept } = facts
  if (change.to !== 'pending-destruction') return { ...kept, revision, state: change.to }
  return { ...kept, revision, state: change.to, destroyAt: change.destroyAt }
}

async function recordOf(
  app: string,
  id: RecordId,
  { keyStore }: KeyringSettings,
): Promise<KekRecord | DirectKeyRecord> {
  const found = await answered(() => keyStore.find([id]), { tenant: '' })
  const record = found.find((one) => one.id === id && one.app === app)
  if (record === undefined || record.kind === 'index') throw new FieldsealError('ERR_KEY_NOT_FOUND', { kekId: id })
  return record
}

function refused({ tenant, id }: { readonly tenant: string; readonly id: RecordId }, reason: string): FieldsealError {
  return new FieldsealError('ERR_KEY_STATE_REFUSED', { tenant, kekId: id, reason })
}

function contended(id: RecordId): FieldsealError {
  return new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
    kekId: id,
    reason: 'the record changes again and again',
    hint: 'run it again',
  })
}
