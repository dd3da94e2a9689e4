import { expect, it } from 'vitest'
import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { clinic } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

it('makes one KEK for a hundred concurrent first writes', async () => {
  const { seal, cmk, keyStore, events } = clinic()
  const rows = await Promise.all(Array.from({ length: 100 }, () => seal('a', { ssn: 'x' })))
  expect(new Set(rows.flatMap(({ kekIds }) => kekIds)).size).toBe(1)
  expect(cmk.operations()).toEqual(['wrap', 'unwrap'])
  expect(keyStore.calls).toEqual(['load', 'insert', 'load'])
  expect(events('kek.created')).toMatchObject([{ tenant: 'a', keyspace: 'default', version: 1 }])
})

it('makes one index key for a hundred concurrent first writes and look-ups', async () => {
  const { seal, cmk, keyStore, host, map, as } = clinic()
  const lookUp = () =>
    as('a', async () =>
      host.cipher.tokens([{ index: map.indexes[0] as never, values: ['ada@example.org'] }], host.capture()),
    )
  const [rows, found] = await Promise.all([
    Promise.all(Array.from({ length: 100 }, () => seal('a', { email: 'ada@example.org' }))),
    Promise.all(Array.from({ length: 100 }, lookUp)),
  ])
  const tokens = [...rows.flatMap(({ tokens: ofRow }) => [...ofRow.values()].flat(2)), ...found.flat(2)]
  expect(new Set(tokens.map((token) => Buffer.from(token).toString('hex'))).size).toBe(1)
  expect(keyStore.indexes()).toHaveLength(1)
  // Two KEKs and one index record; who looked before it was there may try once more.
  expect(keyStore.calls.filter((operation) => operation === 'insert').length).toBeLessThanOrEqual(4)
  expect(cmk.operations()).toEqual(['wrap', 'unwrap', 'wrap', 'unwrap'])
})

