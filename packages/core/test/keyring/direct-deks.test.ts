import { expect, it } from 'vitest'
import { REGULATED_CACHE } from '../../src/cache/options.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { ID } from '../support/clinic.ts'
import { directCalls, directClinic, redeployed, rowIds } from '../support/direct.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

type Options = Parameters<typeof directClinic>[0]

/** Rows sealed, nothing cached, everything counted from here on. */
async function cold(n = 1, options: Options = {}) {
  const world = directClinic(options)
  const ids = rowIds(n)
  const cells = (await world.sealRows(ids)).map(({ envelopes }, i) => [ids[i] ?? '', envelopes[0]] as const)
  world.fieldseal.purge('a')
  world.cmk.calls.length = 0
  world.cmk.given.length = 0
  const read = () => world.openRows(cells)
  const alive = () => world.cmk.given.filter(({ disposed }) => !disposed).length
  return { ...world, cells, read, alive }
}

it('unwraps each DEK once, however many read it, until validForMs, and not a millisecond longer', async () => {
  const { read, cmk, clock } = await cold()
  await Promise.all(Array.from({ length: 500 }, read))
  clock.advance(299_999)
  await read()
  expect(directCalls(cmk)).toEqual(['unwrap'])
  clock.advance(1)
  await read()
  expect(directCalls(cmk)).toEqual(['unwrap', 'unwrap'])
})

it('does not lengthen a DEK’s life by using it: nothing is refreshed ahead', async () => {
  const { read, cmk, clock, settled } = await cold()
  for (let minute = 0; minute < 10; minute++) {
    await read()
    await settled()
    clock.advance(60_000)
  }
  expect(directCalls(cmk)).toEqual(['unwrap', 'unwrap']) // at 0 and 5 minutes
})

it('serves nothing stale: when the KMS does not answer, reading ends at validForMs', async () => {
  const { read, cmk, clock, events } = await cold()
  await read()
  cmk.failure = 'ERR_KMS_UNKNOWN'
  clock.advance(299_999)
  await read()
  clock.advance(1)
  await expect(read()).rejects.toMatchObject({ code: 'ERR_KMS_UNKNOWN', kind: 'unavailable' })
  expect(events('key.stale-served').filter(({ kekId }) => kekId !== '')).toEqual([])
})

it('does not trust a clock that stood still', async () => {
  const { read, cmk, clock } = await cold()
  await read()
  clock.advanceWall(300_000)
  await read()
  expect(directCalls(cmk)).toEqual(['unwrap', 'unwrap'])
})

it('follows a tenant’s stricter limits', async () => {
  const cmk = fakeCmk('one')
  const { read, clock } = await cold(1, { cmk, keys: async () => ({ cmks: [cmk], cache: REGULATED_CACHE }) })
  await read()
  clock.advance(60_000)
  await read()
  expect(directCalls(cmk)).toEqual(['unwrap', 'unwrap'])
})

it('asks for the misses of a result set together, sixteen at once at most, and each once', async () => {
  const { read, cmk, cells, openRows } = await cold(200)
  let underWay = 0
  let most = 0
  cmk.before = async () => {
    most = Math.max(most, ++underWay)
    await new Promise((resolve) => setTimeout(resolve, 1))
    underWay--
  }
  await openRows(cells.slice(0, 50))
  expect(directCalls(cmk)).toHaveLength(50)
  const opened = await read()
  expect(directCalls(cmk)).toHaveLength(200)
  expect(most).toBeGreaterThan(8)
  expect(most).toBeLessThanOrEqual(16)
  expect(opened.map(({ values }) => values[0])).toEqual(cells.map(([id]) => `of ${id}`))
})

it('holds at most maxEntries, drops the least recently used first, and zeroes what it drops', async () => {
  const { read, cmk, cells, openRows, alive } = await cold(30, { cache: { maxEntries: 10 } })
  await read()
  await new Promise((resolve) => setImmediate(resolve))
  expect(alive()).toBe(10)
  cmk.calls.length = 0
  await openRows(cells.slice(20))
  expect(directCalls(cmk)).toEqual([])
  await openRows(cells.slice(0, 1))
  expect(directCalls(cmk)).toEqual(['unwrap'])
})

it('opens a result set that is larger than the cache', async () => {
  const { read } = await cold(100, { cache: { maxEntries: 3 } })
  expect((await read()).map(({ values }) => values[0])).toEqual(rowIds(100).map((id) => `of ${id}`))
})

