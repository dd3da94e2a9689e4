import { expect, it } from 'vitest'
import { createSecretKey } from 'node:crypto'
import { recordToJson } from '../../src/keys/record-json.ts'
import { kekRecordMac } from '../../src/keys/record-mac.ts'
import type { KekRecord } from '../../src/keys/records.ts'
import { kekContext } from '../../src/keyring/kek-wraps.ts'
import { rotateKek } from '../../src/attach.ts'
import { type Clinic, clinic } from '../support/clinic.ts'

async function sealed(world: Clinic = clinic()) {
  const { envelopes } = await world.seal('a', { ssn: 'x' })
  const keks = () => world.keyStore.keks().filter(({ purpose }) => purpose === 'wrap')
  const first = keks()[0]
  if (first === undefined) throw new Error('no KEK')
  return {
    ...world,
    keks,
    first,
    read: () => world.open('a', { ssn: envelopes[0] }),
    write: () => world.seal('a', { ssn: 'y' }),
  }
}

/** Changes facts as a holder of the key does: with a new revision and MAC. */
async function rewrite({ cmk, keyStore }: Clinic, id: KekRecord['id'], change: Partial<KekRecord>): Promise<void> {
  const record = keyStore.keks().find((one) => one.id === id)
  const [wrap] = record?.wraps ?? []
  if (record === undefined || wrap === undefined) throw new Error('no such KEK')
  const context = kekContext(record, record.purpose, record.id)
  using key = await cmk.unwrap(wrap, { context, signal: new AbortController().signal })
  const next = { ...record, ...change, revision: record.revision + 1, rowVersion: record.rowVersion + 1 }
  const mac = kekRecordMac(createSecretKey(key.exposeBytes()), next)
  keyStore.rows.set(id, recordToJson({ ...next, mac }))
}

it('obeys a denial at the next re-reading, without the key, and tells it', async () => {
  for (const [denial, code, kind] of [
    ['retired', 'ERR_KEY_RETIRED', 'denied'],
    ['pending-destruction', 'ERR_KEY_ERASED', 'erased'],
    ['destroyed', 'ERR_KEY_ERASED', 'erased'],
  ] as const) {
    const { keyStore, first, read, write, clock, settled, events, cmk } = await sealed()
    await read()
    keyStore.tamper(first.id, { denial })
    clock.advance(60_000)
    await read().catch(() => undefined)
    await settled()
    await expect(read()).rejects.toMatchObject({ code, kind, details: { kekId: first.id } })
    await expect(write()).rejects.toMatchObject({ code })
    expect(events('key.revoked')).toMatchObject([{ kekId: first.id, code }])
    await settled()
    expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
    keyStore.tamper(first.id, { denial: undefined })
    clock.advance(300_000)
    expect((await read()).values).toEqual(['x']) // removed to undo
  }
})

it('reads active and decrypt-only KEKs and no others', async () => {
  for (const [state, outcome] of [
    ['decrypt-only', 'x'],
    ['retired', 'ERR_KEY_RETIRED'],
    ['pending-destruction', 'ERR_KEY_ERASED'],
    ['destroyed', 'ERR_KEY_ERASED'],
  ] as const) {
    const world = await sealed()
    await rewrite(world, world.first.id, { state })
    world.fieldseal.purge('a')
    const result = await world.read().then(
      ({ values }) => values[0],
      (error: { code: string }) => error.code,
    )
    expect(result).toBe(outcome)
  }
})

it('makes no new KEK for a keyspace that was erased or retired as a whole', async () => {
  const cases: [Partial<KekRecord>, string][] = [
    [{ state: 'destroyed', wraps: [] }, 'ERR_KEY_ERASED'], // a tombstone
    [{ state: 'pending-destruction' }, 'ERR_KEY_ERASED'],
    [{ state: 'retired' }, 'ERR_KEY_RETIRED'],
    [{ denial: 'destroyed' }, 'ERR_KEY_ERASED'],
    [{ denial: 'retired' }, 'ERR_KEY_RETIRED'],
  ]
  for (const [change, code] of cases) {
    const world = await sealed()
    world.keyStore.tamper(world.first.id, change)
    world.fieldseal.purge('a')
    await expect(world.write()).rejects.toMatchObject({ code })
    await expect(rotateKek(world.fieldseal, { tenant: 'a' })).rejects.toMatchObject({ code })
    await expect(world.fieldseal.prepare('a')).rejects.toMatchObject({ code })
    expect(world.keks()).toHaveLength(1)
  }
})

it('says erased rather than retired when a keyspace holds both', async () => {
  const world = await sealed()
  await rotateKek(world.fieldseal, { tenant: 'a' })
  const [older, newer] = world.keks().sort((a, b) => a.version - b.version)
  world.keyStore.tamper(older?.id as never, { denial: 'destroyed' })
  world.keyStore.tamper(newer?.id as never, { denial: 'retired' })
  world.fieldseal.purge('a')
  await expect(world.write()).rejects.toMatchObject({ code: 'ERR_KEY_ERASED', kind: 'erased' })
})

