import mongoose from 'mongoose'

const { EJSON } = mongoose.mongo.BSON

/** A value with the type of each part spelt out, so that two of them are equal only if both types and contents are. */
export function comparable(value: unknown): unknown {
  if (value === null || value === undefined) return String(value)
  if (typeof value !== 'object') return `${typeof value} ${Object.is(value, -0) ? '-0' : String(value as string)}`
  if ('_bsontype' in value) return `${String(value._bsontype)} ${EJSON.stringify(value, { relaxed: false })}`
  if (value instanceof Date) return `Date ${value.getTime()}`
  if (value instanceof RegExp) return `RegExp ${String(value)}`
  if (ArrayBuffer.isView(value)) {
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    return `${value.constructor.name} ${bytes.toString('hex')}`
  }
  if (Array.isArray(value)) return value.map(comparable)
  if (value instanceof Map) return { map: [...value].map(([key, each]) => [key, comparable(each)]) }
  const { toObject } = value as { readonly toObject?: () => unknown }
  if (typeof toObject === 'function') return { document: comparable(toObject.call(value)) }
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, comparable(each)]))
}
