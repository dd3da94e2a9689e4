import type { RandomSource } from '../cipher/random.ts'
import type { KekId } from '../context/record-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import { answered } from '../keyring/snapshots.ts'
import type { KeyspaceRef, KeyStore } from '../keys/key-store.ts'
import { indexRecordMac } from '../keys/record-mac.ts'
import { type IndexRecord, type IndexRole, LAST_EPOCH } from '../keys/records.ts'
import { assertGenuineIndex, indexRecordsOf, newIndexRecord } from './index-keys.ts'
import { type IndexDescription, newestShape, shapeOf } from './index-shape.ts'

/**
 * How an index of a tenant moves to another shape or key. A row has one slot for odd epochs and one for even ones, and two
 * stages that follow each other have a filled slot in common, so that processes in both find and refuse the same rows:
 *
 * | stage | filled | looked up | roles |
 * |---|---|---|---|
 * | `settled` | old | old | current |
 * | `filling` | both | old | current, next |
 * | `switched` | both | new | current, current |
 * | `settled` | new | new | old, current |
 *
 * Between two changes every process must have read the records again (`drain`), and before `switched` every row must have
 * its new token. Nothing here waits or looks at rows: that is the verb's.
 */
export type IndexStage = 'settled' | 'filling' | 'switched'

export interface IndexEpochs {
  readonly stage: IndexStage
  /** Whether all live epochs have the newest shape that the annotation describes, under none of the keys to leave. */
  readonly arrived: boolean
  /** Whether the annotation describes all live epochs; otherwise look-ups and writes throw. */
  readonly described: boolean
  /** Numbers of the live epochs, that of look-ups first. */
  readonly live: readonly number[]
}

export interface EpochSettings {
  readonly app: string
  readonly keyrings: Keyrings
  readonly keyStore: KeyStore
  readonly random: RandomSource
}

/** A change of stage; each is one compare-and-set of one record, and repeated it changes nothing. */
export type IndexChange = 'begin' | 'look-up-new' | 'leave-old' | 'cancel'

const ATTEMPTS = 5

/** Where an index of a tenant stands; undefined when it has no epoch yet. Reads the key store. */
export async function indexEpochs(
  ref: KeyspaceRef,
  index: IndexDescription,
  leaving: ReadonlySet<KekId>,
  settings: EpochSettings,
): Promise<IndexEpochs | undefined> {
  const records = indexRecordsOf(await settings.keyrings.reload(ref), index)
  return records.length === 0 ? undefined : standing(records, index, leaving)
}

/**
 * Moves an index by one stage. @returns `unchanged` when it has been there or beyond already
 * @param expected numbers of the live epochs, as the caller has seen them when it decided; undefined = whatever they are
 * @throws FieldsealError ERR_KEY_STATE_REFUSED for a change that would skip a stage, ERR_KEY_RECORD_INVALID
 */
export async function changeIndex(
  ref: KeyspaceRef,
  index: IndexDescription,
  change: IndexChange,
  { leaving, expected }: { readonly leaving: ReadonlySet<KekId>; readonly expected?: readonly number[] | undefined },
  settings: EpochSettings,
): Promise<'changed' | 'unchanged'> {
  const { keyrings } = settings
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const records = indexRecordsOf(await keyrings.reload(ref), index)
    const keks = await assertGenuineAll(ref, index, records, settings)
    assertExpected(ref, index, records, expected)
    const outcome =
      change === 'begin'
        ? await begin(ref, index, records, leaving, settings)
        : await move(ref, roleChange(index, records, change), keks, settings)
    if (outcome === 'unchanged') return outcome
    await keyrings.reload(ref)
    if (outcome === 'done') return 'changed'
  }
  throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
    tenant: ref.tenant,
    reason: 'the index record changes again and again',
    hint: 'run it again',
  })
}

/** Whoever was stopped for long must not change what others have begun since. */
function assertExpected(
  ref: KeyspaceRef,
  index: IndexDescription,
  records: readonly IndexRecord[],
  expected: readonly number[] | undefined,
): void {
  if (expected === undefined) return
  const live = records.filter(isLive).map(({ epoch }) => epoch)
  if (live.length === expected.length && live.every((epoch) => expected.includes(epoch))) return
  throw refused(ref, index, 'somebody else has moved it meanwhile')
}

type Outcome = 'done' | 'unchanged' | 'again'

async function begin(
  ref: KeyspaceRef,
  index: IndexDescription,
  records: readonly IndexRecord[],
  leaving: ReadonlySet<KekId>,
  { keyrings, keyStore, random }: EpochSettings,
): Promise<Outcome> {
  if (records.length === 0) return 'unchanged' // its first epoch will be the newest
  const { stage, arrived } = standing(records, index, leaving)
  if (arrived) return 'unchanged'
  const live = records.filter(isLive)
  if (stage !== 'settled') {
    // It moves there already, or somewhere else.
    const ahead = live.filter(({ epoch }) => epoch === Math.max(...live.map((one) => one.epoch)))
    if (hasArrived(ahead, index, leaving)) return 'unchanged'
    throw refused(ref, index, 'it is moving to another shape or key already')
  }
  const kek = await keyrings.toWrap(ref, 'index')
  if (leaving.has(kek.record.id)) throw refused(ref, index, 'the newest index key is one to be left')
  const epoch = nextEpoch(records)
  if (epoch > LAST_EPOCH) throw refused(ref, index, `its ${LAST_EPOCH} epochs are used up`)
  const record = newIndexRecord(ref, index, { epoch, role: 'next', kek, random })
  return (await answered(() => keyStore.insert(record), ref)) === 'inserted' ? 'done' : 'again'
}

