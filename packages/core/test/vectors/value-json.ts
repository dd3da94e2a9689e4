import { BUILT_IN_CODECS } from '../../src/field/built-in-codecs.ts'
import type { ValueCodec } from '../../src/field/codec.ts'
import { hex, unhex } from './vector-file.ts'

/** Tag 8 as opaque bytes of a document: its codec comes with the adapter that needs it. */
const OPAQUE_BSON: ValueCodec = {
  type: 'bson',
  tag: 8,
  encode: (value) => value as Uint8Array,
  decode: (bytes) => bytes,
  compareKey: (value) => hex(value as Uint8Array),
}
export const CODECS: readonly ValueCodec[] = [...BUILT_IN_CODECS, OPAQUE_BSON]

/** A value as JSON: what JSON has no form for stands in an object with one member, whose name begins with `$`. */
export function toJson(type: string, value: unknown): unknown {
  if (value === null) return null
  if (type === 'bigint') return { $bigint: String(value as bigint) }
  if (type === 'date') return { $date: (value as Date).getTime() }
  if (type === 'bytes' || type === 'bson') return { $bytes: hex(value as Uint8Array) }
  if (typeof value !== 'number' || type !== 'number' || (Number.isFinite(value) && !Object.is(value, -0))) return value
  return { $number: Object.is(value, -0) ? '-0' : String(value) }
}

export function fromJson(type: string, json: unknown): unknown {
  if (json === null || type === 'json' || typeof json !== 'object') return json
  const [[name, content] = []] = Object.entries(json)
  if (name === '$bigint') return BigInt(String(content))
  if (name === '$date') return new Date(Number(content))
  return name === '$bytes' ? unhex(String(content)) : Number(content)
}
