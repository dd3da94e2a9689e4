import fc from 'fast-check'
import { expect, it } from 'vitest'
import { pad, unpad } from '../../src/field/padding.ts'

const failed = expect.objectContaining({ code: 'ERR_DECRYPT_FAILED' })
const asBuffer = (bytes: Uint8Array) => Buffer.from(bytes)

it('pads to a positive multiple behind the true length', () => {
  expect(asBuffer(pad(Buffer.from('abc'), 4)).toString('hex')).toBe('0000000361626300')
  expect(asBuffer(pad(Buffer.from('abcd'), 4)).toString('hex')).toBe('0000000461626364')
  expect(asBuffer(pad(Buffer.alloc(0), 4)).toString('hex')).toBe('0000000000000000')
  expect(asBuffer(pad(null, 4)).toString('hex')).toBe('ffffffff00000000')
})

it('gives everything back and hides all lengths within a multiple', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.integer({ min: 1, max: 64 }), (bytes, multiple) => {
      const padded = pad(bytes, multiple)
      expect((padded.length - 4) % multiple).toBe(0)
      expect(padded.length - 4).toBeGreaterThan(0)
      expect(padded.length - 4 - bytes.length).toBeLessThan(Math.max(multiple, 1) + (bytes.length === 0 ? 1 : 0))
      expect(asBuffer(unpad(asBuffer(padded)) ?? Buffer.from('null'))).toEqual(asBuffer(bytes))
    }),
  )
  expect(unpad(asBuffer(pad(null, 16)))).toBeNull()
})

it('reads values padded to another multiple: it may have changed since', () => {
  expect(unpad(asBuffer(pad(Buffer.from('abc'), 16)))?.toString()).toBe('abc')
  expect(unpad(Buffer.from('0000000161', 'hex'))?.toString()).toBe('a')
})

it('refuses a true length beyond the bytes, bytes that are not zero, and no bytes at all', () => {
  const wrong = [
    '',
    '00',
    '00000000',
    '0000000261',
    'fffffffe00',
    '000000016101',
    '0000000001',
    'ffffffff0001',
    'ffffffff',
  ]
  for (const text of wrong) expect(() => unpad(Buffer.from(text, 'hex')), text).toThrow(failed)
})
