import { mongo } from 'mongoose'

const { BSON } = mongo

/** Whether two values are equal to MongoDB: the same BSON, numbers of any type by what they are worth. */
export function isSameBson(one: unknown, other: unknown): boolean {
  return Buffer.compare(comparable(one), comparable(other)) === 0
}

/** A text that two values share exactly when `isSameBson` holds them equal, for sets of them. */
export function bsonName(value: unknown): string {
  return Buffer.from(comparable(value)).toString('latin1')
}

function comparable(value: unknown): Uint8Array {
  const bytes = BSON.serialize({ v: value }, { ignoreUndefined: false })
  return BSON.serialize(BSON.deserialize(bytes, { bsonRegExp: true }))
}
