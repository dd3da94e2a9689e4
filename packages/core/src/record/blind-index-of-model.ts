import { lp } from '../bytes/lp.ts'
import type { IndexDescription } from '../blind-index/index-keys.ts'
import { normalizerName, resolveNormalizer, type Normalizer, type NormalizerName } from '../blind-index/normalize.ts'
import type { TokenPart } from '../blind-index/token.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { FieldPolicy } from '../field/field-policy.ts'
import type { BlindIndex, Field } from './ports.ts'
import { isUnreadable } from './unreadable.ts'

/** A field as core made it; an adapter sees the `Field` of it. */
export interface BuiltField extends Field {
  readonly policy: FieldPolicy
}
/** A blind index as core made it. */
export interface BuiltIndex extends BlindIndex {
  readonly description: IndexDescription
  /** Normalised components, one value per field; null when any value is null. @throws FieldsealError ERR_VALUE_INVALID */
  parts(values: readonly unknown[]): readonly TokenPart[] | null
}

/** Every field and index that an adapter can hold was made by core, by `defineModel`. */
export const built = {
  field: (field: Field): BuiltField => field as BuiltField,
  index: (index: BlindIndex): BuiltIndex => index as BuiltIndex,
}

const EXACT_BITS = 128

/** An index over one or more fields, each under its own normaliser. */
export function createBlindIndex(
  model: string,
  id: string,
  components: readonly { readonly field: BuiltField; readonly normalize: NormalizerName | Normalizer | undefined }[],
  { bits, unique, acrossTenants }: { readonly bits: number; readonly unique: boolean; readonly acrossTenants: boolean },
): BuiltIndex {
  const resolved = components.map(({ field, normalize }) => ({ field, normalizer: resolveNormalizer(normalize) }))
  const description = {
    model,
    index: id,
    normalizer: resolved.map(({ normalizer }) => normalizerName(normalizer)).join('+'),
    bits,
    acrossTenants,
  }

  function parts(values: readonly unknown[]): readonly TokenPart[] | null {
    const out: TokenPart[] = []
    for (const [i, { field, normalizer }] of resolved.entries()) {
      const value = values[i]
      if (value === null || value === undefined) return null
      out.push(partOf(field, normalizer, value))
    }
    return out
  }

  return {
    model,
    id,
    fields: resolved.map(({ field }) => field),
    bits,
    unique,
    acrossTenants,
    tokenBytes: 1 + bits / 8,
    truncated: bits < EXACT_BITS,
    description,
    parts,
    matchKey(values) {
      const found = parts(values)
      return found === null ? null : Buffer.from(lp(...found.map(({ bytes }) => bytes))).toString('latin1')
    },
  }
}

function partOf({ policy }: BuiltField, normalizer: Normalizer, value: unknown): TokenPart {
  if (isUnreadable(value)) throw new FieldsealError('ERR_UNREADABLE_VALUE', { model: policy.model, field: policy.id })
  try {
    return { tag: policy.codec.tag, bytes: policy.codec.encode(normalized(normalizer, value)) }
  } catch (error) {
    if (isFieldsealError(error))
      throw new FieldsealError(error.code, { ...error.details, model: policy.model, field: policy.id })
    throw error
  }
}

/** -0 and 0 are equal to whoever searches. */
function normalized(normalizer: Normalizer, value: unknown): unknown {
  if (typeof value === 'string') return normalizer.normalize(value)
  return Object.is(value, -0) ? 0 : value
}
