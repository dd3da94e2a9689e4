import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { expect, it } from 'vitest'
import { createKmsCalls } from '../../src/cache/kms-calls.ts'
import type { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import { kmsError, type KmsErrorCode, SecretKey } from '../../src/kms.ts'
import { createEventBus, type FieldsealEvents } from '../../src/observe/events.ts'
import { fakeCmk } from '../support/fake-cmk.ts'
import { manualClock } from '../support/manual-clock.ts'

const CONTEXT = { app: 'clinic', tenant: 'a', kek: 'ab' }

function world() {
  const clock = manualClock()
  const events = createEventBus()
  const calls = createKmsCalls({ clock, events })
  const heard: FieldsealEvents['kms.call'][] = []
  const breaker: string[] = []
  events.on('kms.call', (event) => heard.push(event))
  events.on('breaker.opened', ({ credentialScope }) => breaker.push(`opened ${credentialScope}`))
  events.on('breaker.closed', ({ credentialScope }) => breaker.push(`closed ${credentialScope}`))
  const call = <R>(run: (signal: AbortSignal) => Promise<R>, deadlineMs = 2_000, credentialScope = 'one') =>
    calls.call(fakeCmk('k', { credentialScope }), { operation: 'unwrap', context: CONTEXT, deadlineMs }, ({ signal }) =>
      run(signal),
    )
  return { clock, calls, heard, breaker, call }
}
const fails = (code: KmsErrorCode, retryAfterMs?: number) => () =>
  Promise.reject(kmsError(code, { provider: 'fake' }, retryAfterMs))
const never = () => new Promise<never>(() => undefined)

it('reports one event per call, with the request id', async () => {
  const { call, heard } = world()
  await call(() => Promise.resolve('ok'))
  await call(() =>
    Promise.reject(kmsError('ERR_KMS_ACCESS_DENIED', { vendorCode: 'AccessDenied', requestId: 'r1' })),
  ).catch(() => undefined)
  expect(heard).toMatchObject([
    { outcome: 'ok', attempts: 1, tenant: 'a', kekId: 'ab', provider: 'fake', credentialScope: 'one' },
    { outcome: 'ERR_KMS_ACCESS_DENIED', attempts: 1, vendorCode: 'AccessDenied', requestId: 'r1' },
  ])
})

it('ends at its deadline even when the provider ignores its signal', async () => {
  const { call } = world()
  const started = performance.now()
  await expect(call(never, 40)).rejects.toMatchObject({ code: 'ERR_KMS_TIMEOUT', kind: 'unavailable' })
  expect(performance.now() - started).toBeLessThan(1_000)
})

it('aborts its signal at the deadline', async () => {
  const { call } = world()
  let aborted = false
  await call((signal) => {
    signal.addEventListener('abort', () => (aborted = true))
    return never()
  }, 20).catch(() => undefined)
  expect(aborted).toBe(true)
})

it('zeroes a key that arrives after the deadline, bare or with its wrap', async () => {
  const { call } = world()
  const [bare, wrapped] = [new SecretKey(randomBytes(32)), new SecretKey(randomBytes(32))]
  const gate = Promise.withResolvers<undefined>()
  await call(() => gate.promise.then(() => bare), 20).catch(() => undefined)
  await call(() => gate.promise.then(() => ({ key: wrapped, wrap: {} })), 20).catch(() => undefined)
  expect([bare.disposed, wrapped.disposed]).toEqual([false, false])
  gate.resolve(undefined)
  await new Promise((resolve) => setImmediate(resolve))
  expect([bare.disposed, wrapped.disposed]).toEqual([true, true])
})

it('leaves the key of an answer in time alone', async () => {
  const key = new SecretKey(randomBytes(32))
  expect(await world().call(() => Promise.resolve(key))).toBe(key)
  await new Promise((resolve) => setImmediate(resolve))
  expect(key.disposed).toBe(false)
})

it('repeats each code as often as its row in the table says, and denials never', async () => {
  const attempts: [KmsErrorCode, number][] = [
    ['ERR_KMS_ACCESS_DENIED', 1],
    ['ERR_KMS_KEY_DISABLED', 1],
    ['ERR_KMS_KEY_PENDING_DELETION', 1],
    ['ERR_KMS_KEY_DESTROYED', 1],
    ['ERR_KMS_KEY_NOT_FOUND', 1],
    ['ERR_KMS_KEY_PENDING_IMPORT', 1],
    ['ERR_KMS_VERSION_RETIRED', 1],
    ['ERR_KMS_EXTERNAL_KEY_DENIED', 1],
    ['ERR_KMS_TENANT_CREDENTIALS_DENIED', 1],
    ['ERR_KMS_WRONG_KEY', 1],
    ['ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', 1],
    ['ERR_KMS_ABORTED', 1],
    ['ERR_KMS_CONFIG', 1],
    ['ERR_KMS_UNKNOWN', 1],
    ['ERR_KMS_INTEGRITY_FAILED', 3],
    ['ERR_KMS_THROTTLED', 3],
    ['ERR_KMS_UNAVAILABLE', 2],
    ['ERR_KMS_EXTERNAL_KEY_UNREACHABLE', 2],
    ['ERR_KMS_TIMEOUT', 2],
    ['ERR_KMS_NETWORK', 2],
    ['ERR_KMS_OPERATOR_CREDENTIALS', 2],
    ['ERR_KMS_CLOCK_SKEW', 2],
  ]
  for (const [code, expected] of attempts) {
    const { call, heard } = world()
    await expect(call(fails(code, 1))).rejects.toMatchObject({ code })
    expect(heard.at(-1)?.attempts, code).toBe(expected)
  }
})

it('answers with the success of a repeated call', async () => {
  const { call, heard } = world()
  let attempt = 0
  const answer = await call(() => (++attempt === 1 ? fails('ERR_KMS_NETWORK', 1)() : Promise.resolve('late')))
  expect(answer).toBe('late')
  expect(heard).toMatchObject([{ outcome: 'ok', attempts: 2 }])
})

it('does not wait longer for a repetition than the deadline leaves', async () => {
  const { call, heard } = world()
  const started = performance.now()
  await expect(call(fails('ERR_KMS_THROTTLED', 60_000), 1_000)).rejects.toMatchObject({
    code: 'ERR_KMS_THROTTLED',
    retryAfterMs: 60_000,
  })
  expect(performance.now() - started).toBeLessThan(500)
  expect(heard[0]?.attempts).toBe(1)
})

it('keeps nothing of an error that the provider did not classify', async () => {
  const { call } = world()
  const vendor = Object.assign(new Error('User: arn:aws:iam::1234:user/SECRET is not authorized'), {
    principal: 'SECRET',
  })
  const runs = [
    () => Promise.reject(vendor),
    () => {
      throw vendor
    },
    () => Promise.reject('SECRET' as unknown as Error),
  ]
  for (const run of runs) {
    const error: unknown = await call(run).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'ERR_KMS_UNKNOWN', kind: 'unavailable' })
    expect((error as FieldsealError).cause).toBeUndefined()
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('SECRET')
  }
})

