import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { DIRECT_AT, KEK_OVERHEAD, MAGIC, MAX_BLOB_BYTES, MAX_LABEL_BYTES } from '../../src/envelope/layout.ts'
import { isEnvelope, keyIdOf, parseEnvelope } from '../../src/envelope/parse.ts'

const kekEnvelope = (valueBytes = 0) => {
  const bytes = randomBytes(KEK_OVERHEAD + valueBytes)
  bytes.set([MAGIC, 1, 0x01])
  bytes.set([0, 0, 1], 15)
  return bytes
}
const directEnvelope = (labelBytes = 3, blobBytes = 10, valueBytes = 5) => {
  const bytes = randomBytes(DIRECT_AT.label + labelBytes + blobBytes + 28 + valueBytes)
  bytes.set([MAGIC, 1, 0x11])
  bytes.set([1, 0, 1], 15)
  bytes.writeUInt8(labelBytes, DIRECT_AT.labelLength)
  bytes.writeUInt16BE(blobBytes, DIRECT_AT.blobLength)
  return bytes
}
const changed = (bytes: Buffer, at: number, ...values: number[]) => {
  const copy = Buffer.from(bytes)
  copy.set(values, at)
  return copy
}
const refuses = (bytes: Uint8Array, code: string, reason?: string) => {
  expect(() => parseEnvelope(bytes)).toThrow(
    expect.objectContaining({
      code,
      kind: 'corrupt',
      details: reason === undefined ? expect.anything() : expect.objectContaining({ reason }),
    }),
  )
  expect(isEnvelope(bytes)).toBe(false)
}

it('finds the parts of a kek envelope', () => {
  const bytes = changed(kekEnvelope(7), 15, 1, 1, 9)
  expect(parseEnvelope(bytes)).toMatchObject({
    layout: 'kek',
    rowBound: true,
    padded: true,
    typeTag: 9,
    valueAt: 84,
    valueBytes: 7,
  })
  expect(keyIdOf(bytes)).toBe(bytes.toString('hex', 3, 15))
  expect(isEnvelope(bytes)).toBe(true)
})

it('finds the parts of a direct envelope, an empty label and the longest parts too', () => {
  expect(parseEnvelope(directEnvelope())).toMatchObject({
    layout: 'direct',
    rowBound: true,
    valueAt: 66,
    valueBytes: 5,
  })
  expect(parseEnvelope(directEnvelope(0, 1, 0))).toMatchObject({ valueAt: 54, valueBytes: 0 })
  expect(parseEnvelope(directEnvelope(MAX_LABEL_BYTES, MAX_BLOB_BYTES, 1))).toMatchObject({ valueBytes: 1 })
})

it('refuses one fault after the other in the stated order', () => {
  const good = kekEnvelope(3)
  // Each line has the fault of the line before repaired; all behind it are still there.
  const worst = changed(changed(good, 0, 0x41, 0x09, 0x77), 15, 0xff, 0xff, 0)
  refuses(Buffer.alloc(0), 'ERR_PLAINTEXT_FOUND')
  refuses(worst.subarray(0, 40), 'ERR_PLAINTEXT_FOUND')
  const magic = changed(worst, 0, MAGIC)
  refuses(magic.subarray(0, 1), 'ERR_ENVELOPE_MALFORMED', 'truncated')
  refuses(magic.subarray(0, 2), 'ERR_ENVELOPE_VERSION', 'version 9')
  const version = changed(magic, 1, 1)
  refuses(version.subarray(0, 2), 'ERR_ENVELOPE_MALFORMED', 'truncated')
  refuses(version.subarray(0, 40), 'ERR_ENVELOPE_VERSION', 'suite 0x77')
  const suite = changed(version, 2, 0x01)
  refuses(suite.subarray(0, KEK_OVERHEAD - 1), 'ERR_ENVELOPE_MALFORMED', 'truncated')
  refuses(suite, 'ERR_ENVELOPE_MALFORMED', 'unknown wrap flag')
  const wrapFlags = changed(suite, 15, 0)
  refuses(wrapFlags, 'ERR_ENVELOPE_MALFORMED', 'unknown value flag')
  const valueFlags = changed(wrapFlags, 16, 0)
  refuses(valueFlags, 'ERR_ENVELOPE_MALFORMED', 'unknown type tag')
  parseEnvelope(changed(valueFlags, 17, 1))
})

it('knows exactly two suites, two flags and nine type tags', () => {
  const accepted = (at: number) =>
    Array.from({ length: 256 }, (_, value) => value).filter((value) => isEnvelope(changed(kekEnvelope(40), at, value)))
  expect(accepted(0)).toEqual([MAGIC])
  expect(accepted(1)).toEqual([1])
  expect(accepted(2)).toEqual([1]) // 0x11 asks for other lengths
  expect(accepted(15)).toEqual([0, 1])
  expect(accepted(16)).toEqual([0, 1])
  expect(accepted(17)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
})

it('refuses a direct envelope that is not row-bound or whose lengths do not fit', () => {
  const good = directEnvelope()
  refuses(changed(good, 15, 0), 'ERR_ENVELOPE_MALFORMED', 'a direct envelope is always row-bound')
  refuses(changed(directEnvelope(64, 10, 5), 50, 65), 'ERR_ENVELOPE_MALFORMED', 'version label too long')
  refuses(changed(good, 51, 0, 0), 'ERR_ENVELOPE_MALFORMED', 'KMS blob empty or too long')
  refuses(
    changed(directEnvelope(0, MAX_BLOB_BYTES, 9), 51, 0x18, 0x01),
    'ERR_ENVELOPE_MALFORMED',
    'KMS blob empty or too long',
  )
  refuses(changed(good, 51, 0x17, 0xff), 'ERR_ENVELOPE_MALFORMED', 'truncated') // a huge length prefix
  refuses(good.subarray(0, good.length - 6), 'ERR_ENVELOPE_MALFORMED', 'truncated')
})

it('is never the first byte of UTF-8 text', () => {
  expect(() => new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.of(MAGIC, 0x80, 0x80, 0x80))).toThrow()
})

it('knows no envelope but bytes', () => {
  for (const value of [null, undefined, 'fs.', {}, { length: 112 }, new ArrayBuffer(112)])
    expect(isEnvelope(value)).toBe(false)
})
