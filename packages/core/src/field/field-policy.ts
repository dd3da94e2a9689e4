import { createHash } from 'node:crypto'
import { lp } from '../bytes/lp.ts'
import { LABELS } from '../cipher/hkdf.ts'
import { AEAD_AES_256_GCM, MAX_PAD_BYTES, PAD_HEADER_BYTES, VALUE_FLAG_PADDED } from '../envelope/layout.ts'
import type { ParsedEnvelope } from '../envelope/parse.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { ValueCodec } from './codec.ts'
import { pad, unpad } from './padding.ts'

/** What is to be sealed of one value. */
export interface EncodedValue {
  readonly plaintext: Uint8Array
  readonly valueFlags: number
  readonly typeTag: number
}

/** How the values of one field become bytes and back, with all limits checked. */
export interface FieldPolicy {
  readonly model: string
  readonly id: string
  readonly codec: ValueCodec
  readonly encryptNull: boolean
  /** null where a null stays null. @throws FieldsealError ERR_VALUE_INVALID naming the field */
  encode(value: unknown): EncodedValue | null
  /** Checks what can be checked before decryption. @throws FieldsealError ERR_DECRYPT_FAILED, ERR_ENVELOPE_MALFORMED */
  assertReadable(parsed: ParsedEnvelope): void
  /** Takes authenticated bytes. @throws FieldsealError ERR_DECRYPT_FAILED */
  decode(parsed: ParsedEnvelope, plaintext: Buffer): unknown
  /** The value's AAD, 32 bytes: see docs/spec/envelope-v1.md#value-aad. */
  aad(valueFlags: number, typeTag: number, mapKeys: readonly string[] | undefined): Uint8Array
  compareKey(value: unknown): string | null
}

export interface FieldPolicyInput {
  readonly model: string
  readonly id: string
  readonly codec: ValueCodec
  /** Codecs of types that are still readable after a change of type. */
  readonly formerCodecs: readonly ValueCodec[]
  readonly values: readonly string[] | undefined
  readonly padToBytes: number | undefined
  readonly maxBytes: number | undefined
  readonly encryptNull: boolean
}

const DEFAULT_MAX_BYTES = 1_048_576
/** bigint lengths tell magnitudes; an encrypted null must not stand out by its length. */
const DEFAULT_PAD_BYTES = 16

export function createFieldPolicy(input: FieldPolicyInput): FieldPolicy {
  const { model, id, codec, encryptNull } = input
  const codecs = new Map([...input.formerCodecs, codec].map((known) => [known.tag, known]))
  const values = input.values === undefined ? undefined : new Set(input.values)
  const padTo = padBytes(input)
  const maxBytes = input.maxBytes ?? DEFAULT_MAX_BYTES
  const aads: Uint8Array[] = []

  function named<R>(run: () => R): R {
    try {
      return run()
    } catch (error) {
      throw isFieldsealError(error) ? new FieldsealError(error.code, { ...error.details, model, field: id }) : error
    }
  }

  function assertDeclared(value: unknown): void {
    if (values !== undefined && !(typeof value === 'string' && values.has(value))) {
      throw new FieldsealError('ERR_VALUE_INVALID', { model, field: id, reason: 'not one of the declared values' })
    }
  }

  return {
    model,
    id,
    codec,
    encryptNull,
    encode(value) {
      if (value === null || value === undefined) {
        return encryptNull
          ? { plaintext: pad(null, padTo ?? DEFAULT_PAD_BYTES), valueFlags: VALUE_FLAG_PADDED, typeTag: codec.tag }
          : null
      }
      assertDeclared(value)
      const bytes = named(() => codec.encode(value))
      if (bytes.length > maxBytes) {
        throw new FieldsealError('ERR_VALUE_INVALID', {
          model,
          field: id,
          reason: `longer than maxBytes (${maxBytes})`,
        })
      }
      return padTo === undefined
        ? { plaintext: bytes, valueFlags: 0, typeTag: codec.tag }
        : { plaintext: pad(bytes, padTo), valueFlags: VALUE_FLAG_PADDED, typeTag: codec.tag }
    },
    assertReadable(parsed) {
      if (parsed.typeTag !== codec.tag && !codecs.has(parsed.typeTag))
        throw new FieldsealError('ERR_DECRYPT_FAILED', { model, field: id })
      const limit = parsed.padded ? maxBytes + PAD_HEADER_BYTES + MAX_PAD_BYTES : maxBytes
      if (parsed.valueBytes > limit) {
        throw new FieldsealError('ERR_ENVELOPE_MALFORMED', {
          model,
          field: id,
          reason: `longer than maxBytes (${maxBytes})`,
        })
      }
    },
    decode(parsed, plaintext) {
      const bytes = parsed.padded ? unpad(plaintext) : plaintext
      if (bytes === null) {
        if (!encryptNull) throw new FieldsealError('ERR_DECRYPT_FAILED')
        return null
      }
      if (bytes.length > maxBytes) throw new FieldsealError('ERR_DECRYPT_FAILED')
      return (parsed.typeTag === codec.tag ? codec : (codecs.get(parsed.typeTag) ?? codec)).decode(bytes)
    },
    aad(valueFlags, typeTag, mapKeys) {
      if (mapKeys !== undefined && mapKeys.length > 0) return valueAad(valueFlags, typeTag, model, id, mapKeys)
      const slot = valueFlags * 16 + typeTag
      return (aads[slot] ??= valueAad(valueFlags, typeTag, model, id, []))
    },
    compareKey(value) {
      if (value === null || value === undefined) return null
      assertDeclared(value)
      return named(() => codec.compareKey(value))
    },
  }
}

/** SHA-256(LP("fieldseal/1/value", aead, valueFlags, typeTag, modelId, fieldId[, mapKeys…])), 32 bytes. */
export function valueAad(
  valueFlags: number,
  typeTag: number,
  model: string,
  field: string,
  mapKeys: readonly string[],
): Uint8Array {
  const facts = lp(
    LABELS.value,
    Uint8Array.of(AEAD_AES_256_GCM),
    Uint8Array.of(valueFlags),
    Uint8Array.of(typeTag),
    model,
    field,
    ...mapKeys,
  )
  return createHash('sha256').update(facts).digest()
}

function padBytes({ codec, values, padToBytes, encryptNull }: FieldPolicyInput): number | undefined {
  if (padToBytes !== undefined) return padToBytes
  if (values !== undefined) return Math.max(1, ...values.map((value) => codec.encode(value).length))
  return codec.type === 'bigint' || encryptNull ? DEFAULT_PAD_BYTES : undefined
}
