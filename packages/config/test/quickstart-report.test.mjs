import { expect, it } from 'vitest'
import { problemOf } from '../quickstart-report.mjs'

const good = {
  plaintextHits: 0,
  rowsWritten: 5,
  rowsRewrapped: 3,
  dataRowsWrittenByCmkMove: 0,
  foundByEmail: true,
  sameValueDifferentCiphertext: true,
  swapRefused: true,
  revokedTenantRefused: true,
  revokedAfterMs: 263,
  revocationBoundMs: 1500,
  otherTenantReads: 4,
  kmsCalls: 18,
  seconds: 5.1,
}

it('accepts a report that says what it must', () => {
  expect(problemOf(`${JSON.stringify(good)}\n`)).toBeUndefined()
})

it.each([
  ['plaintextHits', 1],
  ['foundByEmail', false],
  ['rowsWritten', 0],
  ['revokedAfterMs', 1501],
  ['seconds', undefined],
])('refuses %s = %s', (field, value) => {
  expect(problemOf(JSON.stringify({ ...good, [field]: value }))).toBe(`${field} is ${value}`)
})

it.each(['', 'hello\n', 'null', '[]', `progress\n${JSON.stringify(good)}`])('refuses stdout %j', (stdout) => {
  expect(problemOf(stdout)).toBeTypeOf('string')
})
