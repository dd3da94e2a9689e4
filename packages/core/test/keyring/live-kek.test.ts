import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { DEFAULT_CACHE } from '../../src/cache/options.ts'
import { createRandomSource } from '../../src/cipher/random.ts'
import { createLiveKek, MAX_WRAPS_PER_SALT } from '../../src/keyring/live-kek.ts'
import { SecretKey } from '../../src/keys/secret-key.ts'
import { clinic } from '../support/clinic.ts'
import { manualClock } from '../support/manual-clock.ts'
import { kekRecord } from '../support/records.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

function live() {
  const clock = manualClock()
  const random = createRandomSource()
  const kek = createLiveKek(
    new SecretKey(randomBytes(32)),
    { record: kekRecord(), legsCheckedAt: new Map(), policy: DEFAULT_CACHE },
    { clock, random },
  )
  return { kek, clock, random, salt: () => hex(kek.nextWrap().salt) }
}

it('takes a new salt after exactly 2^20 wraps', () => {
  const { salt } = live()
  const first = salt()
  for (let i = 1; i < MAX_WRAPS_PER_SALT - 1; i++) salt()
  expect(MAX_WRAPS_PER_SALT).toBe(1_048_576)
  expect(salt()).toBe(first)
  expect(salt()).not.toBe(first)
})

it('takes a new salt with every day of the wall clock', () => {
  const { salt, clock } = live()
  const first = salt()
  const untilMidnight = 86_400_000 - (clock.now() % 86_400_000)
  clock.advance(untilMidnight - 1)
  expect(salt()).toBe(first)
  clock.advance(1)
  expect(salt()).not.toBe(first)
})

it('takes a new salt after a restore', () => {
  const { salt, random } = live()
  const first = salt()
  random.mixKernelBytes()
  expect(salt()).not.toBe(first)
})

it('gives two processes different salts', () => {
  expect(live().salt()).not.toBe(live().salt())
})

it('remembers few subkeys however many salts it reads', () => {
  const { kek } = live()
  const salts = Array.from({ length: 1_000 }, () => randomBytes(6))
  const keys = salts.map((salt) => kek.wrapKey(salt).export().toString('hex'))
  expect(new Set(keys).size).toBe(1_000)
  expect(
    kek
      .wrapKey(salts[0] ?? randomBytes(6))
      .export()
      .toString('hex'),
  ).toBe(keys[0])
})

it('is zeroed when it is retired and nobody holds it, and not before', async () => {
  const { kek } = live()
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  const release = kek.hold()
  const other = kek.hold()
  let zeroed = 0
  kek.retire(() => zeroed++)
  expect(kek.retired).toBe(true)
  await turn()
  release()
  release() // twice counts once
  expect(kek.key.disposed).toBe(false)
  other()
  expect([kek.key.disposed, zeroed]).toEqual([true, 1])
})

it('can still be held in the turn in which it is retired', async () => {
  const { kek } = live()
  kek.retire(() => undefined)
  const release = kek.hold()
  await new Promise((resolve) => setImmediate(resolve))
  expect(kek.key.disposed).toBe(false)
  release()
  expect(kek.key.disposed).toBe(true)
})

it('is zeroed at once by a purge, whoever holds it', () => {
  const { kek } = live()
  kek.hold()
  kek[Symbol.dispose]()
  expect(() => kek.nextWrap()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
  expect(() => kek.wrapKey(randomBytes(6))).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
  expect(() => kek.derived({}, (key) => key)).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
})

it('lags by the leg that was not asked for longest', () => {
  const { kek, clock } = live()
  clock.advance(100_000)
  const now = clock.monotonic()
  kek.confirmed({
    record: kekRecord(),
    policy: DEFAULT_CACHE,
    legsCheckedAt: new Map([
      ['one', now],
      ['two', now - 70_000],
    ]),
  })
  expect(kek.legLagMs).toBe(70_000)
})

it('changes the salt of stored values after afterRestore', async () => {
  const { seal, fieldseal, open } = clinic()
  const saltOf = async () => hex((await seal('a', { ssn: 'x' })).envelopes[0]?.subarray(18, 24) ?? Buffer.alloc(0))
  const first = await saltOf()
  expect(await saltOf()).toBe(first)
  fieldseal.afterRestore()
  const { envelopes } = await seal('a', { ssn: 'x' })
  expect(hex(envelopes[0]?.subarray(18, 24) ?? Buffer.alloc(0))).not.toBe(first)
  expect((await open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
})
