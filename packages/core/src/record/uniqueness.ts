import type { PlainScalar, UniqueWhere } from './options.ts'
import type { Field, PlainEquality } from './ports.ts'

export interface Uniqueness {
  readonly unique: boolean
  readonly where: readonly PlainEquality[]
}

/**
 * What an index says under `unique`, checked.
 *
 * @param refuse throws `ERR_CONFIG_INVALID`
 */
export function uniqueness(
  given: boolean | { readonly where: UniqueWhere } | undefined,
  fields: readonly Field[],
  refuse: (reason: string) => never,
): Uniqueness {
  const option: unknown = given
  if (option === undefined || typeof option === 'boolean') return { unique: option ?? false, where: [] }
  const where: unknown = typeof option === 'object' && option !== null ? Reflect.get(option, 'where') : undefined
  if (typeof where !== 'object' || where === null || Array.isArray(where) || Object.keys(option ?? {}).length !== 1)
    return refuse('true, false or { where: { column: value } }')
  const equalities = Object.entries(where).map(([path, equals]: [string, unknown]): PlainEquality => {
    if (!isScalar(equals)) return refuse(`where.${path}: a text, a finite number, true, false or null`)
    const encrypted = fields.some((field) => [field.path, field.plaintextIn].some((at) => overlap(at, path)))
    if (encrypted) return refuse(`where.${path}: an index can be told of plain columns only, and this is encrypted`)
    return { path, equals }
  })
  if (equalities.length === 0) return refuse('where names no column; say true for all rows')
  return { unique: true, where: equalities }
}

/** Whether one of two paths is the other, or contains it. */
function overlap(a: string | undefined, b: string): boolean {
  return a !== undefined && (a === b || a.startsWith(`${b}.`) || b.startsWith(`${a}.`))
}

function isScalar(value: unknown): value is PlainScalar {
  if (typeof value === 'string') return value.isWellFormed() && !/\p{Cc}/u.test(value)
  return value === null || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))
}
