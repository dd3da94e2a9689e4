import type { AeadEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import { KEK_AT } from '../envelope/layout.ts'
import { type WrapFrame, wrapJob } from './dek-wrap.ts'
import { openDeks, type WrapToOpen } from './open-rows.ts'

/** One wrap of a DEK, and the frame of the one that takes its place. Both are bound to the row, or neither. */
export interface WrapToRenew extends WrapToOpen {
  readonly to: WrapFrame
}

/**
 * The same DEKs wrapped anew: bytes 0–83 of an envelope each, value flags and type tag left to its values; undefined where
 * a wrap does not authenticate.
 */
export function renewWraps(
  wraps: readonly WrapToRenew[],
  engine: AeadEngine,
  random: RandomSource,
): readonly (Buffer | undefined)[] {
  const deks = openDeks(wraps, engine)
  const heads: (Buffer | undefined)[] = []
  const all = Buffer.allocUnsafe(wraps.length * KEK_AT.value)
  try {
    const jobs = deks.flatMap((dek, i) => {
      const { to, rowId } = wraps[i] as WrapToRenew // one DEK for each
      if (dek === undefined) return []
      const head = all.subarray(i * KEK_AT.value, (i + 1) * KEK_AT.value)
      heads[i] = head
      return wrapJob(dek, to, rowId, head, random)
    })
    engine.sealMany(jobs)
    return wraps.map((_, i) => heads[i])
  } finally {
    for (const dek of deks) dek?.fill(0)
  }
}
