import { mongo } from 'mongoose'
import { isInt32 } from './driver-values.ts'

const { Double, Int32, Long } = mongo
const [INT64_MIN, INT64_MAX] = [-(2n ** 63n), 2n ** 63n - 1n]

/** What an update operator computes with. */
export interface Operation {
  readonly whole: (one: bigint, other: bigint) => bigint
  readonly binary64: (one: number, other: number) => number
}
export const SUM: Operation = { whole: (one, other) => one + other, binary64: (one, other) => one + other }
export const PRODUCT: Operation = { whole: (one, other) => one * other, binary64: (one, other) => one * other }

/** A number of BSON, whole or not, for comparisons; undefined for everything else and for Decimal128. */
export function numeric(value: unknown): number | bigint | undefined {
  if (typeof value === 'number' || typeof value === 'bigint') return value
  if (value instanceof Int32 || value instanceof Double) return value.valueOf()
  return value instanceof Long ? value.toBigInt() : undefined
}

/**
 * The result as MongoDB types it: a double when either is one, else int64 when either is one or when int32 is too small.
 * Undefined where MongoDB fails too: int64 is too small.
 * https://www.mongodb.com/docs/manual/reference/operator/update/mul/#multiply-numeric-values
 */
export function compute(one: unknown, other: unknown, { whole, binary64 }: Operation): unknown {
  const [left, right] = [numeric(one), numeric(other)]
  if (left === undefined || right === undefined) return undefined
  if (isDouble(one) || isDouble(other)) return new Double(binary64(Number(left), Number(right)))
  const result = whole(BigInt(left), BigInt(right))
  if (!isLong(one) && !isLong(other) && isInt32(Number(result))) return new Int32(Number(result))
  return result < INT64_MIN || result > INT64_MAX ? undefined : Long.fromBigInt(result)
}

function isDouble(value: unknown): boolean {
  return value instanceof Double || (typeof value === 'number' && !isInt32(value))
}

function isLong(value: unknown): boolean {
  return value instanceof Long || typeof value === 'bigint'
}
