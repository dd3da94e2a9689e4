import { createHmac, createSecretKey, randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { lp } from '../../src/bytes/lp.ts'
import { commitmentHolds, dekCommitment } from '../../src/cipher/commitment.ts'
import { expand } from '../../src/cipher/hkdf.ts'

const dek = createSecretKey(randomBytes(32))
const header = randomBytes(16)

it('is the HMAC of the header under a key of its own', () => {
  const key = expand(dek, 'fieldseal/1/commit-key')
  const expected = createHmac('sha256', key).update(lp('fieldseal/1/dek-commit', header)).digest()
  expect(dekCommitment(dek, header)).toEqual(expected)
})

it('holds for one key and one header only', () => {
  const commitment = dekCommitment(dek, header)
  expect(commitmentHolds(dekCommitment(dek, header), commitment)).toBe(true)
  expect(commitmentHolds(dekCommitment(createSecretKey(randomBytes(32)), header), commitment)).toBe(false)
  for (let i = 0; i < header.length; i++) {
    const other = Buffer.from(header)
    other[i] = (other[i] ?? 0) ^ 0x80
    expect(commitmentHolds(dekCommitment(dek, other), commitment)).toBe(false)
  }
})
