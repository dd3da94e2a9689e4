import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { climb } from '../src/ladder.ts'

const works = (name: string) => ({ name, start: async () => `from ${name}` })
const fails = (name: string) => ({ name, start: () => Promise.reject(new Error(`${name} is broken\nat length`)) })
const isAbsent = (name: string) => ({ name, start: async () => undefined })

describe('the ladder', () => {
  const stderr = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  beforeEach(() => {
    stderr.mockClear()
    vi.stubEnv('SERVERS_FROM', undefined)
  })
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  it('takes the first rung that the machine has', async () => {
    const found = await climb('X', [isAbsent('environment'), works('a'), works('b')], 'do something')
    expect(found).toEqual({ rung: 'a', started: 'from a' })
    expect(stderr).not.toHaveBeenCalled()
  })

  it('says in one line that a rung failed, and takes the next', async () => {
    expect(await climb('X', [fails('a'), works('b')], 'do something')).toMatchObject({ rung: 'b' })
    expect(stderr.mock.calls).toEqual([['servers: X not from a: a is broken\n']])
  })

  it('takes none in place of a server that the caller named', async () => {
    await expect(climb('X', [fails('environment'), works('a')], 'do something')).rejects.toThrow(
      'environment is broken',
    )
  })

  it('lists what was tried, and what to do, when no rung works', async () => {
    const rungs = [isAbsent('environment'), fails('a'), fails('b')]
    await expect(climb('X', rungs, 'do something')).rejects.toThrow(
      'no X: do something\n  a: a is broken\n  b: b is broken',
    )
  })

  it('tries only the rungs that SERVERS_FROM names', async () => {
    vi.stubEnv('SERVERS_FROM', 'b, c')
    expect(await climb('X', [works('a'), isAbsent('b'), works('c')], 'do something')).toMatchObject({ rung: 'c' })
  })
})
