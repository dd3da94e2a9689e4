import { inspect } from 'node:util'
import { expect, it } from 'vitest'
import { attach, moveWraps, rotateKek } from '../src/attach.ts'
import { createFieldseal } from '../src/create-fieldseal.ts'
import { arrayKeyStore } from './support/array-key-store.ts'
import { clinic } from './support/clinic.ts'
import { fakeCmk } from './support/fake-cmk.ts'

const keys = { cmks: [fakeCmk('cmk')] }

it('names the option that is wrong', () => {
  const good = { app: 'clinic', tenancy: 'multi' as const, keyStore: arrayKeyStore(), keys }
  const wrong: [object, string][] = [
    [{ app: '' }, 'app'],
    [{ app: 'Clinic' }, 'app'],
    [{ app: 'x'.repeat(65) }, 'app'],
    [{ app: 7 }, 'app'],
    [{ tenancy: 'none' }, 'tenancy'],
    [{ keyStore: undefined }, 'keyStore'],
    [{ keyStore: {} }, 'keyStore'],
    [{ keys: undefined }, 'keys'],
    [{ keys: null }, 'keys'],
    [{ keys: 'cmk' }, 'keys'],
    [{ tenancy: 'single', keys: async () => keys }, 'keys'],
    [{ sharedKeys: { cmks: [] } }, 'keys.cmks'],
    [{ cache: { validForMs: 0 } }, 'cache.validForMs'],
    [{ deniedKeks: ['x'] }, 'deniedKeks'],
    [{ keys: { ...keys, cashe: { validForMs: 60_000 } } }, 'keys.cashe'],
    [{ deniedKEKs: ['0'.repeat(24)] }, 'deniedKEKs'], // would be ignored
  ]
  for (const [change, field] of wrong)
    expect(() => createFieldseal({ ...good, ...change }), field).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_INVALID', details: expect.objectContaining({ field }) }),
    )
})

it('does no I/O when it is made', () => {
  const { keyStore, cmk } = clinic()
  expect([keyStore.calls.length, cmk.calls.length]).toEqual([0, 0])
})

it('refuses anything that it did not make', async () => {
  for (const stranger of [undefined, null, {}, 'fieldseal', () => 1]) {
    const refused = expect.objectContaining({ code: 'ERR_ARGUMENT_INVALID' })
    expect(() => attach(stranger as never, { name: 'x', ormVersion: '0' })).toThrow(refused)
    await expect(rotateKek(stranger as never)).rejects.toThrow(refused)
    await expect(moveWraps(stranger as never)).rejects.toThrow(refused)
  }
})

it('shows its methods and nothing behind them when it is printed', async () => {
  const world = clinic()
  await world.seal('a', { ssn: 'CANARY-078', email: 'canary@example.org' })
  await world.open('a', { ssn: (await world.seal('a', { ssn: 'CANARY-078' })).envelopes[0] })
  world.fieldseal.purge('a')
  await world.seal('a', { ssn: 'CANARY-078' })
  const secrets = world.cmk.given.filter(({ disposed }) => !disposed).map((key) => Buffer.from(key.exposeBytes()))
  expect(secrets.length).toBeGreaterThan(0)
  const printed = [world.fieldseal, world.host, world.map, world.heard].flatMap((one) => [
    inspect(one, { depth: Infinity, showHidden: true, getters: true, maxArrayLength: Infinity }),
    inspect(one, { depth: Infinity, customInspect: false, showHidden: true }),
    ...(one === world.map ? [] : [JSON.stringify(one)]), // fields and indexes name each other
  ])
  for (const text of printed) {
    expect(text).not.toMatch(/canary/i)
    for (const secret of secrets) {
      expect(text).not.toContain(secret.toString('hex'))
      expect(text).not.toContain(secret.toString('base64'))
      expect(text).not.toContain([...secret].join(', '))
    }
  }
  expect(Object.keys(world.fieldseal).sort()).toEqual(
    [
      'activate',
      'afterRestore',
      'close',
      'flush',
      'health',
      'on',
      'prepare',
      'purge',
      'revocationBoundMs',
      'runAs',
      'runAsSystem',
    ].sort(),
  )
  expect(Object.isFrozen(world.fieldseal)).toBe(true)
})

it('copies its options: a later change of the caller’s objects changes nothing', async () => {
  const cmks = [fakeCmk('one')]
  const denied: string[] = []
  const world = clinic({ keys: { cmks }, deniedKeks: denied })
  cmks.push(fakeCmk('two'))
  const { kekIds } = await world.seal('a', { ssn: 'x' })
  denied.push(...kekIds)
  await world.seal('a', { ssn: 'x' })
  expect(world.keyStore.keks()[0]?.wraps).toHaveLength(1)
})

it('asks every adapter before a flush whether waiting would wait for the caller', async () => {
  const { fieldseal } = clinic()
  attach(fieldseal, {
    name: 'x',
    ormVersion: '0',
    beforeFlush() {
      throw new Error('inside a transaction')
    },
  })
  await expect(fieldseal.flush()).rejects.toThrow('inside a transaction')
})
