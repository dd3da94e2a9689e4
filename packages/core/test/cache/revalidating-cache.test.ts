import { expect, it } from 'vitest'
import { createRevalidatingCache, type Use } from '../../src/cache/revalidating-cache.ts'
import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import { manualClock } from '../support/manual-clock.ts'

interface Value {
  readonly name: string
  life: 'cached' | 'released' | 'disposed'
}

const LIMITS = { refreshAfterMs: 60, validForMs: 300, maxStaleMs: 900 }
const down = () => Promise.reject(new FieldsealError('ERR_KMS_UNAVAILABLE'))
const denied = () => Promise.reject(new FieldsealError('ERR_KMS_ACCESS_DENIED'))

function world(maxEntries = 100) {
  const clock = manualClock()
  const heard: string[] = []
  let limits = LIMITS
  const cache = createRevalidatingCache<Value>({
    clock,
    maxEntries,
    limitsOf: () => limits,
    dispose: (value) => (value.life = 'disposed'),
    release: (value) => (value.life = 'released'),
    onRevoked: (key) => heard.push(`revoked ${key}`),
    onRestored: (key) => heard.push(`restored ${key}`),
    onStale: (key, _value, ageMs) => heard.push(`stale ${key} ${ageMs}`),
    onBackgroundFailure: (key) => heard.push(`failed ${key}`),
  })
  let made = 0
  const asked: string[] = []
  /** A confirmation that answers with a new value. */
  const answer = (name: string) => () => {
    asked.push(name)
    return Promise.resolve<Value>({ name: `${name}${++made}`, life: 'cached' })
  }
  const get = (key: string, use: Use = 'read', confirm = answer(key)) => cache.get(key, use, confirm)
  const later = () => new Promise((resolve) => setImmediate(resolve))
  return { cache, clock, heard, asked, answer, get, later, become: (next: typeof LIMITS) => (limits = next) }
}

it('asks once however many wait for it', async () => {
  const { get, asked } = world()
  const values = await Promise.all(Array.from({ length: 3_000 }, () => get('a')))
  expect(new Set(values).size).toBe(1)
  expect(asked).toEqual(['a'])
})

it('serves until refreshAfterMs without asking', async () => {
  const { get, clock, asked } = world()
  const first = await get('a')
  clock.advance(59)
  expect(await get('a')).toBe(first)
  expect(asked).toHaveLength(1)
})

it('serves and asks in the background from refreshAfterMs on, once', async () => {
  const { get, clock, asked, later, cache } = world()
  const first = await get('a')
  clock.advance(60)
  expect(await Promise.all([get('a'), get('a', 'write')])).toEqual([first, first])
  await later()
  expect(asked).toHaveLength(2)
  expect(first.life).toBe('released') // whoever has it may go on
  expect(cache.fresh('a')?.name).toBe('a2')
})

it('refreshes nothing that is not in use', async () => {
  const { get, clock, asked, later } = world()
  await get('a')
  clock.advance(299)
  await later()
  expect(asked).toHaveLength(1)
})

it('waits for confirmation from validForMs on', async () => {
  const { get, clock } = world()
  const first = await get('a')
  clock.advance(300)
  expect(await get('a')).not.toBe(first)
})

it('serves reads but no writes while nobody answers, until maxStaleMs exactly', async () => {
  const { get, clock, heard } = world()
  const first = await get('a')
  clock.advance(300)
  await expect(get('a', 'write', down)).rejects.toMatchObject({ code: 'ERR_KMS_UNAVAILABLE' })
  expect(await get('a', 'read', down)).toBe(first)
  clock.advance(599)
  expect(await get('a', 'read', down)).toBe(first)
  expect(heard).toContain('stale a 899')
  clock.advance(1)
  await expect(get('a', 'read', down)).rejects.toMatchObject({ kind: 'unavailable' })
  expect(first.life).toBe('disposed')
})

