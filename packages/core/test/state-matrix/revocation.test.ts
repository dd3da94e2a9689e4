import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type Clock, systemClock } from '../../src/cache/clock.ts'
import { REGULATED_CACHE } from '../../src/cache/options.ts'
import { kmsError, type KmsErrorCode } from '../../src/kms.ts'
import { clinic } from '../support/clinic.ts'
import { directPatients } from '../support/direct.ts'
import { fakeCmk, type FakeCmk } from '../support/fake-cmk.ts'

type Mode = 'kek' | 'direct'
type Weather = 'denies' | 'silent' | 'hangs'

/** A tenant that reads one value over and over, until its CMK is taken away. */
async function reader(mode: Mode, { cache = {}, clock }: { cache?: object; clock?: Clock } = {}) {
  const cmk = fakeCmk('cmk')
  const made =
    clock === undefined
      ? clinic({ cmk, cache }, directPatients({ mode }))
      : clinic({ cmk, cache, clock: clock as never }, directPatients({ mode }))
  const { envelopes } = await made.seal('a', { ssn: 'x' })
  const read = () =>
    made.open('a', { ssn: envelopes[0] }).then(
      () => true,
      () => false,
    )
  await read()
  return { ...made, cmk, read }
}

/** From now on: disabled, and sometimes not to be reached. Tells whether anybody was told. */
function disable(cmk: FakeCmk, weather: () => Weather): { readonly told: () => boolean } {
  let told = false
  cmk.before = () => {
    const now = weather()
    if (now === 'hangs') return new Promise(() => undefined)
    told ||= now === 'denies'
    const code: KmsErrorCode = now === 'denies' ? 'ERR_KMS_KEY_DISABLED' : 'ERR_KMS_UNKNOWN'
    throw kmsError(code, { provider: 'fake' })
  }
  return { told: () => told }
}

const pause = fc.integer({ min: 1, max: 120_000 })
const weather = fc.constantFrom<Weather>('denies', 'silent')

it('decrypts nothing later than revocationBoundMs after a key was disabled: reachable, unreachable or flapping', async () => {
  const story = fc.record({
    mode: fc.constantFrom<Mode>('kek', 'direct'),
    regulated: fc.boolean(),
    before: fc.array(pause, { maxLength: 5 }),
    after: fc.array(fc.tuple(pause, weather), { minLength: 10, maxLength: 40 }),
    always: fc.constantFrom<Weather | undefined>('denies', 'silent', undefined),
  })
  await fc.assert(
    fc.asyncProperty(story, async ({ mode, regulated, before, after, always }) => {
      const { cmk, read, clock, settled, fieldseal } = await reader(mode, { cache: regulated ? REGULATED_CACHE : {} })
      for (const ms of before) {
        clock.advance(ms)
        await read()
        await settled()
      }
      let now: Weather = 'silent'
      const { told } = disable(cmk, () => now)
      const since = clock.now()
      let last = 0
      for (const [ms, drawn] of after) {
        now = always ?? drawn
        clock.advance(ms)
        const wasTold = told()
        const served = await read()
        await settled()
        if (!served) continue
        last = clock.now() - since
        expect(wasTold, 'a denial that was heard wins over all later silence').toBe(false)
      }
      const { reachable, unreachable } = fieldseal.revocationBoundMs('a')
      expect(last).toBeLessThanOrEqual(always === 'denies' ? reachable : unreachable)
    }),
    { numRuns: 200 },
  )
})

it('does so in real time', { timeout: 20_000 }, async () => {
  const cache = { refreshAfterMs: 40, validForMs: 120, maxStaleMs: 300, callDeadlineMs: 60 }
  const weathers: readonly (readonly [Weather | 'flaps', 'reachable' | 'unreachable'])[] = [
    ['denies', 'reachable'],
    ['silent', 'unreachable'],
    ['hangs', 'unreachable'],
    ['flaps', 'unreachable'],
  ]
  const stories = (['kek', 'direct'] as const).flatMap((mode) => weathers.map((one) => [mode, ...one] as const))
  await Promise.all(
    stories.map(async ([mode, kind, which]) => {
      const { cmk, read, fieldseal } = await reader(mode, { cache, clock: systemClock })
      const until = async (end: number) => {
        let last = 0
        while (performance.now() < end) {
          const at = performance.now()
          if (await read()) last = at
          await new Promise((resolve) => setTimeout(resolve, 3))
        }
        return last
      }
      await until(performance.now() + 150) // in use, refreshed
      let calls = 0
      disable(cmk, () =>
        kind === 'flaps' ? ((['silent', 'hangs', 'silent', 'denies'] as const)[calls++ % 4] ?? 'silent') : kind,
      )
      const since = performance.now()
      const last = await until(since + 700)
      expect(last - since, `${mode}, ${kind}`).toBeLessThanOrEqual(fieldseal.revocationBoundMs('a')[which])
      expect(await read()).toBe(false)
    }),
  )
})
