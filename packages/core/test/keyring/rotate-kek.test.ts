import { expect, it } from 'vitest'
import { rotateKek } from '../../src/attach.ts'
import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { clinic } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

it('gives what is written from now on a new KEK and touches no data', async () => {
  const { fieldseal, seal, open, keyStore, events } = clinic()
  const old = await seal('a', { ssn: 'old' })
  const rotated = await rotateKek(fieldseal, { tenant: 'a' })
  expect(rotated).toEqual({ kekId: expect.any(String) as string, version: 2, demoted: old.kekIds })
  expect(events('kek.rotated')).toMatchObject([{ tenant: 'a', keyspace: 'default', kekId: rotated.kekId, version: 2 }])
  expect((await seal('a', { ssn: 'new' })).kekIds).toEqual([rotated.kekId])
  const opened = await open('a', { ssn: old.envelopes[0] })
  expect(opened).toMatchObject({ values: ['old'], outdated: [0] })
  expect(keyStore.keks().map(({ version, state, revision }) => [version, state, revision])).toEqual([
    [1, 'decrypt-only', 2],
    [2, 'active', 1],
  ])
})

it('makes the first KEK of a keyspace that has none', async () => {
  const { fieldseal, keyStore } = clinic()
  expect(await rotateKek(fieldseal, { tenant: 'a', keyspace: 'class:payment' })).toMatchObject({
    version: 1,
    demoted: [],
  })
  expect(keyStore.keks()).toHaveLength(1)
})

it('can be repeated: each run gives a new version and one active KEK', async () => {
  const { fieldseal, keyStore } = clinic()
  for (let version = 1; version <= 4; version++)
    expect((await rotateKek(fieldseal, { tenant: 'a' })).version).toBe(version)
  expect(
    keyStore
      .keks()
      .filter(({ state }) => state === 'active')
      .map(({ version }) => version),
  ).toEqual([4])
})

it('rotates beside a KEK that is denied, and leaves that one as it is', async () => {
  const { fieldseal, seal, keyStore } = clinic()
  const { kekIds } = await seal('a', { ssn: 'x' })
  await rotateKek(fieldseal, { tenant: 'a' })
  keyStore.tamper(kekIds[0] as never, { denial: 'retired' })
  fieldseal.purge('a')
  expect((await rotateKek(fieldseal, { tenant: 'a' })).version).toBe(3)
})

it('keeps denials that were written meanwhile out of the way: a changed record is left to the next run', async () => {
  const { fieldseal, seal, keyStore } = clinic()
  const { kekIds } = await seal('a', { ssn: 'x' })
  const { update } = keyStore
  keyStore.update = async (record) => {
    keyStore.tamper(record.id, { rowVersion: 50 })
    keyStore.update = update
    return update(record)
  }
  expect((await rotateKek(fieldseal, { tenant: 'a' })).demoted).toEqual([])
  expect((await rotateKek(fieldseal, { tenant: 'a' })).demoted).toContain(kekIds[0])
})

it('ends with one active KEK when two processes rotate at the same time', async () => {
  const keyStore = arrayKeyStore()
  const cmk = fakeCmk('cmk')
  const [one, two] = [clinic({ keyStore, cmk }), clinic({ keyStore, cmk })]
  const { envelopes } = await one.seal('a', { ssn: 'x' })
  await two.open('a', { ssn: envelopes[0] })
  keyStore.before = () => new Promise((resolve) => setImmediate(resolve))
  await Promise.allSettled([rotateKek(one.fieldseal, { tenant: 'a' }), rotateKek(two.fieldseal, { tenant: 'a' })])
  keyStore.before = undefined
  await rotateKek(one.fieldseal, { tenant: 'a' })
  expect(keyStore.keks().filter(({ state }) => state === 'active')).toHaveLength(1)
  for (const { open } of [one, two]) expect((await open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
})

/** Every call to the key store and the KMS that a rotation makes, in order, is where a process may die. */
it('converges after a crash at any step, and all data is readable at every moment', async () => {
  for (let step = 1; ; step++) {
    const keyStore = arrayKeyStore()
    const cmk = fakeCmk('cmk')
    const world = clinic({ keyStore, cmk })
    const sealed = [(await world.seal('a', { ssn: 'v1' })).envelopes[0]]
    await rotateKek(world.fieldseal, { tenant: 'a' })
    sealed.push((await world.seal('a', { ssn: 'v2' })).envelopes[0])

    const dying = clinic({ keyStore, cmk })
    const counted = { left: step }
    const dies = () => {
      if (--counted.left <= 0) throw new FieldsealError('ERR_KMS_UNKNOWN')
    }
    keyStore.before = cmk.before = dies
    const outcome = await rotateKek(dying.fieldseal, { tenant: 'a' }).catch(() => undefined)
    keyStore.before = cmk.before = undefined
    if (outcome !== undefined && counted.left > 0) break // no step was left to die at
    expect(step, 'the loop ends').toBeLessThan(40)

    const next = clinic({ keyStore, cmk })
    const readAll = async () => {
      for (const [i, envelope] of sealed.entries())
        expect((await next.open('a', { ssn: envelope })).values).toEqual([`v${i + 1}`])
    }
    await readAll()
    await next.seal('a', { ssn: 'x' })
    await rotateKek(next.fieldseal, { tenant: 'a' })
    await readAll()
    expect(
      keyStore.keks().filter(({ state }) => state === 'active'),
      `after step ${step}`,
    ).toHaveLength(1)
  }
})
