import { createSecretKey } from 'node:crypto'
import type { AeadEngine, OpenJob } from '../cipher/aead.ts'
import { KEK_AT } from '../envelope/layout.ts'
import type { ParsedEnvelope } from '../envelope/parse.ts'
import { wrapAad, type WrapFrame } from './dek-wrap.ts'

/** One wrap of a DEK; all values of a row that carry its very bytes share it. */
export interface WrapToOpen {
  /** Any envelope that carries the wrap. */
  readonly envelope: Uint8Array
  readonly frame: WrapFrame
  /** The reader's row id when the envelope is row-bound, else undefined. */
  readonly rowId: Uint8Array | undefined
}

/** One parsed value, the place of its wrap in the list given beside it, and its AAD as its reader expects it. */
export interface ValueToOpen {
  readonly parsed: ParsedEnvelope
  readonly wrap: number
  readonly aad: Uint8Array
}

/** Opens wraps: a DEK each, which the caller zeroes; undefined where a wrap does not authenticate. */
export function openDeks(wraps: readonly WrapToOpen[], engine: AeadEngine): readonly (Buffer | undefined)[] {
  return engine.openMany(
    wraps.map(({ envelope, frame, rowId }) => ({
      key: frame.key,
      aad: wrapAad(frame, rowId),
      sealed: envelope,
      start: KEK_AT.nonce,
      end: KEK_AT.value,
    })),
  )
}

/** Opens values; undefined where wrap or value does not authenticate, and no word about which. */
export function openValues(
  values: readonly ValueToOpen[],
  wraps: readonly WrapToOpen[],
  engine: AeadEngine,
): (Buffer | undefined)[] {
  const deks = openDeks(wraps, engine)
  try {
    return openUnder(deks, values, engine)
  } finally {
    for (const dek of deks) dek?.fill(0)
  }
}

/** The same under DEKs that are at hand, in the order of the wraps; they stay the caller's to zero. */
export function openUnder(
  deks: readonly (Buffer | undefined)[],
  values: readonly ValueToOpen[],
  engine: AeadEngine,
): (Buffer | undefined)[] {
  const keys = deks.map((dek) => dek && createSecretKey(dek))
  const jobs: OpenJob[] = []
  const failed: number[] = []
  for (let i = 0; i < values.length; i++) {
    const { parsed, wrap, aad } = values[i] as ValueToOpen // i < length
    const key = keys[wrap]
    if (key === undefined) failed.push(i)
    else jobs.push({ key, aad, sealed: parsed.bytes, start: parsed.valueAt, end: parsed.bytes.length })
  }
  const opened = engine.openMany(jobs)
  for (const i of failed) opened.splice(i, 0, undefined) // in rising order: each lands at its own place
  return opened
}
