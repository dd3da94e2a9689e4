import fc from 'fast-check'
import { expect, it } from 'vitest'
import { unicode } from '../support/arbitrary.ts'
import { fromUtf8, utf8 } from '../../src/bytes/utf8.ts'

it('gives every well-formed string back', () => {
  fc.assert(
    fc.property(unicode(), (text) => {
      expect(fromUtf8(utf8(text))).toBe(text)
    }),
  )
  for (const text of ['', '\u0000', '\ufeffwith a mark', '\u{10ffff}', 'e\u0301'])
    expect(fromUtf8(utf8(text))).toBe(text)
})

it('refuses lone surrogates without printing the text', () => {
  fc.assert(
    fc.property(unicode(), fc.integer({ min: 0xd800, max: 0xdbff }), (text, high) => {
      const secret = `SECRET${text}${String.fromCharCode(high)}`
      let message = ''
      try {
        utf8(secret)
      } catch (error) {
        message = String(error)
      }
      expect(message).toContain('ERR_VALUE_INVALID')
      expect(message).not.toContain('SECRET')
    }),
  )
})

it('refuses bytes that are not UTF-8: overlong, surrogates, cut, too large', () => {
  for (const hex of ['80', 'c0af', 'e080af', 'eda080', 'f4908080', 'ff', 'e282', 'f09f98'])
    expect(() => fromUtf8(Buffer.from(hex, 'hex'))).toThrow(expect.objectContaining({ code: 'ERR_DECRYPT_FAILED' }))
})

it('never gives a string for bytes that would encode differently', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 12 }), (bytes) => {
      let text: string
      try {
        text = fromUtf8(bytes)
      } catch {
        return
      }
      expect(Buffer.from(text)).toEqual(Buffer.from(bytes))
    }),
    { numRuns: 500 },
  )
})

it('reads a view into a larger buffer as that view alone', () => {
  expect(fromUtf8(new Uint8Array(Buffer.from('xxhelloxx')).subarray(2, 7))).toBe('hello')
})
