import { NONCE_BYTES, type AeadEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import { KEK_AT } from '../envelope/layout.ts'
import { wrapAad, type WrapFrame } from './dek-wrap.ts'
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
    const jobs = deks.flatMap((plaintext, i) => {
      const { to, rowId } = wraps[i] as WrapToRenew // one DEK for each
      if (plaintext === undefined) return []
      const out = all.subarray(i * KEK_AT.value, (i + 1) * KEK_AT.value)
      out.set(to.header)
      out.set(to.salt, KEK_AT.salt)
      random.fill(out, KEK_AT.nonce, NONCE_BYTES)
      heads[i] = out
      return { key: to.key, aad: wrapAad(to, rowId), plaintext, out, at: KEK_AT.nonce }
    })
    engine.sealMany(jobs)
    return wraps.map((_, i) => heads[i])
  } finally {
    for (const dek of deks) dek?.fill(0)
  }
}