/** The lowest number that no epoch has had or exceeded, in the other slot than the live one. */
function nextEpoch(records: readonly IndexRecord[]): number {
  const last = Math.max(...records.map(({ epoch }) => epoch))
  const live = records.find(isLive)?.epoch ?? last
  return (last + 1) % 2 === live % 2 ? last + 2 : last + 1
}

interface RoleChange {
  readonly record: IndexRecord
  readonly role: IndexRole
}

/** The one record to change; undefined when that is done. */
function roleChange(
  index: IndexDescription,
  records: readonly IndexRecord[],
  change: Exclude<IndexChange, 'begin'>,
): RoleChange | undefined {
  const next = records.find(({ role }) => role === 'next')
  const current = records.filter(({ role }) => role === 'current').sort((a, b) => a.epoch - b.epoch)
  const [older] = current
  switch (change) {
    case 'look-up-new':
      return next && { record: next, role: 'current' }
    case 'cancel':
      return next && { record: next, role: 'old' }
    case 'leave-old':
      if (next !== undefined)
        throw refused(next, index, 'look-ups ask the old epoch: fill the new one in every row, and look up that first')
      return current.length > 1 && older !== undefined ? { record: older, role: 'old' } : undefined
  }
}

async function move(
  ref: KeyspaceRef,
  change: RoleChange | undefined,
  keks: ReadonlyMap<KekId, LiveKek>,
  { keyStore }: EpochSettings,
): Promise<Outcome> {
  if (change === undefined) return 'unchanged'
  const { mac: _mac, rowVersion, ...facts } = change.record
  const kek = keks.get(facts.kekId)
  if (kek === undefined) throw new FieldsealError('ERR_KEY_NOT_FOUND', { tenant: ref.tenant, kekId: facts.kekId })
  const next = { ...facts, role: change.role, revision: facts.revision + 1 }
  const mac = indexRecordMac(kek.key.exposeKeyObject(), next)
  const updated = await answered(() => keyStore.update({ ...next, mac, rowVersion: rowVersion + 1 }), ref)
  return updated === 'updated' ? 'done' : 'again'
}

/** Invariant: no MAC is renewed that did not hold, and no stage follows from a record that nobody wrote. */
async function assertGenuineAll(
  ref: KeyspaceRef,
  index: IndexDescription,
  records: readonly IndexRecord[],
  { keyrings }: EpochSettings,
): Promise<ReadonlyMap<KekId, LiveKek>> {
  const live = records.filter(isLive)
  const ids = live.map(({ kekId }) => kekId)
  const keks = await keyrings.toUnwrap(ref, ids, 'write')
  for (const record of live) {
    const kek = keks.get(record.kekId)
    if (kek?.record.purpose !== 'index')
      throw new FieldsealError('ERR_KEY_RECORD_INVALID', { tenant: ref.tenant, model: index.model, field: index.index })
    assertGenuineIndex(ref, index, record, kek.key.exposeKeyObject())
  }
  return keks
}

function standing(records: readonly IndexRecord[], index: IndexDescription, leaving: ReadonlySet<KekId>): IndexEpochs {
  const live = records.filter(isLive)
  const current = live.filter(({ role }) => role === 'current').sort((a, b) => b.epoch - a.epoch)
  const next = live.filter(({ role }) => role === 'next')
  const [one] = live
  if (current.length === 0 || live.length > 2)
    throw new FieldsealError('ERR_INDEX_UNKNOWN', {
      tenant: one?.tenant ?? records[0]?.tenant ?? '',
      model: index.model,
      field: index.index,
      reason: current.length === 0 ? 'no epoch is current' : 'more than two epochs are live',
    })
  return {
    stage: next.length > 0 ? 'filling' : current.length > 1 ? 'switched' : 'settled',
    arrived: hasArrived(live, index, leaving),
    described: live.every((record) => shapeOf(index, record) !== undefined),
    live: [...current, ...next].map(({ epoch }) => epoch),
  }
}

function hasArrived(records: readonly IndexRecord[], index: IndexDescription, leaving: ReadonlySet<KekId>): boolean {
  const shape = newestShape(index)
  return records.every((record) => {
    const found = shapeOf(index, record)
    return found?.normalizer === shape.normalizer && found.bits === shape.bits && !leaving.has(record.kekId)
  })
}

function isLive({ role }: IndexRecord): boolean {
  return role !== 'old'
}

function refused(
  { tenant }: Pick<KeyspaceRef, 'tenant'>,
  { model, index }: IndexDescription,
  reason: string,
): FieldsealError {
  return new FieldsealError('ERR_KEY_STATE_REFUSED', { tenant, model, field: index, reason })
}
