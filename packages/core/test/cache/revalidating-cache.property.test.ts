import fc from 'fast-check'
import { expect, it } from 'vitest'
import { createRevalidatingCache } from '../../src/cache/revalidating-cache.ts'
import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import { manualClock } from '../support/manual-clock.ts'

const LIMITS = { refreshAfterMs: 60_000, validForMs: 300_000, maxStaleMs: 900_000 }
/** For so long after a failure nobody is asked again. */
const PAUSE_MS = 1_000

type Step =
  | { readonly does: 'wait'; readonly ms: number }
  | { readonly does: 'read' | 'write' | 'drop' | 'renew' }
  | { readonly does: 'become'; readonly state: 'up' | 'down' | 'denying' }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .oneof(fc.integer({ min: 1, max: 400_000 }), fc.constantFrom(999, 1_000, 60_000, 300_000))
      .map((ms) => ({ does: 'wait' as const, ms })),
  },
  { weight: 5, arbitrary: fc.constantFrom<Step>({ does: 'read' }, { does: 'write' }) },
  { weight: 1, arbitrary: fc.constantFrom<Step>({ does: 'drop' }, { does: 'renew' }) },
  {
    weight: 2,
    arbitrary: fc.constantFrom('up', 'down', 'denying').map((state) => ({ does: 'become' as const, state })),
  },
)

it('never serves longer after the last confirmation than its limits allow, whatever happens', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const clock = manualClock()
      let state: 'up' | 'down' | 'denying' = 'up'
      let deniesSince = Infinity
      const cache = createRevalidatingCache<{ readonly at: number }>({
        clock,
        maxEntries: 3,
        limitsOf: () => LIMITS,
      })
      const confirm = async () => {
        if (state === 'down') throw new FieldsealError('ERR_KMS_UNAVAILABLE')
        if (state === 'denying') throw new FieldsealError('ERR_KMS_ACCESS_DENIED')
        return { at: clock.now() }
      }
      for (const one of steps) {
        if (one.does === 'wait') clock.advance(one.ms)
        else if (one.does === 'become') {
          if (one.state === 'denying' && state !== 'denying') deniesSince = clock.now()
          state = one.state
        } else if (one.does === 'drop') cache.drop('a')
        else if (one.does === 'renew') await cache.renew('a', confirm).catch(() => undefined)
        else {
          const served = await cache.get('a', one.does, confirm).catch(() => undefined)
          if (served === undefined) continue
          const age = clock.now() - served.at
          expect(age).toBeLessThan(one.does === 'write' ? LIMITS.validForMs : LIMITS.maxStaleMs)
          // One who denies is heard, at the latest when the pause after a failure is over.
          if (state === 'denying' && clock.now() - deniesSince >= PAUSE_MS) expect(age).toBeLessThan(LIMITS.validForMs)
          await new Promise((resolve) => setImmediate(resolve))
        }
      }
    }),
    { numRuns: 300 },
  )
})
