import { expect, it } from 'vitest'
import { createFieldseal } from '../../src/create-fieldseal.ts'
import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import type { TenantKeys } from '../../src/keyring/tenant-keys.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { clinic } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

function withRegistry() {
  const cmk = fakeCmk('cmk')
  let answer: () => unknown = () => ({ cmks: [cmk] })
  const asked: string[] = []
  const world = clinic({
    cmk,
    keys: async (tenant) => {
      asked.push(tenant)
      return answer() as TenantKeys | null
    },
  })
  return { ...world, asked, answers: (next: () => unknown) => (answer = next) }
}

it('is asked once per minute in use, and once for many at a time', async () => {
  const { seal, asked, clock, settled } = withRegistry()
  await Promise.all(Array.from({ length: 20 }, () => seal('a', { ssn: 'x' })))
  expect(asked).toEqual(['a'])
  clock.advance(60_000)
  await seal('a', { ssn: 'x' })
  await settled()
  expect(asked).toEqual(['a', 'a'])
})

it('refuses an unknown tenant before anything else is asked', async () => {
  const { seal, answers, keyStore, cmk } = withRegistry()
  answers(() => null)
  await expect(seal('ghost', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_TENANT_UNKNOWN', kind: 'denied' })
  expect([keyStore.calls.length, cmk.calls.length]).toEqual([0, 0])
})

it('purges the keys of a tenant that it no longer knows, although its CMK would still open them', async () => {
  const { seal, open, answers, clock, settled, cmk, events } = withRegistry()
  const { envelopes } = await seal('a', { ssn: 'x' })
  answers(() => null)
  clock.advance(60_000)
  await open('a', { ssn: envelopes[0] }).catch(() => undefined)
  await settled()
  await settled()
  await expect(open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ code: 'ERR_TENANT_UNKNOWN' })
  expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
  expect(events('key.revoked')).toMatchObject([{ tenant: 'a', code: 'ERR_TENANT_UNKNOWN' }])
})

it('keeps its word although keys are confirmed later than the registry was asked', async () => {
  // The key is refreshed a moment before the registry is due; from then on each has its own age.
  const { seal, open, answers, clock, fieldseal, settled } = withRegistry()
  const { envelopes } = await seal('a', { ssn: 'x' })
  const read = () => open('a', { ssn: envelopes[0] })
  answers(() => null)
  clock.advance(59_000)
  fieldseal.purge('b')
  await read()
  clock.advance(fieldseal.revocationBoundMs('a').reachable - 59_000)
  await settled()
  await expect(read()).rejects.toMatchObject({ kind: 'denied' })
})

it('treats a throw as no answer: cached keys live on for a while, even if it throws a denial', async () => {
  for (const thrown of [
    new Error('SECRET'),
    new FieldsealError('ERR_KMS_ACCESS_DENIED'),
    new FieldsealError('ERR_TENANT_UNKNOWN'),
  ]) {
    const { seal, open, answers, clock, settled } = withRegistry()
    const { envelopes } = await seal('a', { ssn: 'x' })
    answers(() => {
      throw thrown
    })
    for (const ms of [60_000, 240_000, 599_999]) {
      clock.advance(ms)
      expect((await open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
      await settled()
    }
    await expect(seal('a', { ssn: 'y' })).rejects.toMatchObject({ code: 'ERR_REGISTRY_UNAVAILABLE' })
    clock.advance(1)
    const error: unknown = await open('a', { ssn: envelopes[0] }).catch((one: unknown) => one)
    expect(error).toMatchObject({ code: 'ERR_REGISTRY_UNAVAILABLE', kind: 'unavailable' })
    expect(String(error)).not.toContain('SECRET')
  }
})

it('names what it answered when that is neither keys nor null', async () => {
  for (const wrong of [undefined, 'cmk', 7, {}, { cmks: [] }, { cmks: [{}] }]) {
    const { seal, answers } = withRegistry()
    answers(() => wrong)
    await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' })
  }
})

it('refuses keys that contradict themselves', () => {
  const [one, two] = [fakeCmk('one'), fakeCmk('two')]
  const wrong: [object, string][] = [
    [{ cmks: [] }, 'keys.cmks'],
    [{ cmks: one }, 'keys.cmks'],
    [{ cmks: [one, one] }, 'keys.cmks'],
    [{ cmks: [one], formerCmks: [one] }, 'keys.cmks'],
    [{ cmks: [one], formerCmks: two }, 'keys.formerCmks'],
    [{ cmks: [{ ...one, provider: 'kek' }] }, 'keys.cmks'],
    [{ cmks: [{ ...one, provider: 'AWS' }] }, 'keys.cmks'],
    [{ cmks: [{ provider: 'x', uri: 'y' }] }, 'keys.cmks'],
    [{ cmks: [one, two], minWraps: 3 }, 'keys.minWraps'],
    [{ cmks: [one], minWraps: 0 }, 'keys.minWraps'],
    [{ cmks: [one], revocation: 'none' }, 'keys.revocation'],
    [{ cmks: [one], cache: { validForMs: 0 } }, 'cache.validForMs'],
  ]
  for (const [keys, field] of wrong)
    expect(
      () => createFieldseal({ app: 'x', tenancy: 'multi', keyStore: arrayKeyStore(), keys: keys as TenantKeys }),
      field,
    ).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID', details: expect.objectContaining({ field }) }))
})

it('needs sharedKeys for indexes across tenants, and uses those alone', async () => {
  const [shared, own] = [fakeCmk('shared'), fakeCmk('own')]
  const model = {
    id: 'users',
    options: { tenantBy: 'clinic_id' },
    fields: [{ path: 'email', type: 'string', options: { blindIndex: { acrossTenants: true } } }],
    rowKey: [{ path: 'id', kind: 'uuid' as const }],
  }
  expect(() => clinic({ keys: async () => ({ cmks: [own] }) }, model)).toThrow(
    expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }),
  )
  const asked: string[] = []
  const world = clinic(
    { keys: async (tenant) => (asked.push(tenant), { cmks: [own] }), sharedKeys: { cmks: [shared] } },
    model,
  )
  const a = await world.seal('a', { email: 'x' })
  const b = await world.seal('b', { email: 'x' })
  expect([...a.tokens.values()]).toEqual([...b.tokens.values()])
  expect(shared.operations()).toEqual(['wrap', 'unwrap'])
  expect(asked).toEqual(['a', 'b']) // never for a reserved tenant
})
