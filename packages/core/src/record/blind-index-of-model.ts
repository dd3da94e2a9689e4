import { lp } from '../bytes/lp.ts'
import type { IndexDescription, IndexShape } from '../blind-index/index-shape.ts'
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
  /** Of the shape of now: normalised components, one value per field; null when any value is null. @throws FieldsealError ERR_VALUE_INVALID */
  parts(values: readonly unknown[]): readonly TokenPart[] | null
}

/** Every field and index that an adapter can hold was made by core, by `defineModel`. */
export const built = {
  field: (field: Field): BuiltField => field as BuiltField,
  index: (index: BlindIndex): BuiltIndex => index as BuiltIndex,
}

const EXACT_BITS = 128

/** Why values of a field can have no tokens; undefined where they can. */
export function whyNoTokens({ encryptNull, type }: Field): string | undefined {
  if (encryptNull) return 'not with encryptNull: a missing token would tell the null'
  return type === 'json' ? 'json has no equality to search for; index a field of its own' : undefined
}

/** How wide tokens are, and what makes values equal, for each component. */
export interface ShapeOptions {
  readonly bits: number
  readonly normalize: readonly (NormalizerName | Normalizer | undefined)[]
}

/** An index over one or more fields, each under its own normaliser; with `next` on the way to another shape. */
export function createBlindIndex(
  model: string,
  id: string,
  fields: readonly BuiltField[],
  {
    now,
    next,
    unique,
    uniqueWhere = [],
    acrossTenants,
  }: {
    readonly now: ShapeOptions
    readonly next?: ShapeOptions | undefined
    readonly unique: boolean
    readonly uniqueWhere?: BlindIndex['uniqueWhere']
    readonly acrossTenants: boolean
  },
): BuiltIndex {
  const shape = createShape(fields, now)
  const shapes: IndexDescription['shapes'] = next === undefined ? [shape] : [shape, createShape(fields, next)]
  // Whatever an application asks while the index moves, it is answered in every stage or in none.
  const narrowest = Math.min(...shapes.map((one) => one?.bits ?? EXACT_BITS))
  return {
    model,
    id,
    fields,
    bits: shape.bits,
    unique,
    uniqueWhere,
    acrossTenants,
    tokenBytes: 1 + Math.max(...shapes.map((one) => one?.bits ?? 0)) / 8,
    truncated: narrowest < EXACT_BITS,
    description: { model, index: id, acrossTenants, shapes },
    parts: (values) => shape.parts(values),
    matchKey: (values) => matchKeyUnder(shapes, values),
  }
}

function createShape(fields: readonly BuiltField[], { bits, normalize }: ShapeOptions): IndexShape {
  const resolved = fields.map((field, i) => ({ field, normalizer: resolveNormalizer(normalize[i]) }))
  return {
    normalizer: resolved.map(({ normalizer }) => normalizerName(normalizer)).join('+'),
    bits,
    parts(values) {
      const out: TokenPart[] = []
      for (const [i, { field, normalizer }] of resolved.entries()) {
        const value = values[i]
        if (value === null || value === undefined) return null
        out.push(partOf(field, normalizer, value))
      }
      return out
    },
  }
}

/** A text equal exactly when tokens of one shape are; `null` for null. */
export function matchKeyOf(shape: IndexShape, values: readonly unknown[]): string | null {
  const parts = shape.parts(values)
  return parts === null ? null : Buffer.from(lp(...parts.map(({ bytes }) => bytes))).toString('latin1')
}

/**
 * Equal where all shapes hold values equal. A value that one shape cannot hold is an error only where none can: which of
 * them is looked up is not known yet.
 */
function matchKeyUnder(shapes: IndexDescription['shapes'], values: readonly unknown[]): string | null {
  const [now, next] = shapes
  if (next === undefined) return matchKeyOf(now, values)
  const keys: (string | undefined)[] = []
  let failure: unknown
  for (const shape of [now, next]) {
    try {
      const key = matchKeyOf(shape, values)
      if (key === null) return null
      keys.push(key)
    } catch (error) {
      failure = error
      keys.push(undefined)
    }
  }
  if (keys.every((key) => key === undefined)) throw failure
  return JSON.stringify(keys.map((key) => key ?? null))
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