it('ends with one KEK when many processes make the first one of a tenant at the same time', async () => {
  const keyStore = arrayKeyStore()
  const cmk = fakeCmk('cmk')
  keyStore.before = () => new Promise((resolve) => setImmediate(resolve)) // let them interleave
  const processes = Array.from({ length: 6 }, () => clinic({ keyStore, cmk }))
  const rows = await Promise.all(processes.map(({ seal }) => seal('a', { ssn: 'x', email: 'ada@example.org' })))
  expect(keyStore.keks().filter(({ purpose }) => purpose === 'wrap')).toHaveLength(1)
  expect(keyStore.keks().filter(({ purpose }) => purpose === 'index')).toHaveLength(1)
  expect(keyStore.indexes()).toHaveLength(1)
  for (const reader of processes)
    for (const { envelopes } of rows) expect((await reader.open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
})

it('uses a KEK only when its record is durable: a failed insert leaves nothing behind', async () => {
  const { seal, keyStore, cmk } = clinic()
  keyStore.before = (operation) => {
    if (operation === 'insert') throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE')
  }
  await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE' })
  expect(keyStore.rows.size).toBe(0)
  keyStore.before = undefined
  const { envelopes } = await seal('a', { ssn: 'x' })
  expect(envelopes).toHaveLength(1)
  expect(cmk.operations()).toEqual(['wrap', 'unwrap', 'wrap', 'unwrap'])
})

it('takes up the record when an insert succeeded but its answer was lost', async () => {
  const { seal, keyStore } = clinic()
  const { insert } = keyStore
  keyStore.insert = async (record) => {
    await insert(record)
    keyStore.insert = insert
    throw new Error('connection lost')
  }
  await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE' })
  const { kekIds } = await seal('a', { ssn: 'x' })
  expect(kekIds).toEqual(keyStore.keks().map(({ id }) => id))
})

it('gives up, and says so, when the new records never appear', async () => {
  const { seal, keyStore, cmk } = clinic()
  keyStore.load = async () => []
  await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE' })
  expect(cmk.operations().length).toBeLessThanOrEqual(10)
  await new Promise((resolve) => setImmediate(resolve))
})

it('stores no row without its token when the index record does not appear', async () => {
  const world = clinic()
  await world.seal('a', { ssn: 'x' })
  const { load } = world.keyStore
  world.keyStore.load = async (refs) => (await load(refs)).filter(({ kind }) => kind !== 'index')
  await expect(world.seal('a', { email: 'x@y' })).rejects.toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE' })
})

it('makes and loads everything that prepare names, so that writing asks nobody', async () => {
  const { fieldseal, seal, keyStore, cmk } = clinic()
  await fieldseal.prepare('a', { keyspaces: ['class:payment', 'subject:patient:42'] })
  expect(
    keyStore
      .keks()
      .map(({ keyspace, purpose }) => `${keyspace} ${purpose}`)
      .sort(),
  ).toEqual(['class:payment wrap', 'default index', 'default wrap', 'subject:patient:42 wrap'])
  keyStore.calls.length = cmk.calls.length = 0
  await seal('a', { ssn: 'x', email: 'ada@example.org' })
  expect([keyStore.calls.length, cmk.calls.length]).toEqual([0, 0])
})

it('refuses to prepare or rotate what is no keyspace', async () => {
  const { fieldseal, keyStore } = clinic()
  const wrong = [
    '',
    'payment',
    'class:',
    'class:Payment',
    `class:${'x'.repeat(65)}`,
    'subject:',
    'subject:p',
    'subject:p:',
    `subject:p:${'x'.repeat(257)}`,
    'subject:p:\ud800',
  ]
  for (const keyspace of wrong)
    await expect(fieldseal.prepare('a', { keyspaces: [keyspace] }), keyspace).rejects.toMatchObject({
      code: 'ERR_ARGUMENT_INVALID',
    })
  expect(keyStore.keks().some(({ keyspace }) => keyspace !== 'default')).toBe(false)
})

it('keeps two applications in one key store apart', async () => {
  const keyStore = arrayKeyStore()
  const cmk = fakeCmk('cmk')
  const { envelopes } = await clinic({ keyStore, cmk }).seal('a', { ssn: 'x' })
  const other = clinic({ keyStore, cmk, app: 'billing' })
  await expect(other.open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ code: 'ERR_KEY_NOT_FOUND' })
  await other.seal('a', { ssn: 'y' })
  expect(
    keyStore
      .keks()
      .map(({ app }) => app)
      .sort(),
  ).toEqual(['billing', 'clinic'])
})

it('refuses every operation that needs a key after close, and closes once', async () => {
  const { fieldseal, seal, open, keyStore, host, map, as } = clinic()
  const { envelopes } = await seal('a', { ssn: 'x' })
  let closes = 0
  keyStore.close = async () => void closes++
  await Promise.all([fieldseal.close(), fieldseal.close()])
  await fieldseal.close()
  expect(closes).toBe(1)
  const closed = { code: 'ERR_CLOSED' }
  await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject(closed)
  await expect(open('a', { ssn: envelopes[0] })).rejects.toMatchObject(closed)
  await expect(fieldseal.prepare('a')).rejects.toMatchObject(closed)
  await expect(fieldseal.flush()).rejects.toMatchObject(closed)
  expect(() => as('a', () => host.capture())).toThrow(expect.objectContaining(closed))
  await expect(host.load([map], { tenant: 'a', onUnreadable: 'throw' })).rejects.toMatchObject(closed)
})

it('does not go on with keys of its own when it is closed in the middle of a read', async () => {
  const world = clinic()
  const { envelopes } = await world.seal('a', { ssn: 'x' })
  world.fieldseal.purge('a')
  const gate = Promise.withResolvers<undefined>()
  world.cmk.before = () => gate.promise
  const reading = world.open('a', { ssn: envelopes[0] })
  await world.settled()
  await world.fieldseal.close()
  gate.resolve(undefined)
  await reading.catch((error: unknown) => expect(error).toMatchObject({ code: 'ERR_CLOSED' }))
  await world.settled()
  await world.settled()
  expect(world.cmk.given.every(({ disposed }) => disposed)).toBe(true)
})
