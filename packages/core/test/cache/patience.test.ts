import { expect, it } from 'vitest'
import { createRevalidatingCache } from '../../src/cache/revalidating-cache.ts'
import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import { manualClock } from '../support/manual-clock.ts'

/** A cached value, and a confirmation that answers when told to. Reads wait 20 ms for it. */
async function world() {
  const clock = manualClock()
  const heard: string[] = []
  const cache = createRevalidatingCache<string[]>({
    clock,
    maxEntries: 10,
    limitsOf: () => ({ refreshAfterMs: 60, validForMs: 300, maxStaleMs: 900 }),
    patienceMs: () => 20,
    onStale: () => heard.push('stale'),
    onRevoked: () => heard.push('revoked'),
  })
  const old = await cache.get('a', 'read', async () => ['old'])
  const gate = Promise.withResolvers<string[]>()
  let asked = 0
  const confirm = () => {
    asked++
    return gate.promise
  }
  const later = () => new Promise((resolve) => setTimeout(resolve, 40))
  return { cache, clock, heard, old, gate, confirm, later, asked: () => asked }
}

it('serves a read what may be served stale when the confirmation takes too long, and goes on asking once', async () => {
  const { cache, clock, heard, old, gate, confirm, later, asked } = await world()
  clock.advance(300)
  expect(await cache.get('a', 'read', confirm)).toBe(old)
  const startedAt = performance.now()
  for (let i = 0; i < 50; i++) expect(await cache.get('a', 'read', confirm)).toBe(old)
  expect(performance.now() - startedAt, 'who comes later does not wait again').toBeLessThan(1_000)
  expect([asked(), heard.length]).toEqual([1, 51])
  gate.resolve(['new'])
  await later()
  expect(await cache.get('a', 'read', confirm)).toEqual(['new'])
  expect(asked()).toBe(1)
})

it('lets a write wait for the confirmation, however long', async () => {
  const { cache, clock, gate, confirm, later } = await world()
  clock.advance(300)
  const writing = cache.get('a', 'write', confirm)
  await later()
  gate.resolve(['new'])
  expect(await writing).toEqual(['new'])
})

it('serves nothing that is dead, and hears a denial that comes late', async () => {
  const dead = await world()
  dead.clock.advance(899)
  const reading = dead.cache.get('a', 'read', dead.confirm)
  dead.clock.advance(1)
  await dead.later()
  dead.gate.resolve(['new'])
  expect(await reading).toEqual(['new'])

  const denied = await world()
  denied.clock.advance(300)
  expect(await denied.cache.get('a', 'read', denied.confirm)).toBe(denied.old)
  denied.gate.reject(new FieldsealError('ERR_KMS_ACCESS_DENIED'))
  await denied.later()
  expect(denied.heard).toEqual(['stale', 'revoked'])
  await expect(denied.cache.get('a', 'read', denied.confirm)).rejects.toMatchObject({ kind: 'denied' })
})
