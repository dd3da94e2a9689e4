import type { KeyObject } from 'node:crypto'
import { lp } from '../bytes/lp.ts'
import { NONCE_BYTES, type SealJob } from '../cipher/aead.ts'
import { LABELS } from '../cipher/hkdf.ts'
import type { RandomSource } from '../cipher/random.ts'
import {
  AT,
  KEK_AT,
  KEY_ID_BYTES,
  MAGIC,
  SUITE_KEK,
  VERSION,
  WRAP_FLAG_ROW_BOUND,
  WRAPPED_HEADER_BYTES,
} from '../envelope/layout.ts'

/** Where a row belongs, as its reader or writer expects it; never what an envelope or a record says. */
export interface RowPlace {
  readonly tenant: string
  readonly keyspace: string
  readonly model: string
}

/** Everything that the wraps under one salt have in common. */
export interface WrapFrame {
  readonly key: KeyObject
  /** Bytes 0–15 of the envelope. */
  readonly header: Uint8Array
  readonly salt: Uint8Array
  /** AAD of a wrap that is bound to no row. */
  readonly unboundAad: Uint8Array
}

/** Bytes 0–15 of an envelope of layout `kek`. */
export function kekHeader(kekId: Uint8Array, rowBound: boolean): Buffer {
  const header = Buffer.alloc(WRAPPED_HEADER_BYTES)
  header[AT.magic] = MAGIC
  header[AT.version] = VERSION
  header[AT.suite] = SUITE_KEK
  header.set(kekId.subarray(0, KEY_ID_BYTES), AT.keyId)
  header[AT.wrapFlags] = rowBound ? WRAP_FLAG_ROW_BOUND : 0
  return header
}

/** LP("fieldseal/1/wrap-aad", header[0..16), salt, tenant, keyspace, "wrap", modelId, rowId or ""). */
export function createWrapFrame(
  key: KeyObject,
  header: Uint8Array,
  salt: Uint8Array,
  { tenant, keyspace, model }: RowPlace,
): WrapFrame {
  return { key, header, salt, unboundAad: lp(LABELS.wrapAad, header, salt, tenant, keyspace, 'wrap', model, '') }
}

/** AAD of a wrap. The row id is the last item, so that all before it is shared by the rows of a statement. */
export function wrapAad({ unboundAad }: WrapFrame, rowId: Uint8Array | undefined): Uint8Array {
  if (rowId === undefined) return unboundAad
  const lengthAt = unboundAad.length - 4
  const aad = Buffer.allocUnsafe(unboundAad.length + rowId.length)
  aad.set(unboundAad)
  aad.writeUInt32BE(rowId.length, lengthAt)
  aad.set(rowId, unboundAad.length)
  return aad
}

/** What seals a DEK into `head`, the bytes 0–83 of its envelopes; value flags and type tag are left to each value. */
export function wrapJob(
  dek: Uint8Array,
  frame: WrapFrame,
  rowId: Uint8Array | undefined,
  head: Buffer,
  random: RandomSource,
): SealJob {
  head.set(frame.header)
  head.set(frame.salt, KEK_AT.salt)
  random.fill(head, KEK_AT.nonce, NONCE_BYTES)
  return { key: frame.key, aad: wrapAad(frame, rowId), plaintext: dek, out: head, at: KEK_AT.nonce }
}

/** True when two envelopes of layout `kek` carry the very same wrap: bytes 2–15 and 18–83. */
export function sharesWrap(a: Buffer, b: Buffer): boolean {
  // Mostly values of a row have the same flags and type: then it is one comparison.
  const alike = a[AT.valueFlags] === b[AT.valueFlags] && a[AT.typeTag] === b[AT.typeTag]
  return alike
    ? isSame(a, b, AT.suite, KEK_AT.value)
    : isSame(a, b, KEK_AT.salt, KEK_AT.value) && isSame(a, b, AT.suite, WRAPPED_HEADER_BYTES)
}

function isSame(a: Buffer, b: Buffer, from: number, to: number): boolean {
  return a.compare(b, from, to, from, to) === 0
}