it('goes on writing where an erased KEK stands beside an active one', async () => {
  const world = await sealed()
  const { kekId } = await rotateKek(world.fieldseal, { tenant: 'a' })
  world.keyStore.tamper(world.first.id, { denial: 'destroyed' })
  world.fieldseal.purge('a')
  expect((await world.write()).kekIds).toEqual([kekId])
  await expect(world.read()).rejects.toMatchObject({ code: 'ERR_KEY_ERASED' })
})

it('uses no KEK that its configuration denies, whatever the key store says', async () => {
  const before = await sealed()
  const { envelopes } = await before.seal('a', { ssn: 'x' })
  const world = clinic({ keyStore: before.keyStore, cmk: before.cmk, deniedKeks: [before.first.id] })
  await expect(world.open('a', { ssn: envelopes[0] })).rejects.toMatchObject({
    code: 'ERR_KEY_RETIRED',
    details: { reason: 'named in deniedKeks' },
  })
  await expect(world.seal('a', { ssn: 'y' })).rejects.toMatchObject({ code: 'ERR_KEY_RETIRED' })
  expect(() => clinic({ deniedKeks: ['nonsense'] })).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }))
})

it('wraps no more under a compromised KEK and goes on reading it', async () => {
  const world = await sealed()
  await rewrite(world, world.first.id, { compromised: true })
  world.fieldseal.purge('a')
  const { kekIds } = await world.write()
  expect(kekIds).not.toEqual([world.first.id])
  expect(new Set(world.keks().map(({ version }) => version))).toEqual(new Set([1, 2]))
  const opened = await world.read()
  expect(opened.values).toEqual(['x'])
  expect(opened.outdated, 'left for a re-encryption: a rewrap would only hide it').toEqual([])
})

it('makes the next version when the newest is past notAfter, at that moment and not before', async () => {
  const world = await sealed()
  await rewrite(world, world.first.id, { notAfter: world.clock.now() + 100_000 })
  world.fieldseal.purge('a')
  expect((await world.write()).kekIds).toEqual([world.first.id])
  world.clock.advance(99_999)
  expect((await world.write()).kekIds).toEqual([world.first.id])
  world.clock.advance(1)
  expect((await world.read()).outdated).toEqual([]) // nobody has made a newer one yet
  expect((await world.write()).kekIds).not.toEqual([world.first.id])
  expect((await world.read()).outdated).toEqual([0])
})

it('calls a key corrupt, not missing for ever, when its record is gone, and drops the cached one', async () => {
  const { keyStore, first, read, clock, settled, cmk, events } = await sealed()
  await read()
  const text = keyStore.rows.get(first.id) ?? ''
  keyStore.rows.delete(first.id)
  clock.advance(60_000)
  await read().catch(() => undefined)
  await settled()
  await expect(read()).rejects.toMatchObject({ code: 'ERR_KEY_NOT_FOUND', kind: 'corrupt' })
  expect(events('key.revoked')).toMatchObject([{ kekId: first.id, code: 'ERR_KEY_NOT_FOUND' }])
  await settled()
  expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
  keyStore.rows.set(first.id, text) // restored from a backup
  clock.advance(300_000)
  expect((await read()).values).toEqual(['x'])
})

it('asks the key store once in ten seconds for an unknown id, however often it is read', async () => {
  const { read, fieldseal, keyStore, first, clock } = await sealed()
  keyStore.rows.delete(first.id)
  fieldseal.purge('a')
  keyStore.calls.length = 0
  await Promise.allSettled(Array.from({ length: 200 }, read))
  const asked = keyStore.calls.length
  expect(asked).toBeLessThanOrEqual(3)
  await Promise.allSettled(Array.from({ length: 200 }, read))
  expect(keyStore.calls.length).toBe(asked)
  clock.advance(10_000)
  await read().catch(() => undefined)
  expect(keyStore.calls.length).toBe(asked + 1)
})

it('finds at once a KEK that another process just made, even while an older reading is under way', async () => {
  const other = await sealed()
  const world = clinic({ keyStore: other.keyStore, cmk: other.cmk })
  await world.open('a', { ssn: (await other.seal('a', { ssn: 'x' })).envelopes[0] })
  world.clock.advance(60_000)
  // A refresh of the records begins and hangs; meanwhile the other process rotates and writes.
  const gate = Promise.withResolvers<undefined>()
  const { load } = other.keyStore
  other.keyStore.load = async (refs) => {
    const records = await load(refs)
    other.keyStore.load = load
    await gate.promise
    return records
  }
  await world.open('a', { ssn: (await other.seal('a', { ssn: 'x' })).envelopes[0] })
  await rotateKek(other.fieldseal, { tenant: 'a' })
  const { envelopes } = await other.seal('a', { ssn: 'new' })
  const read = world.open('a', { ssn: envelopes[0] })
  await world.settled()
  gate.resolve(undefined)
  expect((await read).values).toEqual(['new'])
})
