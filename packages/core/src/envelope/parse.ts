import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { KekId } from '../context/record-id.ts'
import {
  AT,
  DIRECT_AT,
  KEK_AT,
  KEK_OVERHEAD,
  KEY_ID_BYTES,
  MAGIC,
  MAX_BLOB_BYTES,
  MAX_LABEL_BYTES,
  MAX_TYPE_TAG,
  SUITE_DIRECT,
  SUITE_KEK,
  VALUE_FLAG_PADDED,
  VALUE_OVERHEAD,
  VERSION,
  WRAP_FLAG_ROW_BOUND,
  type Envelope,
} from './layout.ts'

/** Where the parts of an envelope lie. Views only: parsing allocates nothing in proportion to its input. */
export interface ParsedEnvelope {
  readonly bytes: Buffer
  readonly layout: 'kek' | 'direct'
  readonly rowBound: boolean
  readonly padded: boolean
  readonly typeTag: number
  /** Start of the value part: nonce, ciphertext, tag. */
  readonly valueAt: number
  /** Bytes of ciphertext. */
  readonly valueBytes: number
}

/**
 * Untrusted bytes → parts. Total and bounded; touches no key.
 *
 * Refuses in this order: no magic (ERR_PLAINTEXT_FOUND), too short for version and suite, unknown version, unknown
 * suite (ERR_ENVELOPE_VERSION), too short, unknown flags, a `direct` envelope that is not row-bound, unknown type tag,
 * lengths that do not fit (ERR_ENVELOPE_MALFORMED).
 */
export function parseEnvelope(input: Uint8Array): ParsedEnvelope {
  const bytes = Buffer.isBuffer(input) ? input : Buffer.from(input.buffer, input.byteOffset, input.byteLength)
  const magic = bytes[AT.magic]
  const version = bytes[AT.version]
  const suite = bytes[AT.suite]
  if (magic !== MAGIC) throw new FieldsealError('ERR_PLAINTEXT_FOUND')
  if (version === undefined) throw malformed('truncated')
  if (version !== VERSION)
    throw new FieldsealError('ERR_ENVELOPE_VERSION', { reason: `version ${version}`, hint: NEWER })
  if (suite === undefined) throw malformed('truncated')
  if (suite !== SUITE_KEK && suite !== SUITE_DIRECT) {
    throw new FieldsealError('ERR_ENVELOPE_VERSION', {
      reason: `suite 0x${suite.toString(16).padStart(2, '0')}`,
      hint: NEWER,
    })
  }
  const direct = suite === SUITE_DIRECT
  const shortest = direct ? DIRECT_AT.label + 1 + VALUE_OVERHEAD : KEK_OVERHEAD
  if (bytes.length < shortest) throw malformed('truncated')
  const wrapFlags = bytes[AT.wrapFlags] ?? 0 // at least `shortest` bytes are there
  const valueFlags = bytes[AT.valueFlags] ?? 0
  const typeTag = bytes[AT.typeTag] ?? 0
  if ((wrapFlags & ~WRAP_FLAG_ROW_BOUND) !== 0) throw malformed('unknown wrap flag')
  if (direct && wrapFlags !== WRAP_FLAG_ROW_BOUND) throw malformed('a direct envelope is always row-bound')
  if ((valueFlags & ~VALUE_FLAG_PADDED) !== 0) throw malformed('unknown value flag')
  if (typeTag === 0 || typeTag > MAX_TYPE_TAG) throw malformed('unknown type tag')
  const valueAt = direct ? directValueAt(bytes) : KEK_AT.value
  return {
    bytes,
    layout: direct ? 'direct' : 'kek',
    rowBound: wrapFlags === WRAP_FLAG_ROW_BOUND,
    padded: valueFlags === VALUE_FLAG_PADDED,
    typeTag,
    valueAt,
    valueBytes: bytes.length - valueAt - VALUE_OVERHEAD,
  }
}

function directValueAt(bytes: Buffer): number {
  const label = bytes[DIRECT_AT.labelLength] ?? 0
  const blob = bytes.readUInt16BE(DIRECT_AT.blobLength)
  if (label > MAX_LABEL_BYTES) throw malformed('version label too long')
  if (blob === 0 || blob > MAX_BLOB_BYTES) throw malformed('KMS blob empty or too long')
  const valueAt = DIRECT_AT.label + label + blob
  if (bytes.length < valueAt + VALUE_OVERHEAD) throw malformed('truncated')
  return valueAt
}

/** Id of the KEK record, or of the direct key record, as hex. */
export function keyIdOf(envelope: Buffer): KekId {
  return envelope.toString('hex', AT.keyId, AT.keyId + KEY_ID_BYTES) as KekId // hex of 12 bytes is what an id is
}

/** True for anything that parses as an envelope. Proves nothing about who made it. */
export function isEnvelope(value: unknown): value is Envelope {
  if (!(value instanceof Uint8Array)) return false
  try {
    parseEnvelope(value)
    return true
  } catch {
    return false
  }
}

const NEWER = 'upgrade Fieldseal before reading this data'

function malformed(reason: string): FieldsealError {
  return new FieldsealError('ERR_ENVELOPE_MALFORMED', { reason })
}
