import { createHash } from 'node:crypto'
import type { RandomSource } from '../../src/cipher/random.ts'

/** "Random" bytes that are the same in every run: SHA-256(seed, a space, a counter). For vectors alone. */
export interface ScriptedRandom extends RandomSource {
  /** What was asked for, in order. */
  readonly drawn: readonly Buffer[]
}

export function scriptedRandom(seed: string): ScriptedRandom {
  const drawn: Buffer[] = []
  let counter = 0
  let rest = Buffer.alloc(0)
  const source: ScriptedRandom = {
    drawn,
    generation: 0,
    fill(target, offset, length) {
      while (rest.length < length)
        rest = Buffer.concat([rest, createHash('sha256').update(`${seed} ${counter++}`).digest()])
      drawn.push(Buffer.from(rest.subarray(0, length)))
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

/** Bytes that have a name: the same in every run. */
export function namedBytes(name: string, length: number): Buffer {
  return Buffer.from(scriptedRandom(name).bytes(length))
}