it('does not ask again within a second of a failure, and does after it', async () => {
  const { get, clock } = world()
  let calls = 0
  const failing = () => {
    calls++
    return down()
  }
  await get('a')
  clock.advance(300)
  await get('a', 'read', failing)
  await get('a', 'read', failing)
  expect(calls).toBe(1)
})

it('counts the age of an answer from the question', async () => {
  const { cache, clock } = world()
  await cache.get('a', 'read', () => {
    clock.advance(290)
    return Promise.resolve<Value>({ name: 'slow', life: 'cached' })
  })
  clock.advance(10)
  await expect(cache.get('a', 'write', down)).rejects.toMatchObject({ code: 'ERR_KMS_UNAVAILABLE' })
})

it('takes the greater age of both clocks: a frozen process stretches nothing, a wall clock set back neither', async () => {
  const frozen = world()
  const value = await frozen.get('a')
  frozen.clock.advanceWall(900)
  await expect(frozen.get('a', 'read', down)).rejects.toMatchObject({ kind: 'unavailable' })
  expect(value.life).toBe('disposed')
  const setBack = world()
  await setBack.get('a')
  setBack.clock.advanceWall(-1_000_000)
  setBack.clock.advanceMonotonic(900)
  await expect(setBack.get('a', 'read', down)).rejects.toMatchObject({ kind: 'unavailable' })
})

it('drops an entry at once when it is denied, in the background too, and remembers the denial', async () => {
  const { get, clock, heard, asked, later } = world()
  const first = await get('a')
  clock.advance(60)
  await get('a', 'read', denied)
  await later()
  expect(first.life).toBe('disposed')
  expect(heard).toEqual(['revoked a', 'failed a'])
  await expect(get('a')).rejects.toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED' })
  expect(asked).toHaveLength(1) // the remembered denial answered
  clock.advance(5_000)
  await get('a')
  expect(heard).toContain('restored a')
})

it('reports a denial of nothing cached to its caller alone', async () => {
  const { get, heard } = world()
  await expect(get('a', 'read', denied)).rejects.toMatchObject({ kind: 'denied' })
  expect(heard).toEqual([])
})

it('lets one denial win over later silence', async () => {
  const { get, clock } = world()
  await get('a')
  clock.advance(300)
  await expect(get('a', 'read', denied)).rejects.toMatchObject({ kind: 'denied' })
  clock.advance(5_001)
  await expect(get('a', 'read', down)).rejects.toMatchObject({ kind: 'unavailable' })
})

it('keeps an entry that was neither confirmed nor denied: a bad blob is no denial', async () => {
  const { get, clock } = world()
  const first = await get('a')
  clock.advance(300)
  const bad = () => Promise.reject(new FieldsealError('ERR_KMS_WRONG_KEY'))
  expect(await get('a', 'read', bad)).toBe(first)
  await expect(get('a', 'write', bad)).rejects.toMatchObject({ code: 'ERR_KMS_WRONG_KEY' })
})

it('never caches what was asked before a drop', async () => {
  const { cache, get, asked } = world()
  const gate = Promise.withResolvers<Value>()
  const early = cache.get('a\0x', 'read', () => gate.promise)
  await Promise.resolve()
  cache.drop('a\0')
  const late = get('a\0x') // does not join the flight of before
  const value: Value = { name: 'early', life: 'cached' }
  gate.resolve(value)
  expect(await early).toBe(value)
  expect(value.life).toBe('released')
  expect((await late).name).not.toBe('early')
  expect(asked).toHaveLength(1)
  expect(cache.fresh('a\0x')).toBe(await late)
})

it('puts in nothing that was asked for before a drop of its key, and releases it', () => {
  const { cache } = world()
  const asked = cache.asking()
  const value: Value = { name: 'v', life: 'cached' }
  cache.drop('b\0')
  cache.put('a\0x', value, asked)
  expect(cache.fresh('a\0x')).toBe(value)
  const other: Value = { name: 'w', life: 'cached' }
  cache.drop('a\0')
  cache.put('a\0x', other, asked)
  expect(cache.fresh('a\0x')).toBeUndefined()
  expect([value.life, other.life]).toEqual(['disposed', 'released'])
})

