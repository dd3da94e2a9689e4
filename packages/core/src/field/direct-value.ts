import type { KeyObject } from 'node:crypto'
import { NONCE_BYTES, type AeadEngine, type OpenJob, type SealJob } from '../cipher/aead.ts'
import { commitmentHolds, dekCommitment } from '../cipher/commitment.ts'
import type { RandomSource } from '../cipher/random.ts'
import {
  AT,
  DIRECT_AT,
  MAGIC,
  MAX_BLOB_BYTES,
  MAX_LABEL_BYTES,
  SUITE_DIRECT,
  VALUE_OVERHEAD,
  VERSION,
  WRAP_FLAG_ROW_BOUND,
  WRAPPED_HEADER_BYTES,
  type Envelope,
} from '../envelope/layout.ts'
import type { ParsedEnvelope } from '../envelope/parse.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { ValueToSeal } from './seal-rows.ts'

const COMMITMENT_BYTES = 32

/** A DEK that a CMK wrapped itself. */
export interface DirectDek {
  readonly key: KeyObject
  /** 12 bytes: id of the direct key record. */
  readonly recordId: Uint8Array
  /** The CMK version as far as known: a hint that nothing authenticates. */
  readonly label: string
  readonly blob: Uint8Array
}

/** Seals one value in layout `direct`. @throws FieldsealError ERR_ARGUMENT_INVALID when label or blob is too long */
export function sealDirect(dek: DirectDek, value: ValueToSeal, engine: AeadEngine, random: RandomSource): Envelope {
  return sealDirectRow(dek, [value], engine, random)[0] as Envelope // one for each value
}

/** Seals the values of one row that are written together, all under its DEK. */
export function sealDirectRow(
  dek: DirectDek,
  values: readonly ValueToSeal[],
  engine: AeadEngine,
  random: RandomSource,
): readonly Envelope[] {
  const head = directHead(dek)
  const jobs = values.map(({ plaintext, aad, valueFlags, typeTag }): SealJob => {
    const out = Buffer.allocUnsafe(head.length + VALUE_OVERHEAD + plaintext.length)
    out.set(head)
    out[AT.valueFlags] = valueFlags
    out[AT.typeTag] = typeTag
    random.fill(out, head.length, NONCE_BYTES)
    return { key: dek.key, aad, plaintext, out, at: head.length }
  })
  engine.sealMany(jobs)
  return jobs.map(({ out }) => out as Envelope) // every part is in place
}

/**
 * All of a `direct` envelope before its value part, with value flags and type tag still zero: header, commitment,
 * label, blob. @throws FieldsealError ERR_ARGUMENT_INVALID when label or blob is too long
 */
export function directHead({ key, recordId, label: text, blob }: DirectDek): Buffer {
  const label = Buffer.from(text, 'utf8')
  if (label.length > MAX_LABEL_BYTES || blob.length === 0 || blob.length > MAX_BLOB_BYTES) {
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { reason: 'version label or KMS blob of an impossible length' })
  }
  const head = Buffer.alloc(DIRECT_AT.label + label.length + blob.length)
  head[AT.magic] = MAGIC
  head[AT.version] = VERSION
  head[AT.suite] = SUITE_DIRECT
  head.set(recordId, AT.keyId)
  head[AT.wrapFlags] = WRAP_FLAG_ROW_BOUND
  dekCommitment(key, head.subarray(0, WRAPPED_HEADER_BYTES)).copy(head, DIRECT_AT.commitment)
  head[DIRECT_AT.labelLength] = label.length
  head.writeUInt16BE(blob.length, DIRECT_AT.blobLength)
  head.set(label, DIRECT_AT.label)
  head.set(blob, DIRECT_AT.label + label.length)
  return head
}

/** The version label and the KMS blob of an envelope of layout `direct`. The label is a hint that nothing authenticates. */
export function directWrapOf(envelope: Buffer): { readonly label: string; readonly blob: Buffer } {
  const blobAt = DIRECT_AT.label + (envelope[DIRECT_AT.labelLength] ?? 0)
  const blob = envelope.subarray(blobAt, blobAt + envelope.readUInt16BE(DIRECT_AT.blobLength))
  return { label: envelope.toString('utf8', DIRECT_AT.label, blobAt), blob }
}

/** True when two envelopes of layout `direct` carry the very same wrap: bytes 2–15 and all from 18 to the value part. */
export function sharesDirectWrap(a: Buffer, b: Buffer): boolean {
  const end = DIRECT_AT.label + (a[DIRECT_AT.labelLength] ?? 0) + a.readUInt16BE(DIRECT_AT.blobLength)
  return (
    b.length >= end &&
    a.compare(b, DIRECT_AT.commitment, end, DIRECT_AT.commitment, end) === 0 &&
    a.compare(b, AT.suite, WRAPPED_HEADER_BYTES, AT.suite, WRAPPED_HEADER_BYTES) === 0
  )
}

/** One parsed value of layout `direct` and the DEK that the KMS returned for its blob. */
export interface DirectToOpen {
  readonly parsed: ParsedEnvelope
  readonly dek: KeyObject
  readonly aad: Uint8Array
}

/**
 * Opens values; undefined where commitment or value does not authenticate, and no word about which. Invariant: the
 * commitment of each envelope is compared before any plaintext of it exists, however its DEK was come by.
 */
export function openDirectValues(values: readonly DirectToOpen[], engine: AeadEngine): (Buffer | undefined)[] {
  const jobs: OpenJob[] = []
  const failed: number[] = []
  let last: { readonly dek: KeyObject; readonly header: Buffer; readonly commitment: Buffer } | undefined
  for (const [i, { parsed, dek, aad }] of values.entries()) {
    const { bytes, valueAt } = parsed
    const header = bytes.subarray(0, WRAPPED_HEADER_BYTES)
    // The values of a row share both: two HMACs more for each would cost more than opening it.
    if (last?.dek !== dek || !last.header.equals(header)) last = { dek, header, commitment: dekCommitment(dek, header) }
    const claimed = bytes.subarray(DIRECT_AT.commitment, DIRECT_AT.commitment + COMMITMENT_BYTES)
    if (commitmentHolds(last.commitment, claimed))
      jobs.push({ key: dek, aad, sealed: bytes, start: valueAt, end: bytes.length })
    else failed.push(i)
  }
  const opened = jobs.length === 0 ? [] : engine.openMany(jobs)
  for (const i of failed) opened.splice(i, 0, undefined) // in rising order: each lands at its own place
  return opened
}

/** Opens one value. @throws FieldsealError ERR_DECRYPT_FAILED */
export function openDirect(parsed: ParsedEnvelope, dek: KeyObject, aad: Uint8Array, engine: AeadEngine): Buffer {
  const [plaintext] = openDirectValues([{ parsed, dek, aad }], engine)
  if (plaintext === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED')
  return plaintext
}
