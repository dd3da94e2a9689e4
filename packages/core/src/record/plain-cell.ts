import type { Envelope } from '../envelope/layout.ts'
import { isEnvelope } from '../envelope/parse.ts'
import { envelopeFromText, TEXT_PREFIX } from '../envelope/text-form.ts'
import type { FieldPath } from './ports.ts'

// Symbol.for: an adapter may bring the other module system's copy of core.
const brand: unique symbol = Symbol.for('@fieldseal/core:plain-cell') as never

/** A value that is stored unencrypted, while its field is on the way from plaintext. */
export interface PlainCell {
  readonly [brand]: true
  /** Where it stands: the field's own place, or `plaintextIn`. */
  readonly path: FieldPath
  /** The value as the field's type holds it. */
  readonly value: unknown
  /** What the writer compares, where `value` is not exactly what is stored. */
  readonly stored?: unknown
  /** An envelope in the field's own place that the plaintext has outlived: whoever wrote it did not know of envelopes. */
  readonly outlived?: Envelope | undefined
}

/** Makes a plain cell. What prints a row shows no value. */
export function plainCell(
  path: FieldPath,
  value: unknown,
  { stored, outlived }: { readonly stored?: unknown; readonly outlived?: Envelope | undefined } = {},
): PlainCell {
  return new UnencryptedCell(path, value, stored, outlived)
}

class UnencryptedCell implements PlainCell {
  readonly path: FieldPath
  readonly #value: unknown
  readonly #stored: unknown
  readonly #outlived: Envelope | undefined

  constructor(path: FieldPath, value: unknown, stored: unknown, outlived: Envelope | undefined) {
    this.path = path
    this.#value = value
    this.#stored = stored
    this.#outlived = outlived
  }

  get [brand](): true {
    return true
  }

  get value(): unknown {
    return this.#value
  }

  get stored(): unknown {
    return this.#stored
  }

  get outlived(): Envelope | undefined {
    return this.#outlived
  }
}

export function isPlainCell(value: unknown): value is PlainCell {
  return typeof value === 'object' && value !== null && brand in value
}

/** True for text that counts as an envelope, whoever made it. */
export function isEnvelopeText(text: string): boolean {
  if (!text.startsWith(TEXT_PREFIX)) return false
  try {
    return isEnvelope(envelopeFromText(text))
  } catch {
    return false
  }
}
