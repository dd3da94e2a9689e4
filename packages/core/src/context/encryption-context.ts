import { FieldsealError } from '../errors/fieldseal-error.ts'
import { lp } from '../bytes/lp.ts'

/** Non-secret facts authenticated with a wrap. A KMS may log them in clear: opaque ids only. */
export type EncryptionContext = Readonly<Record<string, string>>

const MAX_PAIRS = 8
const MAX_KEY_BYTES = 64
const MAX_VALUE_BYTES = 256
const MAX_TOTAL_BYTES = 2_048

/**
 * Checks the limits that hold for every KMS at once: at most 8 pairs, keys `[a-z0-9_.-]{1,64}`, values of 1–256
 * UTF-8 bytes without control characters, in Unicode form NFC, 2,048 bytes in all.
 *
 * @throws FieldsealError ERR_KMS_CONTEXT_INVALID, before any I/O
 */
export function assertContext(context: EncryptionContext): void {
  const pairs = Object.entries(context)
  let total = 0
  for (const [key, value] of pairs) {
    const bytes = Buffer.byteLength(value, 'utf8')
    total += key.length + bytes
    if (!/^[a-z0-9_.-]+$/.test(key) || key.length > MAX_KEY_BYTES) throw invalid('a key is not in [a-z0-9_.-]{1,64}')
    if (bytes === 0 || bytes > MAX_VALUE_BYTES)
      throw invalid(`the value of ${key} is not 1–${MAX_VALUE_BYTES} bytes long`)
    if (!value.isWellFormed() || /\p{Cc}/u.test(value) || value.normalize('NFC') !== value) {
      throw invalid(`the value of ${key} has control characters or is not in Unicode form NFC`)
    }
  }
  if (pairs.length > MAX_PAIRS || total > MAX_TOTAL_BYTES) throw invalid('more than 8 pairs or 2,048 bytes')
}

/**
 * The context as additional data, for a KMS that takes bytes: LP(k1, v1, …) sorted by the UTF-8 bytes of the key.
 * Two different contexts never share an encoding.
 */
export function contextBytes(context: EncryptionContext): Uint8Array {
  const sorted = Object.entries(context).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  return lp(...sorted.flat())
}

function invalid(reason: string): FieldsealError {
  return new FieldsealError('ERR_KMS_CONTEXT_INVALID', { reason })
}
