import type { PlainCell } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { AS_STORED } from '../bson/bson-codec.ts'
import { toDriverValue } from '../bson/driver-values.ts'

const { BSON, Long } = mongo

/** Whether BSON holds a value: it knows no lengths, character sets or precisions, only whole numbers of 64 bits. */
export function fits(value: unknown): boolean {
  const stored = toDriverValue(value, AS_STORED)
  if (typeof stored === 'bigint') return false
  try {
    return BSON.serialize({ v: stored }).byteLength > 0
  } catch {
    return false
  }
}

/** Whether a value is all that is stored: a number has no room for some of the 64-bit integers of BSON. */
export function isWhole({ value, stored }: PlainCell): boolean {
  return !(stored instanceof Long) || typeof value !== 'number' || stored.toBigInt() === BigInt(value)
}
