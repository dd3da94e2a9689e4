import fc from 'fast-check'
import { expect, it } from 'vitest'
import { lp } from '../../src/bytes/lp.ts'

/** What a decoder in another language would do. */
function split(bytes: Uint8Array): Buffer[] {
  const buffer = Buffer.from(bytes)
  const items: Buffer[] = []
  let at = 2
  for (let i = 0; i < buffer.readUInt16BE(0); i++) {
    const length = buffer.readUInt32BE(at)
    items.push(buffer.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  expect(at).toBe(buffer.length)
  return items
}

it('writes a count, then a length before each item, big-endian', () => {
  expect(Buffer.from(lp('é', Uint8Array.of(9))).toString('hex')).toBe('000200000002c3a90000000109')
  expect(Buffer.from(lp()).toString('hex')).toBe('0000')
})

it('is injective: whatever was joined comes apart again', () => {
  const item = fc.oneof(fc.string({ unit: 'grapheme' }), fc.uint8Array({ maxLength: 40 }))
  fc.assert(
    fc.property(fc.array(item, { maxLength: 6 }), (items) => {
      expect(split(lp(...items))).toEqual(items.map((one) => Buffer.from(one as string)))
    }),
  )
})

it('keeps strings as they are: two Unicode forms of one text differ', () => {
  expect(lp('é')).not.toEqual(lp('e\u0301'))
})

it('refuses a lone surrogate, which an encoder would merge with every other', () => {
  for (const text of ['\ud800', 'a\udfff', '\udc00\ud800'])
    expect(() => lp(text)).toThrow(expect.objectContaining({ code: 'ERR_VALUE_INVALID' }))
})
