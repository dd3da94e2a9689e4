import fc from 'fast-check'
import { expect, it } from 'vitest'
import { REGULATED_CACHE } from '../../src/cache/options.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { clinic } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

/** Who takes the key away, and how. */
const REVOCATIONS = ['cmk', 'second cmk', 'registry', 'key store'] as const

const timeline = fc.record({
  revocation: fc.constantFrom(...REVOCATIONS),
  /** Silent from the moment of the revocation on, so that nobody can hear of it. */
  unreachable: fc.boolean(),
  regulated: fc.boolean(),
  /** Pauses between reads before and after the revocation. */
  before: fc.array(fc.integer({ min: 1, max: 200_000 }), { maxLength: 6 }),
  after: fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 8, maxLength: 16 }),
})

it('serves no read later after a revocation than revocationBoundMs says', async () => {
  await fc.assert(
    fc.asyncProperty(timeline, async ({ revocation, unreachable, regulated, before, after }) => {
      const [one, two] = [fakeCmk('one'), fakeCmk('two')]
      const keyStore = arrayKeyStore()
      let registered = true
      let registryDown = false
      const cache = regulated ? REGULATED_CACHE : {}
      const { seal, open, clock, fieldseal, settled } = clinic({
        keyStore,
        keys: async () => {
          if (registryDown) throw new Error('down')
          return registered ? { cmks: [one, two], cache } : null
        },
      })
      const { envelopes, kekIds } = await seal('a', { ssn: 'x' })
      const read = () =>
        open('a', { ssn: envelopes[0] }).then(
          () => true,
          () => false,
        )
      for (const ms of before) {
        clock.advance(ms)
        await read()
        await settled()
      }
      if (revocation === 'cmk') one.failure = unreachable ? 'ERR_KMS_UNKNOWN' : 'ERR_KMS_KEY_DISABLED'
      if (revocation === 'cmk' && unreachable) two.failure = 'ERR_KMS_UNKNOWN' // a fallback that answers is an answer
      if (revocation === 'second cmk') two.failure = 'ERR_KMS_ACCESS_DENIED'
      if (revocation === 'registry') registered = false
      if (revocation === 'registry') registryDown = unreachable
      if (revocation === 'key store') keyStore.tamper(kekIds[0] as never, { denial: 'retired' })
      if (revocation === 'key store') keyStore.down = unreachable
      const bound =
        fieldseal.revocationBoundMs('a')[unreachable && revocation !== 'second cmk' ? 'unreachable' : 'reachable']
      const since = clock.now()
      for (const ms of after) {
        clock.advance(ms)
        const served = await read()
        await settled()
        if (served) expect(clock.now() - since).toBeLessThanOrEqual(bound)
      }
    }),
    { numRuns: 150 },
  )
})

it('writes nothing later than validForMs after the last confirmation', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 150_000 }), { maxLength: 8 }), async (pauses) => {
      const { seal, clock, cmk, settled } = clinic()
      await seal('a', { ssn: 'x' })
      cmk.failure = 'ERR_KMS_UNKNOWN'
      const since = clock.now()
      for (const ms of pauses) {
        clock.advance(ms)
        const written = await seal('a', { ssn: 'x' }).then(
          () => true,
          () => false,
        )
        await settled()
        expect(written).toBe(clock.now() - since < 300_000)
      }
    }),
    { numRuns: 50 },
  )
})
