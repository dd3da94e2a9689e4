// As much of BSON (bsonspec.org) as a value of tag 8 needs; types without a JavaScript value come as { type, bytes }.
import { refuse, textOf } from './primitives.mjs'

const FIXED = {
  0x01: [8, (b) => b.readDoubleLE()],
  0x07: [12, (b) => ({ type: 'objectId', bytes: b })],
  0x08: [1, (b) => (b[0] > 1 ? refuse('decrypt', 'not a boolean') : b[0] === 1)],
  0x09: [8, (b) => new Date(Number(b.readBigInt64LE()))],
  0x0a: [0, () => null],
  0x10: [4, (b) => b.readInt32LE()],
  0x11: [8, (b) => ({ type: 'timestamp', bytes: b })],
  0x12: [8, (b) => b.readBigInt64LE()],
  0x13: [16, (b) => ({ type: 'decimal128', bytes: b })],
  0x7f: [0, () => ({ type: 'maxKey' })],
  0xff: [0, () => ({ type: 'minKey' })],
}

export function decodeBson(bytes) {
  const cursor = { bytes, at: 0 }
  const document = readDocument(cursor)
  if (cursor.at !== bytes.length) refuse('decrypt', 'bytes behind the document')
  return document
}

function take(cursor, length) {
  if (length < 0 || cursor.at + length > cursor.bytes.length) refuse('decrypt', 'BSON ends early')
  cursor.at += length
  return cursor.bytes.subarray(cursor.at - length, cursor.at)
}

function readDocument(cursor) {
  const start = cursor.at
  const end = start + take(cursor, 4).readInt32LE()
  const entries = []
  for (let type = take(cursor, 1)[0]; type !== 0; type = take(cursor, 1)[0]) {
    const name = readName(cursor)
    entries.push([name, readValue(cursor, type)])
  }
  if (cursor.at !== end) refuse('decrypt', 'length of a BSON document')
  if (new Set(entries.map(([name]) => name)).size !== entries.length) refuse('decrypt', 'duplicate keys')
  return Object.fromEntries(entries)
}

function readName(cursor) {
  const end = cursor.bytes.indexOf(0, cursor.at)
  const name = textOf(take(cursor, end - cursor.at))
  take(cursor, 1)
  return name
}

function readValue(cursor, type) {
  const fixed = FIXED[type]
  if (fixed !== undefined) return fixed[1](take(cursor, fixed[0]))
  if (type === 0x03) return readDocument(cursor)
  if (type === 0x04) return Object.values(readDocument(cursor))
  if (type === 0x02) {
    const text = take(cursor, take(cursor, 4).readInt32LE())
    if (text.at(-1) !== 0) refuse('decrypt', 'a BSON string without its end')
    return textOf(text.subarray(0, -1))
  }
  if (type === 0x05) {
    const length = take(cursor, 4).readInt32LE()
    const subtype = take(cursor, 1)[0]
    return { type: 'binary', subtype, bytes: take(cursor, length) }
  }
  if (type === 0x0b) return { type: 'regex', source: readName(cursor), flags: readName(cursor) }
  return refuse('decrypt', `BSON type ${type}`)
}
