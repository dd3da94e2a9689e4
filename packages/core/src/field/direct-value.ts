import type { KeyObject } from 'node:crypto'
import { NONCE_BYTES, type AeadEngine } from '../cipher/aead.ts'
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
  const label = Buffer.from(dek.label, 'utf8')
  if (label.length > MAX_LABEL_BYTES || dek.blob.length === 0 || dek.blob.length > MAX_BLOB_BYTES) {
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { reason: 'version label or KMS blob of an impossible length' })
  }
  const valueAt = DIRECT_AT.label + label.length + dek.blob.length
  const out = Buffer.alloc(valueAt + VALUE_OVERHEAD + value.plaintext.length)
  out[AT.magic] = MAGIC
  out[AT.version] = VERSION
  out[AT.suite] = SUITE_DIRECT
  out.set(dek.recordId, AT.keyId)
  out[AT.wrapFlags] = WRAP_FLAG_ROW_BOUND
  out[AT.valueFlags] = value.valueFlags
  out[AT.typeTag] = value.typeTag
  dekCommitment(dek.key, out.subarray(0, WRAPPED_HEADER_BYTES)).copy(out, DIRECT_AT.commitment)
  out[DIRECT_AT.labelLength] = label.length
  out.writeUInt16BE(dek.blob.length, DIRECT_AT.blobLength)
  out.set(label, DIRECT_AT.label)
  out.set(dek.blob, DIRECT_AT.label + label.length)
  random.fill(out, valueAt, NONCE_BYTES)
  engine.sealMany([{ key: dek.key, aad: value.aad, plaintext: value.plaintext, out, at: valueAt }])
  return out as Uint8Array as Envelope // every part is in place
}

/** Opens one value under a DEK that the KMS returned for its blob. The commitment is compared first. @throws FieldsealError ERR_DECRYPT_FAILED */
export function openDirect(
  { bytes, valueAt }: ParsedEnvelope,
  dek: KeyObject,
  aad: Uint8Array,
  engine: AeadEngine,
): Buffer {
  const commitment = bytes.subarray(DIRECT_AT.commitment, DIRECT_AT.commitment + COMMITMENT_BYTES)
  if (commitmentHolds(dek, bytes.subarray(0, WRAPPED_HEADER_BYTES), commitment)) {
    const [plaintext] = engine.openMany([{ key: dek, aad, sealed: bytes, start: valueAt, end: bytes.length }])
    if (plaintext !== undefined) return plaintext
  }
  throw new FieldsealError('ERR_DECRYPT_FAILED')
}
