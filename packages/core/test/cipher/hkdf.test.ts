import { createSecretKey, hkdfSync } from 'node:crypto'
import { expect, it } from 'vitest'
import { lp } from '../../src/bytes/lp.ts'
import { expand, expandKey, hmac, LABELS } from '../../src/cipher/hkdf.ts'

const ikm = Buffer.from('input key material')

it('equals the expand step of node:crypto HKDF over the length-prefixed info', () => {
  const extracted = hmac(createSecretKey(Buffer.alloc(32)), ikm)
  const expected = hkdfSync('sha256', ikm, Buffer.alloc(0), lp(LABELS.wrap, Buffer.from('salt')), 32)
  const ours = expand(createSecretKey(extracted), LABELS.wrap, Buffer.from('salt'))
  expect(ours).toEqual(Buffer.from(expected))
  expect(expandKey(createSecretKey(extracted), LABELS.wrap, Buffer.from('salt')).export()).toEqual(ours)
})

it('never derives one key for two splits of the same bytes', () => {
  const key = createSecretKey(Buffer.alloc(32, 1))
  expect(expand(key, 'ab', 'c')).not.toEqual(expand(key, 'a', 'bc'))
  expect(expand(key, 'a', '')).not.toEqual(expand(key, 'a'))
})

it('keeps its labels distinct and at version 1', () => {
  const labels = Object.values(LABELS)
  expect(new Set(labels).size).toBe(labels.length)
  for (const label of labels) expect(label).toMatch(/^fieldseal\/1\/[a-z-]+$/)
})
