import { createSecretKey } from 'node:crypto'
import { expect, it } from 'vitest'
import { KEK_AT, SALT_BYTES } from '../../src/envelope/layout.ts'
import type { WrapFrame } from '../../src/field/dek-wrap.ts'
import type { LiveKek } from '../../src/keyring/live-kek.ts'
import { createWrapFrames } from '../../src/record/wrap-frames.ts'

const PLACE = { tenant: 'a', keyspace: 'default', model: 'patients' }
const SALTS = Array.from({ length: 8 }, (_, i) => Buffer.alloc(SALT_BYTES, i))

/** What frames use of a key; it wraps under the salt that `current` says. */
function kekOf(id: number, current: { salt: number }): LiveKek {
  const wrapKey = (salt: Uint8Array) => createSecretKey(Buffer.alloc(32, 16 * id + (salt[0] ?? 0)))
  const nextWrap = () => {
    const salt = SALTS[current.salt] ?? Buffer.alloc(SALT_BYTES)
    return { salt, key: wrapKey(salt) }
  }
  const kek: Partial<LiveKek> = { idBytes: Buffer.alloc(12, id), wrapKey, nextWrap }
  return kek as LiveKek // no more is asked of it
}

function envelopeOf(id: number, salt: number, bound: boolean): Buffer {
  const bytes = Buffer.alloc(140, id)
  bytes[15] = Number(bound)
  return bytes.fill(salt, KEK_AT.salt, KEK_AT.salt + SALT_BYTES)
}

const facts = ({ header, salt, key, unboundAad }: WrapFrame) =>
  [header, salt, key.export(), unboundAad].map((bytes) => Buffer.from(bytes).toString('hex'))

it('gives each wrap the frame of its own key, salt, binding and place, whatever came before it', () => {
  const current = { salt: 0 }
  const keks = [1, 2].map((id) => kekOf(id, current))
  const places = [PLACE, { ...PLACE, tenant: 'b' }, { ...PLACE, keyspace: 'class:x' }, { ...PLACE, model: 'notes' }]
  const cases = places.flatMap((place) =>
    keks.flatMap((kek, i) =>
      [3, 4].flatMap((salt) => [true, false].map((bound) => ({ place: { ...place }, kek, id: i + 1, salt, bound }))),
    ),
  )
  const frames = createWrapFrames()
  for (const before of cases)
    for (const { place, kek, id, salt, bound } of cases) {
      current.salt = before.salt
      frames.toSeal(before.kek, before.bound, before.place)
      frames.toOpen(before.kek, envelopeOf(before.id, before.salt, before.bound), before.place)
      current.salt = salt
      const fresh = createWrapFrames()
      const envelope = envelopeOf(id, salt, bound)
      expect(facts(frames.toSeal(kek, bound, place))).toEqual(facts(fresh.toSeal(kek, bound, place)))
      expect(facts(frames.toOpen(kek, envelope, place))).toEqual(facts(fresh.toOpen(kek, envelope, place)))
    }
})

it('makes a frame once for the rows that share it', () => {
  const kek = kekOf(1, { salt: 3 })
  const frames = createWrapFrames()
  const sealed = [1, 2].map(() => frames.toSeal(kek, true, { ...PLACE }))
  const opened = [1, 2].map(() => frames.toOpen(kek, envelopeOf(1, 3, true), { ...PLACE }))
  expect(sealed[0]).toBe(sealed[1])
  expect(opened[0]).toBe(opened[1])
})