it('trusts no answer when so much was dropped since that it lost count', () => {
  const { cache } = world()
  const asked = cache.asking()
  for (let i = 0; i < 1_001; i++) cache.drop('b\0')
  cache.put('a', { name: 'v', life: 'cached' }, asked)
  expect(cache.fresh('a')).toBeUndefined()
})

it('renews by a question that is asked after the call', async () => {
  const { cache, answer, asked } = world()
  const gate = Promise.withResolvers<Value>()
  const early = cache.get('a', 'read', () => gate.promise)
  await Promise.resolve()
  await Promise.resolve()
  const renewed = Promise.all(Array.from({ length: 5 }, () => cache.renew('a', answer('a'))))
  gate.resolve({ name: 'early', life: 'cached' })
  expect((await early).name).toBe('early')
  expect(new Set((await renewed).map(({ name }) => name))).toEqual(new Set(['a1']))
  expect(asked).toHaveLength(1)
})

it('renews after a flight that fails', async () => {
  const { cache, answer } = world()
  const early = cache.get('a', 'read', down)
  await Promise.resolve()
  await Promise.resolve()
  const renewed = cache.renew('a', answer('a'))
  await expect(early).rejects.toMatchObject({ kind: 'unavailable' })
  expect((await renewed).name).toBe('a1')
})

it('holds no more than maxEntries; the least recently used leaves first and is released, not zeroed', async () => {
  const { get, cache } = world(2)
  const [a, b] = [await get('a'), await get('b')]
  await get('a')
  await get('c')
  expect([a.life, b.life]).toEqual(['cached', 'released'])
  expect(cache.peek('b')).toBeUndefined()
  expect(cache.peek('a')).toBe(a)
})

it('applies stricter limits to what is cached already', async () => {
  const { get, cache, clock, become } = world()
  const first = await get('a')
  become({ refreshAfterMs: 5, validForMs: 10, maxStaleMs: 20 })
  clock.advance(10)
  expect(cache.fresh('a')).toBeUndefined()
  await expect(get('a', 'write', down)).rejects.toMatchObject({ kind: 'unavailable' })
  clock.advance(10)
  expect(cache.peek('a')).toBeUndefined()
  expect(first.life).toBe('disposed')
})

it('never calls an entry fresh beyond validForMs', async () => {
  const { get, cache, clock, become } = world()
  await get('a')
  become({ refreshAfterMs: 60, validForMs: 0, maxStaleMs: 900 })
  expect(cache.fresh('a')).toBeUndefined()
  clock.advance(1)
  await expect(get('a', 'write', down)).rejects.toMatchObject({ kind: 'unavailable' })
})

it('forgets a denial when told to', async () => {
  const { get, cache } = world()
  await expect(get('a', 'read', denied)).rejects.toMatchObject({ kind: 'denied' })
  cache.forgive('a')
  expect((await get('a')).name).toBe('a1')
})

it('refreshes early by at most a tenth', async () => {
  const clock = { ...manualClock(), jitter: () => 0.999 }
  const cache = createRevalidatingCache<Value>({ clock, maxEntries: 9, limitsOf: () => LIMITS })
  const value: Value = { name: 'v', life: 'cached' }
  const start = clock.monotonic()
  cache.put('a', value, cache.asking())
  expect(clock.monotonic()).toBe(start)
  clock.advance(54)
  expect(cache.fresh('a')).toBe(value)
  clock.advance(1)
  expect(cache.fresh('a')).toBeUndefined()
})

it('never caches what relies on something asked for before a drop', async () => {
  const { cache, answer, heard } = world()
  await expect(cache.get('a', 'read', denied)).rejects.toMatchObject({ kind: 'denied' })
  cache.forgive('b')
  const from = cache.asking()
  cache.drop('a')
  cache.forgive('a')
  const value = await cache.get('a', 'read', answer('a'), from)
  expect(value.life).toBe('released')
  expect(cache.peek('a')).toBeUndefined()
  expect(heard).toEqual([])
})
