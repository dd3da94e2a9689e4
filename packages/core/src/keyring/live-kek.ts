import type { KeyObject } from 'node:crypto'
import type { Clock } from '../cache/clock.ts'
import type { KeyCachePolicy } from '../cache/options.ts'
import { expandKey, LABELS } from '../cipher/hkdf.ts'
import type { RandomSource } from '../cipher/random.ts'
import { recordIdBytes } from '../context/record-id.ts'
import { SALT_BYTES } from '../envelope/layout.ts'
import type { KekRecord } from '../keys/records.ts'
import type { SecretKey } from '../keys/secret-key.ts'

/** Wraps under one salt; NIST SP 800-38D allows 2^32 random nonces per key, this stays far below. */
export const MAX_WRAPS_PER_SALT = 2 ** 20
const MAX_SALT_KEYS = 256
const DAY_MS = 86_400_000

/** A KEK unwrapped in memory, its record checked against its MAC. */
export interface LiveKek extends Disposable {
  readonly record: KekRecord
  readonly idBytes: Uint8Array
  readonly key: SecretKey
  /** When each leg (provider and uri) was last asked whether it may be used, in monotonic milliseconds. */
  readonly legsCheckedAt: ReadonlyMap<string, number>
  /** By how much this key is due earlier, because a leg had not been asked since: milliseconds. */
  readonly legLagMs: number
  readonly policy: KeyCachePolicy
  /** The subkey for one wrap salt: HKDF-Expand(KEK, LP("fieldseal/1/wrap", salt)). */
  wrapKey(salt: Uint8Array): KeyObject
  /** Salt and subkey for one more wrap: a new salt per process, day, restore and 2^20 wraps. */
  nextWrap(): { readonly salt: Uint8Array; readonly key: KeyObject }
  /** A key derived once and kept as long as this KEK. */
  derived(name: string, derive: () => KeyObject): KeyObject
}

export function createLiveKek(
  record: KekRecord,
  { key, legsCheckedAt }: Pick<LiveKek, 'key' | 'legsCheckedAt'>,
  policy: KeyCachePolicy,
  { clock, random }: { readonly clock: Clock; readonly random: RandomSource },
): LiveKek {
  const saltKeys = new Map<string, KeyObject>()
  const derivedKeys = new Map<string, KeyObject>()
  let current: { salt: Uint8Array; key: KeyObject; wraps: number; day: number; generation: number } | undefined

  const kek: LiveKek = {
    record,
    idBytes: recordIdBytes(record.id),
    key,
    legsCheckedAt,
    legLagMs: Math.max(0, ...[...legsCheckedAt.values()].map((at) => clock.monotonic() - at)),
    policy,
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
    derived(name, derive) {
      let derivedKey = derivedKeys.get(name)
      if (derivedKey === undefined) derivedKeys.set(name, (derivedKey = derive()))
      return derivedKey
    },
    [Symbol.dispose]() {
      key[Symbol.dispose]()
      saltKeys.clear()
      derivedKeys.clear()
      current = undefined
    },
  }
  return kek
}
