import fc, { type Arbitrary } from 'fast-check'
import { expect, it } from 'vitest'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import { unicode } from '../support/arbitrary.ts'
import { codecOf } from '../support/codecs.ts'

const day = fc
  .date({ min: new Date('0001-01-01T00:00:00Z'), max: new Date('9999-12-31T00:00:00Z'), noInvalidDate: true })
  .map((date) => date.toISOString().slice(0, 10))
const json: Arbitrary<unknown> = fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.parse(JSON.stringify(value)))

const TYPES: Record<string, Arbitrary<unknown>> = {
  string: unicode(),
  number: fc.double(),
  boolean: fc.boolean(),
  bigint: fc.oneof(fc.bigInt(), fc.integer({ min: -40_000, max: 40_000 }).map(BigInt)),
  date: fc.date({ noInvalidDate: true }),
  bytes: fc.uint8Array(),
  json,
  day,
}

for (const [type, values] of Object.entries(TYPES)) {
  const codec = codecOf(type)
  it(`gives every ${type} back`, () => {
    fc.assert(
      fc.property(values, (value) => {
        const back = codec.decode(codec.encode(value))
        if (type === 'bytes') expect(Buffer.from(back as Uint8Array)).toEqual(Buffer.from(value as Uint8Array))
        else expect(back).toStrictEqual(value)
      }),
    )
  })

  it(`compares every two of type ${type} as their bytes compare`, () => {
    fc.assert(
      fc.property(values, values, (a, b) => {
        const equal = Buffer.compare(codec.encode(a), codec.encode(b)) === 0
        expect(codec.compareKey(a) === codec.compareKey(b)).toBe(equal)
        expect(codec.compareKey(a)).toBe(codec.compareKey(codec.decode(codec.encode(a))))
      }),
    )
  })

  it(`decodes bytes of type ${type} only if it would have written them`, () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 10 }), (bytes) => {
        let value: unknown
        try {
          value = codec.decode(Buffer.from(bytes))
        } catch (error) {
          expect(isFieldsealError(error) && error.code).toBe('ERR_DECRYPT_FAILED')
          return
        }
        expect(Buffer.from(codec.encode(value))).toEqual(Buffer.from(bytes))
      }),
      { numRuns: 1_000 },
    )
  })
}
