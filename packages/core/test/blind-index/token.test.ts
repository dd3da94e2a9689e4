import { createHmac, createSecretKey, randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { indexKey, indexToken } from '../../src/blind-index/token.ts'
import { lp } from '../../src/bytes/lp.ts'
import { expand } from '../../src/cipher/hkdf.ts'

const kek = createSecretKey(randomBytes(32))
const FACTS = { model: 'patients', index: 'email', epoch: 3, normalizer: 'email@1', bits: 24 }
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

it('is the epoch and the leftmost bits of the HMAC, single and compound alike', () => {
  const key = expand(kek, 'fieldseal/1/index', 'patients', 'email', Buffer.of(3), 'email@1', Buffer.of(0, 24))
  const parts = [
    { tag: 1, bytes: Buffer.from('ada') },
    { tag: 9, bytes: Buffer.from('1815-12-10') },
  ]
  for (const given of [parts.slice(0, 1), parts]) {
    const message = lp(...given.map(({ tag, bytes }) => lp(Uint8Array.of(tag), bytes)))
    const mac = createHmac('sha256', key).update(message).digest()
    expect(hex(indexToken(indexKey(kek, FACTS), 3, 24, given))).toBe(`03${mac.toString('hex', 0, 3)}`)
  }
})

it('is 1 + bits / 8 bytes long', () => {
  for (const bits of [16, 24, 128, 256])
    expect(indexToken(kek, 1, bits, [{ tag: 1, bytes: Buffer.of(1) }])).toHaveLength(1 + bits / 8)
})

it('has a key of its own for every model, index, epoch, normaliser and width', () => {
  const changes = [
    {},
    { model: 'x' },
    { index: 'x' },
    { epoch: 4 },
    { normalizer: 'email@2' },
    { bits: 32 },
    { model: 'patientse', index: 'mail' },
  ]
  const keys = changes.map((change) => hex(indexKey(kek, { ...FACTS, ...change }).export()))
  expect(new Set(keys).size).toBe(changes.length)
})

it('separates components and types: no two different tuples share a message', () => {
  const token = (...parts: [number, string][]) =>
    hex(
      indexToken(
        kek,
        1,
        256,
        parts.map(([tag, text]) => ({ tag, bytes: Buffer.from(text) })),
      ),
    )
  const tokens = [
    token([1, 'ab'], [1, 'c']),
    token([1, 'a'], [1, 'bc']),
    token([1, 'abc']),
    token([9, 'abc']),
    token([1, 'ab'], [1, 'c'], [1, '']),
  ]
  expect(new Set(tokens).size).toBe(tokens.length)
})
