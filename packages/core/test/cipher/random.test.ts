import { randomFillSync } from 'node:crypto'
import { readSync } from 'node:fs'
import { expect, it, vi } from 'vitest'
import { createRandomSource } from '../../src/cipher/random.ts'

// Two generators of the platform that a test can clone or break, as a snapshot of a machine does.
vi.mock('node:crypto', { spy: true })
vi.mock('node:fs', { spy: true })

const cloneGenerator = () =>
  vi.mocked(randomFillSync).mockImplementation(((buffer: Buffer) => buffer.fill(0xaa)) as typeof randomFillSync)
const restoreGenerator = () => vi.mocked(randomFillSync).mockReset()

it('gives out every byte of its pool once and asks for more when it is used up', () => {
  vi.mocked(randomFillSync).mockClear()
  const random = createRandomSource()
  expect(randomFillSync).not.toHaveBeenCalled() // filled lazily, never at creation
  const seen = new Set<string>()
  for (let i = 0; i < 2_000; i++) seen.add(Buffer.from(random.bytes(12)).toString('hex'))
  expect(seen.size).toBe(2_000)
  expect(randomFillSync).toHaveBeenCalledTimes(3) // 24,000 bytes from pools of 8,192
})

it('wipes what it gave out', () => {
  const random = createRandomSource()
  random.bytes(32)
  const pool = vi.mocked(randomFillSync).mock.calls.at(-1)?.[0] as unknown as Buffer
  expect(pool.subarray(0, 32).equals(Buffer.alloc(32))).toBe(true)
  expect(pool.subarray(32).equals(Buffer.alloc(pool.length - 32))).toBe(false)
})

it('writes only where it is told to', () => {
  const random = createRandomSource()
  const target = Buffer.alloc(40)
  random.fill(target, 10, 20)
  expect(target.subarray(0, 10).equals(Buffer.alloc(10))).toBe(true)
  expect(target.subarray(30).equals(Buffer.alloc(10))).toBe(true)
  expect(target.subarray(10, 30).equals(Buffer.alloc(20))).toBe(false)
})

it('refuses more bytes at once than its pool holds', () => {
  expect(() => createRandomSource().bytes(8_193)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_INVALID' }))
})

it('gives two clones of a restored machine different bytes once afterRestore was called in each', () => {
  cloneGenerator()
  try {
    const [one, two] = [createRandomSource(), createRandomSource()]
    expect(one.bytes(32)).toEqual(two.bytes(32)) // what a snapshot does to those who do not call it
    one.mixKernelBytes()
    two.mixKernelBytes()
    for (let i = 0; i < 3; i++) expect(one.bytes(8_000)).not.toEqual(two.bytes(8_000)) // every later pool
    expect(one.generation).toBe(1)
  } finally {
    restoreGenerator()
  }
})

it('drops what was in the pool before the restore', () => {
  const random = createRandomSource()
  random.bytes(1)
  const pool = vi.mocked(randomFillSync).mock.calls.at(-1)?.[0] as unknown as Buffer
  const rest = Buffer.from(pool.subarray(1, 33))
  random.mixKernelBytes()
  expect(Buffer.from(random.bytes(32))).not.toEqual(rest)
})

it('fails at the restore, not in the middle of a write, where the kernel cannot be read', () => {
  vi.mocked(readSync).mockImplementationOnce(() => {
    throw new Error('EIO')
  })
  const random = createRandomSource()
  expect(() => random.mixKernelBytes()).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }))
  expect(random.generation).toBe(0)
})

it('never gives out bytes of a cloned generator alone, even after the kernel failed once', () => {
  cloneGenerator()
  try {
    const random = createRandomSource()
    random.mixKernelBytes()
    random.bytes(8_000) // leaves 192 in the pool
    vi.mocked(readSync).mockImplementationOnce(() => {
      throw new Error('EMFILE')
    })
    expect(() => random.bytes(200)).toThrow()
    expect(Buffer.from(random.bytes(32))).not.toEqual(Buffer.alloc(32, 0xaa))
  } finally {
    restoreGenerator()
  }
})
