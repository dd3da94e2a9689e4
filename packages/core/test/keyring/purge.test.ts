import { expect, it } from 'vitest'
import { clinic, NOTES, type HeardEvent } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

const COLUMNS = { patient: '42' }

it('emits nothing, so that a bus that purges on an event cannot loop', async () => {
  const { seal, open, fieldseal, heard } = clinic()
  const { envelopes } = await seal('a', { ssn: 'x', email: 'ada@example.org' })
  await open('a', { ssn: envelopes[0] })
  const before: readonly HeardEvent[] = [...heard]
  for (const tenant of ['a', 'a', 'never seen']) fieldseal.purge(tenant)
  await new Promise((resolve) => setTimeout(resolve, 5))
  expect(heard).toEqual(before)
})

it('drops every key of the tenant and all that was derived from them, and no other tenant’s', async () => {
  const cmks = { a: fakeCmk('of-a'), b: fakeCmk('of-b') }
  const asked: string[] = []
  const { seal, fieldseal, keyStore, host, as } = clinic({
    keys: async (tenant) => {
      asked.push(tenant)
      return tenant in cmks ? { cmks: [cmks[tenant as 'a' | 'b']] } : null
    },
  })
  const notes = host.defineModel(NOTES)
  const note = (tenant: string) =>
    as(tenant, () => {
      const context = host.capture()
      const facts = notes.facts({ clinic_id: tenant, ...COLUMNS }, context)
      const [field] = notes.fields
      if (field === undefined) throw new Error('no field')
      return host.cipher.seal([{ map: notes, facts, cells: [{ field, value: 'x' }] }], context)
    })
  for (const tenant of ['a', 'b']) {
    await seal(tenant, { ssn: 'x', email: 'ada@example.org' })
    await fieldseal.prepare(tenant, { keyspaces: ['class:payment'] })
    await note(tenant)
    fieldseal.purge(tenant)
    await seal(tenant, { ssn: 'x', email: 'ada@example.org' })
    await note(tenant)
  }
  const alive = (cmk: (typeof cmks)['a']) => cmk.given.filter(({ disposed }) => !disposed).length
  expect([alive(cmks.a), alive(cmks.b)]).toEqual([2, 2])
  fieldseal.purge('a')
  expect([alive(cmks.a), alive(cmks.b)]).toEqual([0, 2])

  // Configuration, records and keys are asked for again: registry, key store and KMS, once each for what is needed.
  asked.length = keyStore.calls.length = cmks.a.calls.length = 0
  await seal('a', { email: 'ada@example.org' })
  expect(asked).toEqual(['a'])
  expect(keyStore.calls).toEqual(['load'])
  expect(cmks.a.operations()).toEqual(['unwrap', 'unwrap'])
  asked.length = keyStore.calls.length = cmks.b.calls.length = 0
  await seal('b', { email: 'ada@example.org' })
  expect([asked, keyStore.calls, cmks.b.calls]).toEqual([[], [], []])
})

it('lets nothing into the cache that was asked for before it', async () => {
  const { seal, fieldseal, cmk, open } = clinic()
  const { envelopes } = await seal('a', { ssn: 'x' })
  fieldseal.purge('a')
  const gate = Promise.withResolvers<void>()
  cmk.before = () => gate.promise
  const reading = open('a', { ssn: envelopes[0] })
  await new Promise((resolve) => setTimeout(resolve, 5))
  fieldseal.purge('a')
  cmk.before = undefined
  gate.resolve()
  expect((await reading).values).toEqual(['x']) // it had been asked for while it was allowed
  cmk.calls.length = 0
  await open('a', { ssn: envelopes[0] })
  expect(cmk.operations()).toEqual(['unwrap'])
})

it('forgets remembered denials, of the KMS, the registry and the key store', async () => {
  let known = false
  const cmk = fakeCmk('one')
  const { seal, fieldseal } = clinic({ cmk, keys: async () => (known ? { cmks: [cmk] } : null) })
  await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_TENANT_UNKNOWN' })
  known = true
  await expect(seal('a', { ssn: 'x' }), 'remembered').rejects.toMatchObject({ code: 'ERR_TENANT_UNKNOWN' })
  fieldseal.purge('a')
  await seal('a', { ssn: 'x' })
  fieldseal.purge('a')
  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED' })
  cmk.failure = undefined
  await expect(seal('a', { ssn: 'x' }), 'remembered').rejects.toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED' })
  fieldseal.purge('a')
  await seal('a', { ssn: 'x' })
})

it('refuses a tenant id that is none', () => {
  const { fieldseal } = clinic()
  for (const [tenant, code] of [
    [undefined, 'ERR_TENANT_MISSING'],
    ['$single', 'ERR_ARGUMENT_INVALID'],
  ] as const)
    expect(() => fieldseal.purge(tenant)).toThrow(expect.objectContaining({ code }))
})