it('zeroes every DEK on purge, close and denial, also one that a batch has just been handed', async () => {
  const purged = await cold(5)
  await purged.read()
  expect(purged.alive()).toBe(5)
  purged.fieldseal.purge('b')
  expect(purged.alive()).toBe(5)
  purged.fieldseal.purge('a')
  expect(purged.alive()).toBe(0)

  const closed = await cold(5)
  await closed.read()
  await closed.fieldseal.close()
  expect(closed.alive()).toBe(0)

  const denied = await cold(5)
  await denied.openRows(denied.cells.slice(0, 4))
  denied.cmk.failure = 'ERR_KMS_KEY_DISABLED'
  await expect(denied.read()).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DISABLED' })
  expect(denied.alive()).toBe(0)
  expect(denied.revoked()).toMatchObject([{ tenant: 'a', code: 'ERR_KMS_KEY_DISABLED' }])
})

it('asks again for what was purged while a batch waited for its neighbours', async () => {
  const { openRows, cells, cmk, fieldseal } = await cold(2)
  const gate = Promise.withResolvers<void>()
  cmk.before = (_operation, { context }) => (context['row'] === `uuid:${cells[1]?.[0]}` ? gate.promise : undefined)
  const reading = openRows(cells)
  await new Promise((resolve) => setTimeout(resolve, 5))
  fieldseal.purge('a')
  gate.resolve()
  expect((await reading).map(({ values }) => values[0])).toEqual(cells.map(([id]) => `of ${id}`))
  expect(directCalls(cmk).length).toBeGreaterThan(2)
})

it('remembers a denial of a row for some seconds and forgets it on purge; it is no news where nothing was cached', async () => {
  const { read, cmk, clock, revoked, fieldseal } = await cold()
  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  for (let i = 0; i < 10; i++) await expect(read()).rejects.toMatchObject({ kind: 'denied' })
  expect([directCalls(cmk).length, revoked().length]).toEqual([1, 0])
  clock.advance(5_001)
  await expect(read()).rejects.toMatchObject({ kind: 'denied' })
  expect(directCalls(cmk)).toHaveLength(2)
  cmk.failure = undefined
  fieldseal.purge('a')
  await read()
})

it('drops DEKs when a KEK of the same tenant is denied, and KEKs when a DEK is', async () => {
  const { read, seal, cmk, alive, openRows, cells, clock, settled, fieldseal } = await cold(2)
  await seal('a', { email: 'ada@example.org' }) // makes the index KEK
  fieldseal.purge('a')
  await openRows(cells.slice(0, 1))
  await seal('a', { email: 'ada@example.org' })
  expect(alive()).toBeGreaterThan(1)
  cmk.before = (_operation, { context }) => {
    cmk.failure = context['purpose'] === 'direct' ? 'ERR_KMS_ACCESS_DENIED' : undefined
  }
  await read().catch(() => undefined)
  expect(alive()).toBe(0)

  cmk.before = undefined
  cmk.failure = undefined
  clock.advance(16_000)
  await read()
  await seal('a', { email: 'ada@example.org' })
  cmk.failure = 'ERR_KMS_KEY_DISABLED'
  clock.advance(60_000)
  await seal('a', { email: 'ada@example.org' }).catch(() => undefined)
  await settled()
  expect(alive()).toBe(0)
})

it('ends reading within validForMs after a revocation, reachable or not', async () => {
  for (const failure of ['ERR_KMS_KEY_DISABLED', 'ERR_KMS_UNKNOWN'] as const) {
    const { read, cmk, clock, fieldseal, settled } = await cold(3)
    await read()
    cmk.failure = failure
    const since = clock.now()
    let last = 0
    for (let step = 0; step < 200; step++) {
      clock.advance(2_500)
      const served = await read().then(
        () => true,
        () => false,
      )
      await settled()
      if (served) last = clock.now() - since
    }
    expect(last).toBeLessThanOrEqual(fieldseal.revocationBoundMs('a').reachable)
    expect(last).toBeLessThan(300_000)
  }
})

it('sees a tenant that the registry no longer knows', async () => {
  let known = true
  const cmk = fakeCmk('one')
  const { read, clock, alive, settled } = await cold(2, { cmk, keys: async () => (known ? { cmks: [cmk] } : null) })
  await read()
  known = false
  clock.advance(60_000)
  await read().catch(() => undefined)
  await settled()
  await expect(read()).rejects.toMatchObject({ code: 'ERR_TENANT_UNKNOWN' })
  expect(alive()).toBe(0)
})

it('keeps tenants and processes apart', async () => {
  const keyStore = arrayKeyStore()
  const world = await cold(1, { keyStore })
  await world.read()
  const again = redeployed(world, { cmk: world.cmk, keyStore })
  await again.openRows(world.cells)
  expect(directCalls(world.cmk), 'one call per process').toEqual(['unwrap', 'unwrap'])
  const ofB = await world.seal('b', { ssn: 'of b' })
  expect((await world.open('b', { ssn: ofB.envelopes[0] }, ID)).values).toEqual(['of b'])
  world.fieldseal.purge('b')
  const before = directCalls(world.cmk).length
  await world.read()
  expect(directCalls(world.cmk)).toHaveLength(before)
})

