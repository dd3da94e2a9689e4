import { utf8 } from '../bytes/utf8.ts'
import { isFieldsealError } from '../errors/fieldseal-error.ts'

const MAX_ID_BYTES = 256

/** Throws `ERR_CONFIG_INVALID`, naming what is wrong. */
export type Refuse = (field: string | undefined, option: string, reason: string) => never

export function assertKnown(
  options: object,
  known: readonly string[],
  refuse: (option: string, reason: string) => void,
): void {
  for (const option of Object.keys(options)) {
    if (!known.includes(option)) refuse(option, `unknown option; known: ${known.join(', ')}`)
  }
}

/** An object that is no list. */
export function isRecord(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What `make` gives; what it throws is refused for its reason. */
export function orRefused<R>(make: () => R, refuse: (reason: string) => never): R {
  try {
    return make()
  } catch (error) {
    return refuse(isFieldsealError(error) ? (error.details.reason ?? '') : 'not usable')
  }
}

export function assertId(id: unknown, refuse: (reason: string) => void): void {
  if (typeof id !== 'string' || id === '' || !id.isWellFormed() || /\p{Cc}/u.test(id) || utf8(id).length > MAX_ID_BYTES)
    refuse(`1–${MAX_ID_BYTES} bytes of text without control characters`)
}

export function assertBoolean(value: unknown, refuse: () => never): void {
  if (value !== undefined && typeof value !== 'boolean') refuse()
}

export function assertCount(value: number | undefined, most: number, refuse: (reason: string) => void): void {
  if (value !== undefined && (!Number.isSafeInteger(value) || value < 1 || value > most))
    refuse(`a whole number from 1 to ${most}`)
}

export function assertUnique(names: readonly string[], refuse: (name: string) => void): void {
  const seen = new Set<string>()
  for (const name of names) {
    if (seen.has(name)) refuse(name)
    seen.add(name)
  }
}
