import { FieldsealError, type ValueCodec } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'

const { BSON } = mongo

/** Nothing is promoted, so that every BSON type comes back as it was. */
export const AS_STORED = {
  promoteValues: false,
  promoteLongs: false,
  promoteBuffers: false,
  bsonRegExp: true,
  useBigInt64: false,
} as const

/** An opened value that is still BSON: it is read with the options of the query that asked for it. */
export class BsonValue {
  readonly #document: Uint8Array

  constructor(document: Uint8Array) {
    this.#document = document
  }

  static bytesOf(value: BsonValue): Uint8Array {
    return value.#document
  }

  /** @param options the promotion options of a query, as the driver takes them */
  read(options: mongo.BSON.DeserializeOptions): unknown {
    return BSON.deserialize(this.#document, options)['v']
  }
}

/**
 * Tag 8: the BSON document `{ v: value }`, for every Mongoose type without a tag of its own and for whole containers.
 * Canonical is what the driver's serializer makes: a document that does not serialize to the same bytes again is refused,
 * on writing as on reading. https://bsonspec.org/spec.html
 */
export const bsonCodec: ValueCodec = {
  type: 'bson',
  tag: 8,
  encode,
  decode(bytes) {
    if (!isCanonical(bytes)) throw new FieldsealError('ERR_DECRYPT_FAILED')
    return new BsonValue(Uint8Array.from(bytes)) // core wipes its buffer
  },
  compareKey: (value) => Buffer.from(encode(value)).toString('latin1'),
}

function encode(value: unknown): Uint8Array {
  if (value instanceof BsonValue) return BsonValue.bytesOf(value)
  const bytes = serialize(value)
  if (isCanonical(bytes)) return bytes
  const ordered = reread(bytes)
  if (ordered?.length === bytes.length && isCanonical(ordered)) return ordered
  throw new FieldsealError('ERR_VALUE_INVALID', { reason: 'BSON does not give it back as it is' })
}

/** Keys of a Map that look like array indexes may stand in any order; in the object that is read they come first. */
function reread(bytes: Uint8Array): Uint8Array | undefined {
  try {
    return BSON.serialize(BSON.deserialize(bytes, AS_STORED))
  } catch {
    return undefined
  }
}

function serialize(value: unknown): Uint8Array {
  try {
    return BSON.serialize({ v: value }, { ignoreUndefined: false })
  } catch {
    // Its message may quote the value.
    throw new FieldsealError('ERR_VALUE_INVALID', { reason: 'BSON cannot hold it' })
  }
}

function isCanonical(bytes: Uint8Array): boolean {
  try {
    const document = BSON.deserialize(bytes, AS_STORED)
    const keys = Object.keys(document)
    return keys.length === 1 && keys[0] === 'v' && Buffer.compare(BSON.serialize(document), bytes) === 0
  } catch {
    return false
  }
}

/** A copy of plain objects, arrays and BSON types: exactly what the driver would store, whatever made it. */
export function copyAsStored<T extends readonly unknown[] | object>(value: T): T {
  return BSON.deserialize(BSON.serialize({ v: value }, { ignoreUndefined: false }), AS_STORED)['v'] as T // BSON keeps arrays and objects
}
