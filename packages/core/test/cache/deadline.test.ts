import { expect, it } from 'vitest'
import { within } from '../../src/cache/deadline.ts'

const late = () => new Error('late')

it('gives what the work gives, and its error', async () => {
  expect(await within(1_000, Promise.resolve(7), late)).toBe(7)
  await expect(within(1_000, Promise.reject(new Error('own')), late)).rejects.toThrow('own')
})

it('ends with its error when the work does not', async () => {
  const startedAt = performance.now()
  await expect(within(20, new Promise(() => undefined), late)).rejects.toThrow('late')
  expect(performance.now() - startedAt).toBeLessThan(1_000)
})

it('hears an answer that came while the process was busy', async () => {
  const answer = new Promise((resolve) => setImmediate(() => resolve('in time')))
  const waiting = within(5, answer, late)
  for (const end = performance.now() + 30; performance.now() < end; );
  expect(await waiting).toBe('in time')
})

it('leaves no timer behind', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const before = timers()
  await within(60_000, Promise.resolve(), late)
  expect(timers()).toBe(before)
})
