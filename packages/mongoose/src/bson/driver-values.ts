import { FieldsealError, isUnreadable } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { BsonValue } from './bson-codec.ts'

const { Binary, Int32, Double, Long } = mongo

/** How a query wants BSON types back. https://mongodb.github.io/node-mongodb-native/7.0/interfaces/BSONSerializeOptions.html */
export interface PromoteOptions {
  readonly promoteValues?: boolean
  readonly promoteLongs?: boolean
  readonly promoteBuffers?: boolean
  readonly useBigInt64?: boolean
  readonly bsonRegExp?: boolean
}

const [INT64_MIN, INT64_MAX] = [-(2n ** 63n), 2n ** 63n - 1n]
/** The driver makes numbers of int64 up to here, itself included. */
const PROMOTED = 2n ** 53n

/** A value on its way to the driver, as core's codec of the field's type takes it. */
export function toCoreValue(type: string, value: unknown): unknown {
  switch (type) {
    case 'number':
      return value instanceof Int32 || value instanceof Double || value instanceof Long ? Number(value) : value
    case 'bigint':
      return int64(value)
    case 'bytes':
      return bytesOf(value)
    default:
      return value
  }
}

/** An opened value as the driver would have read it, had it been stored plain. */
export function toDriverValue(value: unknown, options: PromoteOptions): unknown {
  if (value instanceof BsonValue) return value.read(options)
  if (value instanceof Uint8Array && !isUnreadable(value))
    return isPromoted(options) ? Buffer.from(value) : new Binary(value)
  if (typeof value === 'bigint') return readLong(value, options)
  if (typeof value === 'number' && options.promoteValues === false)
    return isInt32(value) ? new Int32(value) : new Double(value)
  return value
}

/** Whether the driver's serializer stores a number as int32. */
export function isInt32(value: number): boolean {
  return (value | 0) === value && !Object.is(value, -0)
}

/** Whether bytes come back as Buffers, whatever their subtype. */
export function isPromoted({ promoteBuffers, promoteValues }: PromoteOptions): boolean {
  return promoteBuffers === true && promoteValues !== false
}

function int64(value: unknown): unknown {
  const given = value instanceof Int32 ? value.valueOf() : value
  const whole = given instanceof Long ? given.toBigInt() : Number.isSafeInteger(given) ? BigInt(given as number) : given
  if (typeof whole === 'bigint' && (whole < INT64_MIN || whole > INT64_MAX))
    throw new FieldsealError('ERR_VALUE_INVALID', { reason: 'outside 64 bits, which is all that BSON holds' })
  return whole
}

function readLong(value: bigint, { promoteValues, promoteLongs, useBigInt64 }: PromoteOptions): unknown {
  if (useBigInt64 === true || value < INT64_MIN || value > INT64_MAX) return value
  const promoted = promoteValues !== false && promoteLongs !== false
  return promoted && value >= -PROMOTED && value <= PROMOTED ? Number(value) : Long.fromBigInt(value)
}

/** Bytes of a Buffer path. Its subtype is not kept, so only the generic one is taken. */
function bytesOf(value: unknown): unknown {
  if (!(value instanceof Binary)) return value
  if (value.sub_type !== Binary.SUBTYPE_DEFAULT)
    throw new FieldsealError('ERR_VALUE_INVALID', {
      reason: 'binary of another subtype than 0',
      hint: 'declare it: { type: Buffer, subtype }',
    })
  return Uint8Array.from(value.value())
}
