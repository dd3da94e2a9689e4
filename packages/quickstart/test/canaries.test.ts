import { expect, it } from 'vitest'
import { countHits } from '../src/canaries.ts'

const CANARY = 'Ada.Lovelace@example.org'

it.each([
  ['text', (bytes: Buffer) => bytes],
  ['hex', (bytes: Buffer) => Buffer.from(bytes.toString('hex'))],
  ['upper-case hex', (bytes: Buffer) => Buffer.from(bytes.toString('hex').toUpperCase())],
  ['base64', (bytes: Buffer) => Buffer.from(bytes.toString('base64'))],
  ['base64url', (bytes: Buffer) => Buffer.from(bytes.toString('base64url'))],
])('finds a plaintext as %s at any alignment', (_name, encode) => {
  for (const before of ['', 'x', 'xy', 'xyz']) {
    expect(countHits(encode(Buffer.from(`${before}${CANARY}end`)), [CANARY, 'not there'])).toBe(1)
  }
})

it('finds a plaintext as UTF-16', () => {
  expect(countHits(Buffer.from(`x${CANARY}`, 'utf16le'), [CANARY])).toBe(1)
})

it('finds nothing in other text', () => {
  expect(countHits(Buffer.from('charles@example.org'), [CANARY])).toBe(0)
})
