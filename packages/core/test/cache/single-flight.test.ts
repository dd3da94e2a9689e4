import { expect, it } from 'vitest'
import { createSingleFlight } from '../../src/cache/single-flight.ts'

it('runs once per key for all who wait, and again afterwards', async () => {
  const flights = createSingleFlight<number>()
  let runs = 0
  const work = async () => ++runs
  expect(await Promise.all([flights.run('a', work), flights.run('a', work), flights.run('b', work)])).toEqual([1, 1, 2])
  expect(flights.has('a')).toBe(false)
  expect(await flights.run('a', work)).toBe(3)
})

it('gives a failure to all who wait and forgets it', async () => {
  const flights = createSingleFlight<number>()
  const fail = () => {
    throw new Error('down')
  }
  const both = await Promise.allSettled([flights.run('a', fail), flights.run('a', fail)])
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(await flights.run('a', async () => 7)).toBe(7)
})
