import { expect, it } from 'vitest'
import { REGULATED_CACHE } from '../../src/cache/options.ts'
import { type Clinic, clinic, ID } from '../support/clinic.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

/** A sealed value of tenant a, and everything counted from here on. */
async function sealedCold(world: Clinic = clinic()) {
  const { envelopes } = await world.seal('a', { ssn: '078-05-1120' })
  world.fieldseal.purge('a')
  world.cmk.calls.length = 0
  world.keyStore.calls.length = 0
  const read = () => world.open('a', { ssn: envelopes[0] })
  const write = () => world.seal('a', { ssn: 'x' })
  return { ...world, read, write }
}

it('calls the KMS and the key store once for 3,000 concurrent cold reads', async () => {
  const { read, cmk, keyStore } = await sealedCold()
  await Promise.all(Array.from({ length: 3_000 }, read))
  expect(cmk.operations()).toEqual(['unwrap'])
  expect(keyStore.calls).toEqual(['load'])
})

it('asks nobody while the key is fresh, reading and writing', async () => {
  const { read, write, cmk, keyStore, clock } = await sealedCold()
  await read()
  clock.advance(59_999)
  await Promise.all([read(), write(), read()])
  expect([cmk.calls.length, keyStore.calls.length]).toEqual([1, 1])
})

it('refreshes key and records once a minute while in use, by unwrapping the very blob', async () => {
  const { read, cmk, keyStore, clock, settled } = await sealedCold()
  await read()
  for (let minute = 0; minute < 10; minute++) {
    clock.advance(60_000)
    await Promise.all(Array.from({ length: 50 }, read))
    await settled()
  }
  expect(cmk.operations()).toEqual(Array.from({ length: 11 }, () => 'unwrap'))
  expect(keyStore.calls).toEqual(Array.from({ length: 11 }, () => 'load'))
})

it('asks nobody for a key that is not in use', async () => {
  const { read, cmk, clock, settled } = await sealedCold()
  await read()
  clock.advance(250_000)
  await settled()
  expect(cmk.calls).toHaveLength(1)
})

it('waits for the KMS from validForMs on', async () => {
  const { read, cmk, clock } = await sealedCold()
  await read()
  clock.advance(300_000)
  await read()
  expect(cmk.calls).toHaveLength(2)
})

it('reads until maxStaleMs and writes until validForMs while the KMS does not answer, then fails closed', async () => {
  const { read, write, cmk, clock, events } = await sealedCold()
  await read()
  cmk.failure = 'ERR_KMS_OPERATOR_CREDENTIALS'
  clock.advance(299_999)
  await write()
  clock.advance(1)
  await expect(write()).rejects.toMatchObject({ code: 'ERR_KMS_OPERATOR_CREDENTIALS', kind: 'unavailable' })
  await read()
  expect(events('key.stale-served')).toMatchObject([{ tenant: 'a', ageMs: 300_000 }])
  clock.advance(599_999)
  await read()
  clock.advance(1)
  await expect(read()).rejects.toMatchObject({ kind: 'unavailable' })
})

it('does the same while the key store does not answer', async () => {
  const { read, write, keyStore, clock } = await sealedCold()
  await read()
  keyStore.down = true
  clock.advance(299_999)
  await write()
  clock.advance(1)
  await expect(write()).rejects.toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE' })
  await read()
  clock.advance(599_999)
  await read()
  clock.advance(1)
  await expect(read()).rejects.toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE', kind: 'unavailable' })
})

it('hides what an unclassified key-store error says', async () => {
  const { read, keyStore } = await sealedCold()
  keyStore.before = () => {
    throw new Error('password SECRET rejected')
  }
  const error: unknown = await read().catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE', details: { tenant: 'a' } })
  expect(String(error)).not.toContain('SECRET')
})

it('lets a frozen process stretch nothing: the wall clock counts too', async () => {
  const { read, cmk, clock } = await sealedCold()
  await read()
  cmk.failure = 'ERR_KMS_NETWORK'
  clock.advanceWall(900_000)
  await expect(read()).rejects.toMatchObject({ kind: 'unavailable' })
})

it('keeps no key in memory that is dead, purged or closed', async () => {
  const { read, cmk, clock, fieldseal } = await sealedCold()
  await read()
  expect(cmk.given.at(-1)?.disposed).toBe(false)
  clock.advance(900_000)
  cmk.failure = 'ERR_KMS_UNKNOWN'
  await read().catch(() => undefined)
  expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
  cmk.failure = undefined
  clock.advance(60_000)
  await read()
  fieldseal.purge('a')
  expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
  await read()
  await fieldseal.close()
  expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
})

it('keeps one key in memory however often it is refreshed', async () => {
  const { read, cmk, clock, settled } = await sealedCold()
  for (let i = 0; i < 5; i++) {
    await read()
    await settled()
    clock.advance(60_000)
  }
  expect(cmk.given.filter(({ disposed }) => !disposed)).toHaveLength(1)
})

it('never fails a read because its key was refreshed meanwhile', async () => {
  const world = await sealedCold()
  await world.read()
  // The next read finds key and records due, and waits for the records alone.
  const rejected: unknown[] = []
  for (let i = 0; i < 20; i++) {
    world.clock.advance(i % 2 === 0 ? 60_000 : 300_000)
    const reads = Array.from({ length: 5 }, () => world.read().catch((error: unknown) => rejected.push(error)))
    await Promise.all(reads)
    await world.settled()
  }
  expect(rejected).toEqual([])
})

