import { createHash } from 'node:crypto'
import type { RandomSource } from '../../src/cipher/random.ts'

/** "Random" bytes that are the same in every run: SHA-256 of a counter. For vectors alone. */
export function scriptedRandom(seed: string): RandomSource {
  let counter = 0
  let rest = Buffer.alloc(0)
  const source: RandomSource = {
    generation: 0,
    fill(target, offset, length) {
      while (rest.length < length)
        rest = Buffer.concat([rest, createHash('sha256').update(`${seed} ${counter++}`).digest()])
      target.set(rest.subarray(0, length), offset)
      rest = rest.subarray(length)
    },
    bytes(length) {
      const out = new Uint8Array(length)
      source.fill(out, 0, length)
      return out
    },
    mixKernelBytes: () => undefined,
  }
  return source
}
