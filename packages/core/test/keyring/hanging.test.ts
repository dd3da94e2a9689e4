import { expect, it } from 'vitest'
import type { TenantKeys } from '../../src/keyring/tenant-keys.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { clinic } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

const QUICK = { callDeadlineMs: 60 }
const never = () => new Promise<never>(() => undefined)

it('ends a cold read when the key store never answers', async () => {
  const { seal, open, keyStore, fieldseal } = clinic({ cache: QUICK })
  const { envelopes } = await seal('a', { ssn: 'x' })
  fieldseal.purge('a')
  keyStore.before = never
  await expect(open('a', { ssn: envelopes[0] })).rejects.toMatchObject({
    code: 'ERR_KEY_STORE_UNAVAILABLE',
    kind: 'unavailable',
    details: { reason: 'no answer in time' },
  })
  keyStore.before = undefined
  expect((await open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
})

it('ends a cold read when the registry never answers', async () => {
  let answer: () => Promise<TenantKeys> = never
  const cmk = fakeCmk('one')
  const { seal } = clinic({ cache: QUICK, keys: () => answer() })
  await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject({
    code: 'ERR_REGISTRY_UNAVAILABLE',
    kind: 'unavailable',
    details: { reason: 'no answer in time' },
  })
  answer = async () => ({ cmks: [cmk] })
  await seal('a', { ssn: 'x' })
})

it('serves a cached key while registry and key store hang, up to maxStaleMs', async () => {
  let answer: () => Promise<TenantKeys> = async () => ({ cmks: [cmk] })
  const cmk = fakeCmk('one')
  const keyStore = arrayKeyStore()
  const { seal, open, clock } = clinic({ cache: QUICK, keyStore, keys: () => answer() })
  const { envelopes } = await seal('a', { ssn: 'x' })
  answer = never
  keyStore.before = never
  clock.advance(899_000)
  const startedAt = performance.now()
  expect((await open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
  const waited = performance.now() - startedAt
  expect(waited, 'not until the deadlines of registry and key store').toBeLessThan(2 * 5 * QUICK.callDeadlineMs)
  // While the questions are still open, the next reads wait for nobody.
  for (let i = 0; i < 20; i++) expect((await open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
  expect(performance.now() - startedAt - waited).toBeLessThan(2 * 5 * QUICK.callDeadlineMs)
  clock.advance(1_001)
  await expect(open('a', { ssn: envelopes[0] })).rejects.toMatchObject({ kind: 'unavailable' })
})
