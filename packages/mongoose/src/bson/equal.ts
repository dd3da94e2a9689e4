import { mongo } from 'mongoose'

const { BSON } = mongo

/** Whether two values are the same BSON. */
export function isSameBson(one: unknown, other: unknown): boolean {
  return Buffer.compare(BSON.serialize({ v: one }), BSON.serialize({ v: other })) === 0
}
