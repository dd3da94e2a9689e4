import { createSecretKey, randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { NONCE_BYTES, nodeEngine, TAG_BYTES } from '../../src/cipher/aead.ts'

const key = createSecretKey(Buffer.alloc(32, 7))
const aad = Buffer.from('place')

function sealed(plaintext: Uint8Array): Buffer {
  const out = Buffer.alloc(NONCE_BYTES + plaintext.length + TAG_BYTES)
  randomBytes(NONCE_BYTES).copy(out)
  nodeEngine.sealMany([{ key, aad, plaintext, out, at: 0 }])
  return out
}

it('answers many jobs in order and says undefined for those that do not authenticate', () => {
  const good = sealed(Buffer.from('good'))
  const bad = Buffer.from(good)
  bad[20] = (bad[20] ?? 0) ^ 1
  const job = (bytes: Buffer) => ({ key, aad, sealed: bytes, start: 0, end: bytes.length })
  const opened = nodeEngine.openMany([job(good), job(bad), { ...job(good), aad: Buffer.from('other') }, job(good)])
  expect(opened.map((bytes) => bytes?.toString())).toEqual(['good', undefined, undefined, 'good'])
})

it('seals in place within a larger buffer and touches nothing around it', () => {
  const out = Buffer.alloc(100, 0xee)
  nodeEngine.sealMany([{ key, aad, plaintext: Buffer.from('value'), out, at: 30 }])
  const end = 30 + NONCE_BYTES + 5 + TAG_BYTES
  expect(out.subarray(0, 30 + NONCE_BYTES).equals(Buffer.alloc(42, 0xee))).toBe(true)
  expect(out.subarray(end).equals(Buffer.alloc(100 - end, 0xee))).toBe(true)
  const [opened] = nodeEngine.openMany([{ key, aad, sealed: out, start: 30, end }])
  expect(opened?.toString()).toBe('value')
})

it('seals and opens the empty value', () => {
  const bytes = sealed(Buffer.alloc(0))
  const [opened] = nodeEngine.openMany([{ key, aad, sealed: bytes, start: 0, end: bytes.length }])
  expect(opened).toHaveLength(0)
})
