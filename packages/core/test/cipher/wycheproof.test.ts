import { createSecretKey } from 'node:crypto'
import { expect, it } from 'vitest'
import { NONCE_BYTES, nodeEngine, TAG_BYTES } from '../../src/cipher/aead.ts'
import { expandBlock, hmac } from '../../src/cipher/hkdf.ts'
import { bytesOf, wycheproof, type WycheproofTest } from '../support/wycheproof.ts'

const BLOCK = 32

const aesGcm = wycheproof('aes_gcm_test.json')
if (aesGcm !== undefined) {
  // What we call: 256-bit keys, 96-bit nonces, 128-bit tags.
  const ours = aesGcm.filter((t) => t['keySize'] === 256 && t['ivSize'] === 96 && t['tagSize'] === 128)

  it('opens every valid AES-256-GCM vector of Wycheproof and no invalid one', () => {
    expect(ours.length).toBeGreaterThan(60)
    for (const test of ours) {
      const sealed = Buffer.concat([bytesOf(test, 'iv'), bytesOf(test, 'ct'), bytesOf(test, 'tag')])
      const [opened] = nodeEngine.openMany([{ ...keyAndAad(test), sealed, start: 0, end: sealed.length }])
      const expected = test.result === 'valid' ? bytesOf(test, 'msg') : undefined
      expect(opened?.toString('hex'), `tcId ${test.tcId}: ${test.comment}`).toBe(expected?.toString('hex'))
    }
  })

  it('seals every valid AES-256-GCM vector of Wycheproof to its ciphertext and tag', () => {
    for (const test of ours.filter(({ result }) => result === 'valid')) {
      const plaintext = bytesOf(test, 'msg')
      const out = Buffer.alloc(NONCE_BYTES + plaintext.length + TAG_BYTES)
      out.set(bytesOf(test, 'iv'))
      nodeEngine.sealMany([{ ...keyAndAad(test), plaintext, out, at: 0 }])
      const expected = Buffer.concat([bytesOf(test, 'iv'), bytesOf(test, 'ct'), bytesOf(test, 'tag')])
      expect(out.toString('hex'), `tcId ${test.tcId}`).toBe(expected.toString('hex'))
    }
  })
}

const hkdf = wycheproof('hkdf_sha256_test.json')
if (hkdf !== undefined) {
  it('expands every HKDF-SHA-256 vector of Wycheproof to its first block', () => {
    const valid = hkdf.filter(({ result }) => result === 'valid')
    expect(valid.length).toBeGreaterThan(60)
    for (const test of valid) {
      // Extract (RFC 5869 §2.2): an absent salt is a block of zeros.
      const salt = bytesOf(test, 'salt')
      const extracted = hmac(createSecretKey(salt.length === 0 ? Buffer.alloc(BLOCK) : salt), bytesOf(test, 'ikm'))
      const okm = bytesOf(test, 'okm')
      const block = expandBlock(createSecretKey(extracted), bytesOf(test, 'info'))
      const length = Math.min(BLOCK, okm.length)
      expect(block.toString('hex', 0, length), `tcId ${test.tcId}`).toBe(okm.toString('hex', 0, length))
    }
  })
}

const hmacSha256 = wycheproof('hmac_sha256_test.json')
if (hmacSha256 !== undefined) {
  it('computes every HMAC-SHA-256 vector of Wycheproof, truncated tags too', () => {
    expect(hmacSha256.length).toBeGreaterThan(150)
    for (const test of hmacSha256) {
      const tag = bytesOf(test, 'tag')
      const ours = hmac(createSecretKey(bytesOf(test, 'key')), bytesOf(test, 'msg')).subarray(0, tag.length)
      expect(ours.equals(tag), `tcId ${test.tcId}: ${test.comment}`).toBe(test.result === 'valid')
    }
  })
}

function keyAndAad(test: WycheproofTest) {
  return { key: createSecretKey(bytesOf(test, 'key')), aad: bytesOf(test, 'aad') }
}

it('computes the HMAC-SHA-256 of RFC 4231, test case 2', () => {
  const key = createSecretKey(Buffer.from('Jefe'))
  expect(hmac(key, Buffer.from('what do ya want for nothing?')).toString('hex')).toBe(
    '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  )
})
