import { randomBytes } from 'node:crypto'
import { mongo } from 'mongoose'

const { Binary } = mongo

/** Bytes with the layout of an envelope, of nothing. */
export function envelope(): mongo.Binary {
  const head = Buffer.from([0xf8, 0x01, 0x01, ...randomBytes(12), 0x00, 0x00, 0x01])
  return new Binary(Buffer.concat([head, randomBytes(120)]), Binary.SUBTYPE_USER_DEFINED)
}

/** Bytes with the length of a token. */
export function token(): mongo.Binary {
  return new Binary(Buffer.concat([Buffer.of(1), randomBytes(16)]), Binary.SUBTYPE_USER_DEFINED)
}

/** What a searchable path holds. */
export function leaf(): { readonly c: mongo.Binary; readonly b: mongo.Binary } {
  return { c: envelope(), b: token() }
}
