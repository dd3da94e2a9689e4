import { expect, it } from 'vitest'
import { clinic } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

/** Two tenants, each with a CMK of its own. */
async function twoTenants() {
  const cmks = { a: fakeCmk('of-a', { credentialScope: 'a' }), b: fakeCmk('of-b', { credentialScope: 'b' }) }
  const world = clinic({ keys: async (tenant) => (tenant in cmks ? { cmks: [cmks[tenant as 'a' | 'b']] } : null) })
  const ofA = (await world.seal('a', { ssn: 'of a' })).envelopes[0]
  const ofB = (await world.seal('b', { ssn: 'of b' })).envelopes[0]
  return { ...world, cmks, readA: () => world.open('a', { ssn: ofA }), readB: () => world.open('b', { ssn: ofB }) }
}

it('fails closed at once when a refresh meets a denial, for that tenant alone', async () => {
  const { readA, readB, cmks, clock, settled, events } = await twoTenants()
  cmks.a.failure = 'ERR_KMS_KEY_DISABLED'
  clock.advance(60_000)
  await readA().catch(() => undefined) // served or not: the refresh that it starts meets the denial
  await settled()
  await expect(readA()).rejects.toMatchObject({
    code: 'ERR_KMS_KEY_DISABLED',
    kind: 'denied',
    details: { tenant: 'a', model: 'patients' },
  })
  expect((await readB()).values).toEqual(['of b'])
  expect(events('key.revoked')).toMatchObject([{ tenant: 'a', code: 'ERR_KMS_KEY_DISABLED' }])
})

it('does not ask a CMK again for some seconds after a denial', async () => {
  const { readA, cmks, fieldseal, clock } = await twoTenants()
  fieldseal.purge('a')
  cmks.a.failure = 'ERR_KMS_ACCESS_DENIED'
  cmks.a.calls.length = 0
  for (let i = 0; i < 10; i++) await expect(readA()).rejects.toMatchObject({ kind: 'denied' })
  expect(cmks.a.calls).toHaveLength(1)
  clock.advance(5_001)
  await expect(readA()).rejects.toMatchObject({ kind: 'denied' })
  expect(cmks.a.calls).toHaveLength(2)
})

it('recovers without a restart when the CMK is enabled again, and says so', async () => {
  const { readA, cmks, clock, settled, events } = await twoTenants()
  cmks.a.failure = 'ERR_KMS_KEY_DISABLED'
  clock.advance(60_000)
  await readA().catch(() => undefined)
  await settled()
  cmks.a.failure = undefined
  await expect(readA()).rejects.toMatchObject({ kind: 'denied' }) // remembered
  clock.advance(15_000)
  expect((await readA()).values).toEqual(['of a'])
  expect(events('key.restored')).toHaveLength(1)
})

it('reports each denial of a cached key once, so that a bus that purges on the event cannot loop', async () => {
  const { readA, cmks, clock, settled, events, fieldseal } = await twoTenants()
  fieldseal.on('key.revoked', ({ tenant }) => fieldseal.purge(tenant)) // as api.md §2 shows
  cmks.a.failure = 'ERR_KMS_KEY_DISABLED'
  clock.advance(60_000)
  await readA().catch(() => undefined)
  await settled()
  cmks.a.calls.length = 0
  for (let i = 0; i < 20; i++) await readA().catch(() => undefined)
  expect(events('key.revoked')).toHaveLength(1)
  expect(cmks.a.calls.length).toBeLessThanOrEqual(1) // the negative cache holds
})

it('lets one denial win over flapping silence', async () => {
  const { readA, cmks, clock, settled } = await twoTenants()
  for (const failure of ['ERR_KMS_UNKNOWN', 'ERR_KMS_ACCESS_DENIED', 'ERR_KMS_UNKNOWN'] as const) {
    cmks.a.failure = failure
    clock.advance(61_000)
    await readA().catch(() => undefined)
    await settled()
  }
  await expect(readA()).rejects.toSatisfy((error: { kind: string }) => ['denied', 'unavailable'].includes(error.kind))
})

it('purges all keys of the tenant on a denial by its CMK', async () => {
  const { seal, cmks, clock, settled, readA, fieldseal } = await twoTenants()
  await seal('a', { email: 'ada@example.org' }) // the index key as well
  await fieldseal.prepare('a', { keyspaces: ['class:payment'] })
  cmks.a.failure = 'ERR_KMS_ACCESS_DENIED'
  clock.advance(60_000)
  await readA().catch(() => undefined)
  await settled()
  expect(cmks.a.given.every(({ disposed }) => disposed)).toBe(true)
  await expect(seal('a', { email: 'ada@example.org' })).rejects.toMatchObject({ kind: 'denied' })
})

it('leaves no rejection unhandled whatever is denied, down or lying in the background', async () => {
  const unhandled: unknown[] = []
  const listener = (reason: unknown) => unhandled.push(reason)
  process.on('unhandledRejection', listener)
  try {
    const { readA, readB, cmks, clock, settled, fieldseal, keyStore } = await twoTenants()
    for (const failure of ['ERR_KMS_UNKNOWN', 'ERR_KMS_ACCESS_DENIED', 'ERR_KMS_WRONG_KEY', undefined] as const) {
      cmks.a.failure = failure
      cmks.b.liar = failure === undefined
      keyStore.down = failure === 'ERR_KMS_WRONG_KEY'
      for (const ms of [60_000, 300_000, 900_000]) {
        clock.advance(ms)
        await Promise.allSettled([readA(), readB(), readA()])
        void readA().catch(() => undefined)
        fieldseal.purge('b')
        await settled()
      }
    }
    await fieldseal.close()
    await new Promise((resolve) => setTimeout(resolve, 20))
  } finally {
    process.off('unhandledRejection', listener)
  }
  expect(unhandled).toEqual([])
})

it('reports a failed refresh in the background and serves on', async () => {
  const { readA, cmks, clock, settled, events } = await twoTenants()
  cmks.a.failure = 'ERR_KMS_UNKNOWN'
  clock.advance(60_000)
  expect((await readA()).values).toEqual(['of a'])
  await settled()
  expect(events('background.failed')).toMatchObject([{ operation: 'refresh', tenant: 'a', code: 'ERR_KMS_UNKNOWN' }])
})
