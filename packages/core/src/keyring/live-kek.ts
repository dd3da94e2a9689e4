import type { KeyObject } from 'node:crypto'
import type { Clock } from '../cache/clock.ts'
import type { KeyCachePolicy } from '../cache/options.ts'
import { expandKey, LABELS } from '../cipher/hkdf.ts'
import type { RandomSource } from '../cipher/random.ts'
import { recordIdBytes } from '../context/record-id.ts'
import { SALT_BYTES } from '../envelope/layout.ts'
import type { KekRecord } from '../keys/records.ts'
import type { SecretKey } from '../keys/secret-key.ts'
import { createHolding, type Holding } from './holding.ts'

/** Wraps under one salt; NIST SP 800-38D allows 2^32 random nonces per key, this stays far below. */
export const MAX_WRAPS_PER_SALT = 2 ** 20
const MAX_SALT_KEYS = 256
const DAY_MS = 86_400_000

/** What a confirmation of a KEK by its legs tells. */
export interface Confirmation {
  readonly record: KekRecord
  /** When each leg (provider and uri) was last asked whether it may be used, in monotonic milliseconds. */
  readonly legsCheckedAt: ReadonlyMap<string, number>
  readonly policy: KeyCachePolicy
}

/** A KEK unwrapped in memory, its record checked against its MAC. One object for as long as the key is in use. */
export interface LiveKek extends Confirmation, Holding, Disposable {
  readonly idBytes: Uint8Array
  readonly key: SecretKey
  /** By how much this key is due earlier, because a leg had not been asked since: milliseconds. */
  readonly legLagMs: number
  /** Takes over what a new confirmation of the same key told. */
  confirmed(confirmation: Confirmation): void
  /** A key derived once for what a record says, and kept no longer than this KEK or that record. */
  derived(record: object, derive: (kek: KeyObject) => KeyObject): KeyObject
  /** The subkey for one wrap salt: HKDF-Expand(KEK, LP("fieldseal/1/wrap", salt)). */
  wrapKey(salt: Uint8Array): KeyObject
  /** Salt and subkey for one more wrap: a new salt per process, day, restore and 2^20 wraps. */
  nextWrap(): { readonly salt: Uint8Array; readonly key: KeyObject }
}

export function createLiveKek(
  key: SecretKey,
  confirmation: Confirmation,
  { clock, random }: { readonly clock: Clock; readonly random: RandomSource },
): LiveKek {
  let { record, legsCheckedAt, policy } = confirmation
  let legLagMs = lagOf(legsCheckedAt)
  const saltKeys = new Map<string, KeyObject>()
  let derivedKeys = new WeakMap<object, KeyObject>()
  let current: { salt: Uint8Array; key: KeyObject; wraps: number; day: number; generation: number } | undefined

  function lagOf(checkedAt: Confirmation['legsCheckedAt']): number {
    return Math.max(0, ...[...checkedAt.values()].map((at) => clock.monotonic() - at))
  }

  const holding = createHolding(() => kek[Symbol.dispose]())
  const kek: LiveKek = {
    get record() {
      return record
    },
    idBytes: recordIdBytes(record.id),
    key,
    get legsCheckedAt() {
      return legsCheckedAt
    },
    get legLagMs() {
      return legLagMs
    },
    get policy() {
      return policy
    },
    get retired() {
      return holding.retired
    },
    hold: holding.hold,
    retire: holding.retire,
    derived(of, derive) {
      const master = key.exposeKeyObject()
      let derivedKey = derivedKeys.get(of)
      if (derivedKey === undefined) derivedKeys.set(of, (derivedKey = derive(master)))
      return derivedKey
    },
    confirmed(later) {
      ;({ record, legsCheckedAt, policy } = later)
      legLagMs = lagOf(legsCheckedAt)
    },
    wrapKey(salt) {
      const name = Buffer.from(salt.buffer, salt.byteOffset, salt.length).toString('latin1')
      let wrapKey = saltKeys.get(name)
      if (wrapKey === undefined) {
        wrapKey = expandKey(key.exposeKeyObject(), LABELS.wrap, salt)
        if (saltKeys.size >= MAX_SALT_KEYS) saltKeys.delete(saltKeys.keys().next().value ?? '')
        saltKeys.set(name, wrapKey)
      }
      return wrapKey
    },
    nextWrap() {
      const day = Math.floor(clock.now() / DAY_MS)
      if (
        current === undefined ||
        current.wraps >= MAX_WRAPS_PER_SALT ||
        current.day !== day ||
        current.generation !== random.generation
      ) {
        const salt = random.bytes(SALT_BYTES)
        current = { salt, key: kek.wrapKey(salt), wraps: 0, day, generation: random.generation }
      }
      current.wraps++
      return current
    },
    [Symbol.dispose]() {
      key[Symbol.dispose]()
      saltKeys.clear()
      derivedKeys = new WeakMap()
      current = undefined
    },
  }
  return kek
}