it('alarms and fails closed when the KMS returns another key for the same record', async () => {
  const { read, cmk, clock, events, settled } = await sealedCold()
  await read()
  cmk.liar = true
  clock.advance(60_000)
  await read().catch(() => undefined) // the refresh that it starts finds the lie
  await settled()
  expect(events('key.changed')).toMatchObject([{ tenant: 'a' }])
  expect(events('key.revoked')).toMatchObject([{ code: 'ERR_KEY_CHANGED' }])
  await expect(read()).rejects.toMatchObject({ code: 'ERR_KEY_CHANGED', kind: 'corrupt' })
  clock.advance(20_000)
  await expect(read()).rejects.toMatchObject({ code: 'ERR_KEY_RECORD_INVALID' }) // the MAC refuses a stranger's key
})

it('does not give the key to those who wait when a purge comes during the flight, beyond their one use', async () => {
  const { read, cmk, fieldseal, settled } = await sealedCold()
  const gate = Promise.withResolvers<undefined>()
  cmk.before = () => gate.promise
  const early = read()
  await settled()
  fieldseal.purge('a')
  gate.resolve(undefined)
  await early.catch(() => undefined)
  cmk.before = undefined
  await settled()
  await settled()
  expect(cmk.given.every(({ disposed }) => disposed)).toBe(true) // nothing of it stays
  cmk.failure = 'ERR_KMS_KEY_DISABLED'
  await expect(read()).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DISABLED' })
})

it('does not cache a KEK whose tenant was purged while it was made', async () => {
  const world = clinic()
  world.cmk.before = (operation) => {
    if (operation === 'wrap') world.fieldseal.purge('a')
  }
  await world.seal('a', { ssn: 'x' })
  expect(world.cmk.operations()).toEqual(['wrap', 'unwrap', 'unwrap'])
})

it('purges one tenant and no other', async () => {
  const { seal, fieldseal, cmk } = clinic()
  await seal('a', { ssn: 'x' })
  await seal('a2', { ssn: 'x' })
  cmk.calls.length = 0
  fieldseal.purge('a')
  await seal('a2', { ssn: 'x' })
  expect(cmk.calls).toHaveLength(0)
})

it('answers a purge of an unknown tenant with nothing, emits nothing on purge', async () => {
  const { fieldseal, heard, seal } = clinic()
  await seal('a', { ssn: 'x' })
  heard.length = 0
  fieldseal.purge('never heard of')
  fieldseal.purge('a')
  expect(heard).toEqual([])
})

it('works with more keys in a batch than the cache may hold', async () => {
  const world = clinic({ cache: { maxEntries: 2 } })
  const tenants = Array.from({ length: 12 }, (_, i) => `t${i}`)
  const sealed: unknown[] = []
  for (const tenant of tenants) sealed.push((await world.seal(tenant, { ssn: tenant })).envelopes[0])
  const { host, fieldseal, rowOf } = world
  const values = await fieldseal.runAsSystem({ reason: 'test' }, async () => {
    const rows = tenants.map((tenant, i) => rowOf(tenant, { ssn: sealed[i] }, ID))
    return (await host.cipher.open(rows, host.capture())).map(({ values: [value] }) => value)
  })
  expect(values).toEqual(tenants)
  const again = await fieldseal.runAsSystem({ reason: 'test' }, async () =>
    host.cipher.seal(
      tenants.map((tenant) => rowOf(tenant, { ssn: tenant, email: 'a@b' }, ID)),
      host.capture(),
    ),
  )
  expect(again).toHaveLength(12)
})

it('zeroes evicted keys as soon as nobody uses them', async () => {
  const world = clinic({ cache: { maxEntries: 1 } })
  for (const tenant of ['a', 'b', 'c']) await world.seal(tenant, { ssn: 'x' })
  for (const tenant of ['a', 'b', 'c']) {
    const { envelopes } = await world.seal(tenant, { ssn: 'x' })
    await world.open(tenant, { ssn: envelopes[0] })
  }
  await world.settled()
  expect(world.cmk.given.filter(({ disposed }) => !disposed).length).toBeLessThanOrEqual(1)
})

it('is stricter for a tenant whose registry entry says so, from the very first read', async () => {
  const cmk = fakeCmk('cmk')
  const keyStore = arrayKeyStore()
  const world = clinic({
    cmk,
    keyStore,
    keys: async (tenant) => ({ cmks: [cmk], cache: tenant === 'bank' ? REGULATED_CACHE : {} }),
  })
  expect(world.fieldseal.revocationBoundMs('bank').reachable).toBe(302_000) // not asked yet
  const { envelopes } = await world.seal('bank', { ssn: 'x' })
  expect(world.fieldseal.revocationBoundMs('bank')).toEqual({ reachable: 62_000, unreachable: 122_000 })
  const read = () => world.open('bank', { ssn: envelopes[0] })
  keyStore.down = true
  world.clock.advance(119_999)
  await read()
  world.clock.advance(1)
  await expect(read()).rejects.toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE' })
})

it('applies a limit that a tenant shortened to keys that are cached already', async () => {
  const cmk = fakeCmk('cmk')
  let cache = {}
  const world = clinic({ cmk, keys: async () => ({ cmks: [cmk], cache }) })
  const { envelopes } = await world.seal('a', { ssn: 'x' })
  cache = { validForMs: 70_000, maxStaleMs: 80_000 }
  world.clock.advance(60_000)
  await world.open('a', { ssn: envelopes[0] })
  await world.settled() // the registry has told
  cmk.failure = 'ERR_KMS_UNKNOWN'
  world.clock.advance(80_000)
  await expect(world.open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ kind: 'unavailable' })
})
