import type { ErrorCode } from '../../src/errors/codes.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import { kekRecordMac } from '../../src/keys/record-mac.ts'
import { kekContext } from '../../src/keyring/kek-wraps.ts'
import { type Clinic, clinic } from '../support/clinic.ts'
import { directPatients } from '../support/direct.ts'
import { fakeCmk, type FakeCmk } from '../support/fake-cmk.ts'

/** What the process has of the key: nothing, or a key confirmed so many milliseconds ago. */
export const CACHE = { none: undefined, fresh: 1_000, due: 60_000, stale: 300_000, dead: 900_000 } as const
/** What has become of the key's record since. */
export const STORE = ['none', 'active', 'decrypt-only', 'retired', 'edited'] as const
/** What the KMS answers now. */
export const KMS = [
  'ok',
  'slow',
  'throttled',
  'unreachable',
  'denied',
  'disabled',
  'pending',
  'destroyed',
  'wrong-key',
] as const
export const USES = ['read', 'write'] as const
/** The same for mode `direct`: a DEK ends at validForMs; a record has no key, so it cannot be edited into another state. */
export const DIRECT_CACHE = { none: undefined, fresh: 1_000, due: 60_000, dead: 300_000 } as const
export const DIRECT_STORE = ['none', 'active', 'retired', 'destroyed', 'edited'] as const

export type Mode = 'kek' | 'direct'
export type CacheState = keyof typeof CACHE | keyof typeof DIRECT_CACHE
export type StoreState = (typeof STORE)[number] | (typeof DIRECT_STORE)[number]
export type KmsState = (typeof KMS)[number]
export type Use = (typeof USES)[number]

const FAILURES = {
  throttled: 'ERR_KMS_THROTTLED',
  unreachable: 'ERR_KMS_NETWORK',
  denied: 'ERR_KMS_ACCESS_DENIED',
  disabled: 'ERR_KMS_KEY_DISABLED',
  pending: 'ERR_KMS_KEY_PENDING_DELETION',
  destroyed: 'ERR_KMS_KEY_DESTROYED',
} as const

/** Short names of the outcomes in the table. */
const OUTCOMES: Readonly<Partial<Record<ErrorCode, string>>> = {
  ERR_KMS_THROTTLED: 'thr',
  ERR_KMS_NETWORK: 'net',
  ERR_KMS_ACCESS_DENIED: 'den',
  ERR_KMS_KEY_DISABLED: 'dis',
  ERR_KMS_KEY_PENDING_DELETION: 'pen',
  ERR_KMS_KEY_DESTROYED: 'des',
  ERR_KMS_INTEGRITY_FAILED: 'int',
  ERR_KEY_CHANGED: 'chg',
  ERR_KEY_NOT_FOUND: 'nof',
  ERR_KEY_RECORD_INVALID: 'inv',
  ERR_KEY_RETIRED: 'ret',
  ERR_KEY_ERASED: 'era',
  ERR_KMS_CONFIG: 'cfg',
  ERR_DECRYPT_FAILED: 'dec',
}
/** Letters of the events in the table. */
const EVENTS = {
  'key.revoked': 'R',
  'key.stale-served': 'S',
  'key.changed': 'C',
  'background.failed': 'B',
  'kek.created': 'N',
  'direct-key.created': 'N',
} as const

export interface Cell {
  readonly use: Use
  readonly cache: CacheState
  readonly store: StoreState
  readonly kms: KmsState
}

/**
 * Brings a process, its key store and its KMS into the states of a cell, reads or writes once, and tells what came of
 * it: `<outcome> <attempts at the KMS>/<calls to the key store> <events>`.
 */
export async function happens({ use, cache, store, kms }: Cell, mode: Mode): Promise<string> {
  const cmk = fakeCmk('cmk')
  const model = directPatients({ mode })
  const before = clinic({ cmk }, model)
  const { envelopes, kekIds } = await before.seal('a', { ssn: 'x' })
  const age = { ...CACHE, ...(mode === 'direct' ? DIRECT_CACHE : {}) }[cache]
  const world = age === undefined ? clinic({ cmk, keyStore: before.keyStore, clock: before.clock }, model) : before
  if (mode === 'direct' && age !== undefined) await world.open('a', { ssn: envelopes[0] }) // a DEK is cached when it is read
  if (age !== undefined) world.clock.advance(age)
  await bringStore(world, store, kekIds[0] ?? '')
  bringKms(cmk, kms)
  cmk.calls.length = world.keyStore.calls.length = world.heard.length = 0
  const used = use === 'read' ? world.open('a', { ssn: envelopes[0] }) : world.seal('a', { ssn: 'y' })
  const outcome = await used.then(
    () => 'ok',
    (error: unknown) => (isFieldsealError(error) ? (OUTCOMES[error.code] ?? error.code) : String(error)),
  )
  if (cache === 'due') await new Promise((resolve) => setTimeout(resolve, 40)) // what goes on in the background
  const letters = world.heard.map(({ name }) => EVENTS[name as keyof typeof EVENTS] ?? '').filter(Boolean)
  const result = `${outcome} ${cmk.calls.length}/${world.keyStore.calls.length} ${[...letters].sort().join('')}`.trim()
  await world.fieldseal.close()
  return result
}

async function bringStore({ keyStore, cmk }: Clinic, state: StoreState, id: string): Promise<void> {
  const record = keyStore.records().find((one) => one.id === id)
  if (record === undefined || record.kind === 'index') throw new Error('no record')
  if (state === 'none') keyStore.rows.delete(id)
  if (state === 'retired' || state === 'destroyed') keyStore.tamper(record.id, { denial: state })
  if (state === 'edited')
    keyStore.tamper(record.id, record.kind === 'kek' ? { createdAt: record.createdAt + 1 } : { uri: 'another CMK' })
  if (state !== 'decrypt-only' || record.kind !== 'kek') return
  // As its holder writes it: under the MAC of the key itself.
  const { mac: _mac, wraps, denial: _denial, rowVersion: _rowVersion, ...facts } = record
  const [wrap] = wraps
  if (wrap === undefined) throw new Error('no wrap')
  const context = kekContext(record, 'wrap', record.id)
  const key = await cmk.unwrap(wrap, { context, signal: new AbortController().signal })
  const next = { ...facts, state: 'decrypt-only' as const, revision: record.revision + 1 }
  keyStore.tamper(record.id, { ...next, mac: kekRecordMac(key.exposeKeyObject(), next) })
}

function bringKms(cmk: FakeCmk, state: KmsState): void {
  if (state === 'slow') cmk.before = () => new Promise((resolve) => setTimeout(resolve, 10))
  else if (state === 'wrong-key') cmk.liar = true
  else if (state !== 'ok') cmk.failure = FAILURES[state]
}
