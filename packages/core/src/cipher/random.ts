import { randomFillSync } from 'node:crypto'
import { openSync, readSync, closeSync } from 'node:fs'
import { FieldsealError } from '../errors/fieldseal-error.ts'

const POOL_BYTES = 8_192

/** The only place that asks for random bytes. Each Fieldseal has its own, filled lazily, each byte given out once and wiped. */
export interface RandomSource {
  /** Writes `length` random bytes at `offset` of `target`. */
  fill(target: Uint8Array, offset: number, length: number): void
  bytes(length: number): Uint8Array<ArrayBuffer>
  /** Counts restores: what was derived from random bytes of an older generation is to be made anew. */
  readonly generation: number
  /**
   * After a snapshot of a virtual machine or function was restored: drops the pool and mixes bytes read from the kernel
   * into all that follows, because OpenSSL's generator may have been cloned with the memory.
   * @throws FieldsealError ERR_CONFIG_INVALID where the kernel's generator cannot be read
   */
  mixKernelBytes(): void
}

export function createRandomSource(): RandomSource {
  const pool = Buffer.allocUnsafeSlow(POOL_BYTES)
  let left = 0
  let generation = 0

  function refill(): void {
    left = 0 // Invariant: bytes that were not mixed are never given out, even when mixing fails.
    randomFillSync(pool)
    if (generation > 0) xorWithKernelBytes(pool)
    left = POOL_BYTES
  }

  const source: RandomSource = {
    get generation() {
      return generation
    },
    fill(target, offset, length) {
      if (length > POOL_BYTES)
        throw new FieldsealError('ERR_ARGUMENT_INVALID', { reason: `at most ${POOL_BYTES} random bytes at once` })
      if (left < length) refill()
      const start = POOL_BYTES - left
      target.set(pool.subarray(start, start + length), offset)
      pool.fill(0, start, start + length)
      left -= length
    },
    bytes(length) {
      const out = new Uint8Array(length)
      source.fill(out, 0, length)
      return out
    },
    mixKernelBytes() {
      xorWithKernelBytes(Buffer.alloc(1)) // fails here rather than in the middle of a write
      generation++
      left = 0
      pool.fill(0)
    },
  }
  return source
}

function xorWithKernelBytes(target: Buffer): void {
  const bytes = Buffer.allocUnsafeSlow(target.length)
  try {
    const file = openSync('/dev/urandom', 'r')
    try {
      for (let read = 0; read < bytes.length; ) read += readSync(file, bytes, read, bytes.length - read, null)
    } finally {
      closeSync(file)
    }
  } catch {
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      operation: 'afterRestore',
      reason: '/dev/urandom cannot be read',
      hint: 'start a new process after a restore instead',
    })
  }
  for (let i = 0; i < target.length; i++) target[i] = (target[i] ?? 0) ^ (bytes[i] ?? 0)
  bytes.fill(0)
}
