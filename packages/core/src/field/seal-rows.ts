import { createSecretKey } from 'node:crypto'
import { NONCE_BYTES, type AeadEngine, type SealJob } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import { AT, KEK_AT, KEK_OVERHEAD, type Envelope } from '../envelope/layout.ts'
import { KEY_LENGTH } from '../keys/secret-key.ts'
import { type WrapFrame, wrapJob } from './dek-wrap.ts'
import type { EncodedValue } from './field-policy.ts'

/** One value to seal, with its AAD. */
export interface ValueToSeal extends EncodedValue {
  readonly aad: Uint8Array
}

/** The values of one row that are written together; they share one new DEK. */
export interface RowToSeal {
  readonly frame: WrapFrame
  /** Given exactly when the frame's header says row-bound. */
  readonly rowId: Uint8Array | undefined
  readonly values: readonly ValueToSeal[]
}

/** Seals rows, each under a DEK of its own that is wrapped in every envelope of the row. */
export function sealRows(
  rows: readonly RowToSeal[],
  engine: AeadEngine,
  random: RandomSource,
): readonly (readonly Envelope[])[] {
  const deks = Buffer.allocUnsafeSlow(rows.length * KEY_LENGTH)
  const jobs: SealJob[] = []
  const heads: Buffer[] = []
  try {
    const envelopes = rows.map(({ frame, rowId, values }, i) => {
      random.fill(deks, i * KEY_LENGTH, KEY_LENGTH)
      const dek = deks.subarray(i * KEY_LENGTH, (i + 1) * KEY_LENGTH)
      const head = Buffer.allocUnsafe(KEK_AT.value)
      heads.push(head)
      jobs.push(wrapJob(dek, frame, rowId, head, random))
      const key = createSecretKey(dek)
      return values.map(({ plaintext, aad }) => {
        const out = Buffer.allocUnsafe(KEK_OVERHEAD + plaintext.length)
        random.fill(out, KEK_AT.value, NONCE_BYTES)
        jobs.push({ key, aad, plaintext, out, at: KEK_AT.value })
        return out
      })
    })
    engine.sealMany(jobs)
    return envelopes.map((row, i) =>
      row.map((out, j) => {
        const value = rows[i]?.values[j]
        out.set(heads[i] ?? [])
        out[AT.valueFlags] = value?.valueFlags ?? 0
        out[AT.typeTag] = value?.typeTag ?? 0
        return out as Uint8Array as Envelope // header, wrap and value are all in place
      }),
    )
  } finally {
    deks.fill(0)
  }
}

/** The wrap of a DEK anew, under another frame: bytes 0–83 of an envelope, value flags and type tag left to its values. */
export function sealWrap(
  dek: Uint8Array,
  frame: WrapFrame,
  rowId: Uint8Array | undefined,
  engine: AeadEngine,
  random: RandomSource,
): Buffer {
  const head = Buffer.allocUnsafe(KEK_AT.value)
  engine.sealMany([wrapJob(dek, frame, rowId, head, random)])
  return head
}
