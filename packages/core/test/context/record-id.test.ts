import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { isRecordId, recordIdBytes, recordIdFrom } from '../../src/context/record-id.ts'

it('turns 12 bytes into 24 hex digits and back', () => {
  const bytes = randomBytes(12)
  const id = recordIdFrom(bytes)
  expect(isRecordId(id)).toBe(true)
  expect(recordIdBytes(id)).toEqual(bytes)
})

it('knows no other form of an id', () => {
  for (const text of [
    '',
    'AB'.repeat(12),
    'ab'.repeat(11),
    'ab'.repeat(13),
    `${'ab'.repeat(12)}\n`,
    'zz'.repeat(12),
    12,
    null,
  ])
    expect(isRecordId(text)).toBe(false)
})