it('refuses an impossible context before any call', async () => {
  const { calls, heard } = world()
  let called = false
  const context = { tenant: 'a\n' }
  const run = () => Promise.resolve((called = true))
  await expect(calls.call(fakeCmk('k'), { operation: 'wrap', context, deadlineMs: 9 }, run)).rejects.toMatchObject({
    code: 'ERR_KMS_CONTEXT_INVALID',
  })
  expect([called, heard.length]).toEqual([false, 0])
})

it('opens the breaker of one scope after five silent calls, lets one try after a while, closes when it is answered', async () => {
  const { call, clock, breaker, heard } = world()
  for (let i = 0; i < 5; i++) await call(fails('ERR_KMS_UNKNOWN')).catch(() => undefined)
  expect(breaker).toEqual(['opened one'])
  await expect(call(() => Promise.resolve('x'))).rejects.toMatchObject({
    code: 'ERR_KMS_UNAVAILABLE',
    retryAfterMs: 5_000,
  })
  expect(heard).toHaveLength(5) // nothing was sent
  expect(await call(() => Promise.resolve('other'), 2_000, 'two')).toBe('other')

  clock.advance(5_000)
  const gate = Promise.withResolvers<string>()
  const trial = call(() => gate.promise)
  await expect(call(() => Promise.resolve('x'))).rejects.toMatchObject({ code: 'ERR_KMS_UNAVAILABLE' })
  gate.resolve('back')
  expect(await trial).toBe('back')
  expect(breaker).toEqual(['opened one', 'closed one'])
  expect(await call(() => Promise.resolve('x'))).toBe('x')
})

it('opens the breaker again when the trial fails', async () => {
  const { call, clock, breaker } = world()
  for (let i = 0; i < 5; i++) await call(fails('ERR_KMS_UNKNOWN')).catch(() => undefined)
  clock.advance(5_000)
  await call(fails('ERR_KMS_UNKNOWN')).catch(() => undefined)
  await expect(call(() => Promise.resolve('x'))).rejects.toMatchObject({ code: 'ERR_KMS_UNAVAILABLE' })
  clock.advance(5_000)
  expect(await call(() => Promise.resolve('x'))).toBe('x')
  expect(breaker).toEqual(['opened one', 'opened one', 'closed one'])
})

it('says once that the breaker opened, however many calls were under way', async () => {
  const { call, breaker } = world()
  await Promise.all(Array.from({ length: 20 }, () => call(fails('ERR_KMS_UNKNOWN')).catch(() => undefined)))
  expect(breaker).toEqual(['opened one'])
})

it('does not open the breaker on denials: the KMS did answer', async () => {
  const { call, breaker } = world()
  for (let i = 0; i < 20; i++) await call(fails('ERR_KMS_ACCESS_DENIED')).catch(() => undefined)
  expect(breaker).toEqual([])
  expect(await call(() => Promise.resolve('x'))).toBe('x')
})

it('has at most 32 calls of one scope under way, and those of another scope do not wait for them', async () => {
  const { call } = world()
  const gate = Promise.withResolvers<undefined>()
  let running = 0
  let most = 0
  const work = async () => {
    most = Math.max(most, ++running)
    await gate.promise
    running--
  }
  const all = Promise.all(Array.from({ length: 100 }, () => call(work)))
  await new Promise((resolve) => setImmediate(resolve))
  expect(most).toBe(32)
  expect(await call(() => Promise.resolve('free'), 2_000, 'two')).toBe('free')
  gate.resolve(undefined)
  await all
  expect(most).toBe(32)
})

it('gives places back whether calls succeed, fail, time out or never got one', async () => {
  const { call, clock } = world()
  await Promise.all(
    Array.from({ length: 80 }, (_, i) =>
      call(i % 2 === 0 ? never : fails('ERR_KMS_WRONG_KEY'), 30).catch(() => undefined),
    ),
  )
  clock.advance(60_000) // the breaker may have opened
  await call(() => Promise.resolve('x')).catch(() => undefined)
  let running = 0
  const gate = Promise.withResolvers<undefined>()
  const all = Promise.all(
    Array.from({ length: 32 }, () =>
      call(async () => {
        running++
        await gate.promise
      }),
    ),
  )
  await new Promise((resolve) => setImmediate(resolve))
  expect(running).toBe(32)
  gate.resolve(undefined)
  await all
})