it('drops no DEK of another record when a row names one that is unknown or retired', async () => {
  const { read, cmk, cells, openRows, seal, keyStore } = await cold(3)
  await read()
  const old = Buffer.from(cells[0]?.[1] ?? [])
  const { kekIds } = await seal('a', { ssn: 'x' })
  const [record] = keyStore.records().filter(({ id }) => id === kekIds[0])
  const other = 'ab'.repeat(12)
  for (const denial of [undefined, 'retired'] as const) {
    if (denial !== undefined) keyStore.rows.set(other, JSON.stringify({ ...record, id: other, uri: 'former', denial }))
    Buffer.from(other, 'hex').copy(old, 3)
    await expect(openRows([[cells[0]?.[0] ?? '', old]])).rejects.toMatchObject({
      kind: expect.stringMatching(/corrupt|denied/) as string,
    })
  }
  const before = directCalls(cmk).length
  await read()
  expect(directCalls(cmk)).toHaveLength(before)
})

it('leaves other rows alone while a denial of one is remembered', async () => {
  const { cells, openRows, cmk } = await cold(3)
  const [denied, ...others] = cells
  if (denied === undefined) throw new Error('no row')
  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  await expect(openRows([denied])).rejects.toMatchObject({ kind: 'denied' })
  cmk.failure = undefined
  await openRows(others)
  const before = directCalls(cmk).length
  for (let i = 0; i < 5; i++) await expect(openRows([denied])).rejects.toMatchObject({ kind: 'denied' })
  await openRows(others)
  expect(directCalls(cmk)).toHaveLength(before)
})

it('zeroes on purge a DEK that has left the cache while a batch still holds it', async () => {
  const { cells, openRows, cmk, fieldseal } = await cold(3, { cache: { maxEntries: 1 } })
  const gate = Promise.withResolvers<void>()
  cmk.before = (_operation, { context }) => (context['row'] === `uuid:${cells[2]?.[0]}` ? gate.promise : undefined)
  const reading = openRows(cells)
  await new Promise((resolve) => setTimeout(resolve, 10))
  expect(
    cmk.given.map(({ disposed }) => disposed),
    'held, though only one may stay cached',
  ).toEqual([false, false])
  fieldseal.purge('a')
  expect(cmk.given.map(({ disposed }) => disposed)).toEqual([true, true])
  gate.resolve()
  expect((await reading).map(({ values }) => values[0])).toEqual(cells.map(([id]) => `of ${id}`))
})

it('asks for the keys of tokens again when they were purged while DEKs were made', async () => {
  const { seal, cmk, fieldseal } = await cold()
  await seal('a', { email: 'ada@example.org' })
  const gate = Promise.withResolvers<void>()
  cmk.before = (_operation, { context }) => (context['purpose'] === 'direct' ? gate.promise : undefined)
  cmk.calls.length = 0
  const writing = seal('a', { email: 'ada@example.org' })
  await new Promise((resolve) => setTimeout(resolve, 5))
  fieldseal.purge('a')
  gate.resolve()
  await writing
  expect(cmk.calls.map(({ operation, context }) => `${operation} ${context['purpose']}`)).toEqual([
    'wrap direct',
    'unwrap index',
  ])
})

it('zeroes a DEK that the KMS made when its wrap cannot be stored', async () => {
  const cmk = fakeCmk('one', { generates: true, keyVersion: 'v'.repeat(65) })
  const { seal } = directClinic({ cmk })
  await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_KMS_CONFIG' })
  expect(cmk.given.map(({ disposed }) => disposed)).toEqual([true])
})

it('keeps no DEK that a batch asked for when it was closed meanwhile', async () => {
  const { openRows, cells, cmk, fieldseal, alive } = await cold(2)
  const gate = Promise.withResolvers<void>()
  cmk.before = (_operation, { context }) => (context['row'] === `uuid:${cells[1]?.[0]}` ? gate.promise : undefined)
  const reading = openRows(cells)
  await new Promise((resolve) => setTimeout(resolve, 5))
  await fieldseal.close()
  gate.resolve()
  await expect(reading).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  await new Promise((resolve) => setImmediate(resolve))
  expect(alive()).toBe(0)
})

it('zeroes DEKs that nobody asks for any more when others come after their time', async () => {
  const { openRows, cells, cmk, clock, alive } = await cold(4)
  await openRows(cells.slice(0, 3))
  clock.advance(300_000)
  expect(cmk.given).toHaveLength(3)
  await openRows(cells.slice(3))
  expect(alive()).toBe(1)
})
