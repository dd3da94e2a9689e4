import fc from 'fast-check'
import { expect, it } from 'vitest'
import { MAGIC } from '../../src/envelope/layout.ts'
import { parseEnvelope } from '../../src/envelope/parse.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'

const head = fc
  .tuple(
    fc.constantFrom(0x01, 0x11),
    fc.uint8Array({ minLength: 12, maxLength: 12 }),
    fc.integer({ min: 0, max: 2 }),
    fc.integer({ min: 0, max: 2 }),
    fc.integer({ min: 0, max: 11 }),
  )
  .map(([suite, id, wrapFlags, valueFlags, tag]) =>
    Uint8Array.from([MAGIC, 1, suite, ...id, wrapFlags, valueFlags, tag]),
  )
const likely = fc
  .tuple(head, fc.uint8Array({ minLength: 30, maxLength: 300, size: 'max' }))
  .map(([start, rest]) => Uint8Array.from([...start, ...rest]))

it('is total: any bytes parse or fail with a FieldsealError of kind corrupt', () => {
  let parsed = 0
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), likely), (bytes) => {
      try {
        const { valueAt, valueBytes } = parseEnvelope(bytes)
        parsed++
        expect(valueBytes).toBeGreaterThanOrEqual(0)
        expect(valueAt + 28 + valueBytes).toBe(bytes.length)
      } catch (error) {
        expect(isFieldsealError(error) && error.kind).toBe('corrupt')
      }
    }),
    { numRuns: 5_000 },
  )
  expect(parsed).toBeGreaterThan(50)
})

it('copies nothing: its parts are views of the input', () => {
  const bytes = new Uint8Array(1_000_000)
  bytes.set([MAGIC, 1, 1])
  bytes[17] = 6
  const parsed = parseEnvelope(bytes)
  expect(parsed.bytes.buffer).toBe(bytes.buffer)
  const before = process.memoryUsage().arrayBuffers
  for (let i = 0; i < 1_000; i++) parseEnvelope(bytes)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(bytes.length)
})
