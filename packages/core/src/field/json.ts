import { FieldsealError } from '../errors/fieldseal-error.ts'

const MAX_DEPTH = 512

/**
 * JSON Canonicalization Scheme (RFC 8785): members sorted by UTF-16 code units, numbers and strings as ECMAScript
 * prints them, no white space. JS objects list integer-like keys first, so JSON.stringify cannot do it.
 *
 * As with JSON.stringify, `toJSON` is called and undefined members are left out. Refused, since they would come back as
 * something else: NaN and infinities, undefined in arrays, functions, symbols, bigint, Map, Set and other exotic
 * objects, cycles (deeper than 512), lone surrogates.
 *
 * @throws FieldsealError ERR_VALUE_INVALID
 */
export function canonicalJson(value: unknown): string {
  return write(value, 0)
}

/** The value of a canonical text. @throws FieldsealError ERR_DECRYPT_FAILED for any text that `canonicalJson` would not write */
export function parseCanonicalJson(text: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text) // creates an own `__proto__` member: data, not a prototype
    if (canonicalJson(value) === text) return value
  } catch {
    // V8 quotes its input in the message: never a cause.
  }
  throw new FieldsealError('ERR_DECRYPT_FAILED')
}

function write(input: unknown, depth: number): string {
  if (depth > MAX_DEPTH) throw invalid(`json nested deeper than ${MAX_DEPTH}, or a cycle`)
  const value = hasToJson(input) ? input.toJSON() : input
  switch (typeof value) {
    case 'string':
      if (!value.isWellFormed()) throw invalid('a json string holds a lone surrogate')
      return JSON.stringify(value)
    case 'number':
      if (!Number.isFinite(value)) throw invalid('json holds NaN or an infinity')
      return JSON.stringify(value)
    case 'boolean':
      return String(value)
    case 'object':
      return value === null ? 'null' : Array.isArray(value) ? writeArray(value, depth) : writeObject(value, depth)
    default:
      throw invalid(`json holds a ${typeof value}`)
  }
}

function writeArray(items: readonly unknown[], depth: number): string {
  return `[${Array.from(items, (item) => write(item, depth + 1)).join(',')}]`
}

function writeObject(object: object, depth: number): string {
  if (Object.prototype.toString.call(object) !== '[object Object]')
    throw invalid('json holds an object that is not plain')
  const members: string[] = []
  for (const key of Object.keys(object).sort()) {
    const member = Reflect.get(object, key) as unknown
    if (member !== undefined) members.push(`${write(key, depth)}:${write(member, depth + 1)}`)
  }
  return `{${members.join(',')}}`
}

function hasToJson(value: unknown): value is { toJSON(): unknown } {
  return typeof value === 'object' && value !== null && typeof Reflect.get(value, 'toJSON') === 'function'
}

function invalid(reason: string): FieldsealError {
  return new FieldsealError('ERR_VALUE_INVALID', { reason })
}
