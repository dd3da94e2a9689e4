import fc from 'fast-check'
import { expect, it } from 'vitest'
import {
  cachePolicy,
  DEFAULT_CACHE,
  REGULATED_CACHE,
  revocationBoundOf,
  stricterPolicy,
} from '../../src/cache/options.ts'

const refused = (field: string) =>
  expect.objectContaining({ code: 'ERR_CONFIG_INVALID', details: expect.objectContaining({ field }) })

it('promises 302 and 902 seconds by default, 62 and 122 for regulated tenants', () => {
  expect(revocationBoundOf(cachePolicy(undefined))).toEqual({ reachable: 302_000, unreachable: 902_000 })
  expect(revocationBoundOf(cachePolicy(REGULATED_CACHE))).toEqual({ reachable: 62_000, unreachable: 122_000 })
})

it('refuses limits that contradict each other and numbers that are none', () => {
  expect(() => cachePolicy({ refreshAfterMs: 300_001 })).toThrow(refused('cache.refreshAfterMs'))
  expect(() => cachePolicy({ maxStaleMs: 299_999 })).toThrow(refused('cache.maxStaleMs'))
  for (const value of [0, -1, 1.5, Number.NaN, Infinity, '60', null])
    expect(() => cachePolicy({ validForMs: value as number })).toThrow(refused('cache.validForMs'))
  expect(() => cachePolicy({ validForMS: 1 } as object)).toThrow(refused('cache.validForMS'))
  expect(() => cachePolicy({ toString: 1 } as object)).toThrow(refused('cache.toString'))
  expect(cachePolicy({ maxStaleMs: undefined } as object)).toEqual(DEFAULT_CACHE)
})

it('takes from a tenant only what is stricter', () => {
  const base = cachePolicy(undefined)
  expect(stricterPolicy(base, REGULATED_CACHE)).toMatchObject(REGULATED_CACHE)
  expect(
    stricterPolicy(base, { validForMs: 999_000, maxStaleMs: 9_999_000, callDeadlineMs: 60_000, maxEntries: 1 }),
  ).toEqual(base)
})

it('lets a tenant shorten one limit alone: those that must not exceed it follow', () => {
  const base = cachePolicy(undefined)
  expect(stricterPolicy(base, { validForMs: 30_000 })).toMatchObject({
    refreshAfterMs: 30_000,
    validForMs: 30_000,
    maxStaleMs: 900_000,
  })
  expect(stricterPolicy(base, { maxStaleMs: 10_000 })).toMatchObject({
    refreshAfterMs: 10_000,
    validForMs: 10_000,
    maxStaleMs: 10_000,
  })
  expect(() => stricterPolicy(base, { validForMs: -1 })).toThrow(refused('cache.validForMs'))
})

it('is never looser for a tenant than for the application', () => {
  const limit = fc.option(fc.integer({ min: 1, max: 2_000_000 }), { nil: undefined })
  const options = fc.record({ refreshAfterMs: limit, validForMs: limit, maxStaleMs: limit, callDeadlineMs: limit })
  fc.assert(
    fc.property(options, (own) => {
      const policy = stricterPolicy(DEFAULT_CACHE, own as object)
      for (const name of ['refreshAfterMs', 'validForMs', 'maxStaleMs', 'callDeadlineMs'] as const) {
        expect(policy[name]).toBeLessThanOrEqual(DEFAULT_CACHE[name])
        expect(policy[name]).toBeLessThanOrEqual(own[name] ?? Infinity)
      }
      expect(policy.refreshAfterMs).toBeLessThanOrEqual(policy.validForMs)
      expect(policy.validForMs).toBeLessThanOrEqual(policy.maxStaleMs)
    }),
  )
})
