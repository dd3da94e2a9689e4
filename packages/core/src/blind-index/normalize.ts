import { FieldsealError } from '../errors/fieldseal-error.ts'

export type NormalizerName = 'none' | 'trim' | 'lower' | 'email' | 'digits'

/** A normaliser of your own. A changed algorithm needs a new `version`: both are in the derivation of the index key. */
export interface Normalizer {
  /** `[a-z][a-z0-9-]{0,31}`. */
  readonly id: string
  /** A positive integer. */
  readonly version: number
  readonly normalize: (value: string) => string
}

/**
 * The built-in normalisers, all at version 1: see docs/spec/envelope-v1.md#normalisers.
 *
 * Code points that Unicode has not assigned are refused: Unicode's stability policies then keep tokens the same under
 * every later version of Node.
 */
export const NORMALIZERS: Readonly<Record<NormalizerName, Normalizer>> = {
  none: { id: 'none', version: 1, normalize: (value) => value },
  trim: { id: 'trim', version: 1, normalize: (value) => trim(assigned(value)) },
  lower: { id: 'lower', version: 1, normalize: (value) => lower(trim(assigned(value))) },
  email: { id: 'email', version: 1, normalize: (value) => lower(trim(assigned(value))) },
  digits: { id: 'digits', version: 1, normalize: digits },
}

/** `id@version`, as index records and key derivations name a normaliser. */
export function normalizerName({ id, version }: Normalizer): string {
  return `${id}@${version}`
}

/** @throws FieldsealError ERR_CONFIG_INVALID */
export function resolveNormalizer(choice: NormalizerName | Normalizer | undefined): Normalizer {
  if (choice === undefined) return NORMALIZERS.none
  if (typeof choice === 'string') {
    if (Object.hasOwn(NORMALIZERS, choice)) return NORMALIZERS[choice]
    throw invalid(`unknown normaliser; known: ${Object.keys(NORMALIZERS).join(', ')}`)
  }
  const { id, version, normalize } = choice
  if (typeof id !== 'string' || !/^[a-z][a-z0-9-]{0,31}$/.test(id))
    throw invalid('the id of a normaliser is [a-z][a-z0-9-]{0,31}')
  if (Object.hasOwn(NORMALIZERS, id)) throw invalid(`the id ${id} belongs to a built-in normaliser`)
  if (!Number.isSafeInteger(version) || version < 1)
    throw invalid('the version of a normaliser is a positive whole number')
  if (typeof normalize !== 'function') throw invalid('a normaliser needs a function normalize')
  return Object.freeze({ id, version, normalize })
}

/** The white space of Unicode, listed: U+0009–000D, 0020, 0085, 00A0, 1680, 2000–200A, 2028, 2029, 202F, 205F, 3000. */
const SPACE = '[\\u0009-\\u000d\\u0020\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+'
const OUTER_SPACE = new RegExp(`^${SPACE}|${SPACE}$`, 'g')

function trim(value: string): string {
  return value.replace(OUTER_SPACE, '')
}

/** NFKC, then full default lower-casing without the context rule for sigma, then NFKC again. */
function lower(value: string): string {
  return Array.from(value.normalize('NFKC'), (char) => char.toLowerCase())
    .join('')
    .normalize('NFKC')
}

/** NFKC, then the ASCII digits, behind one leading `+` if there is one. Digits of other scripts would be lost: refused. */
function digits(value: string): string {
  const trimmed = trim(assigned(value).normalize('NFKC'))
  const kept = trimmed.replace(/[^0-9]/g, '')
  if (/(?![0-9])\p{Nd}/u.test(trimmed) || (kept === '' && trimmed !== '')) {
    throw new FieldsealError('ERR_VALUE_INVALID', { reason: 'the normaliser digits wants ASCII digits' })
  }
  return trimmed.startsWith('+') ? `+${kept}` : kept
}

function assigned(value: string): string {
  if (!value.isWellFormed() || /\p{Cn}/u.test(value)) {
    throw new FieldsealError('ERR_VALUE_INVALID', {
      reason: 'the value holds a code point that Unicode has not assigned',
    })
  }
  return value
}

function invalid(reason: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', { field: 'blindIndex.normalize', reason })
}
