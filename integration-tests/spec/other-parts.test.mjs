// What the quickstart does not write: other types, layout direct, padding. Sealed by core, opened by the decoder.
import { createSecretKey } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { nodeEngine } from '../../packages/core/src/cipher/aead.ts'
import { createRandomSource } from '../../packages/core/src/cipher/random.ts'
import { BUILT_IN_CODECS } from '../../packages/core/src/field/built-in-codecs.ts'
import { sealDirect } from '../../packages/core/src/field/direct-value.ts'
import { createFieldPolicy } from '../../packages/core/src/field/field-policy.ts'
import { NORMALIZERS } from '../../packages/core/src/blind-index/normalize.ts'
import { decodeValue, NORMALISERS, openValue, TAGS } from './decoder.mjs'

const SAMPLES = {
  string: ['', 'Ada', '\ufeffé\u{1f600}'],
  number: [0, -0, 1.5, Number.NaN, -Infinity],
  boolean: [true, false],
  bigint: [0n, 127n, 128n, -128n, -129n, 255n, -(2n ** 70n)],
  date: [new Date(0), new Date(-8.64e15)],
  bytes: [Buffer.of(), Buffer.of(0, 255)],
  json: [null, { b: [1, -0.5, 1e21], a: { 10: 'x', 9: '\u2028' } }, 'text'],
  day: ['2024-02-29', '0001-01-01'],
}
const PLACE = { model: 'patients', field: 'secret', layouts: ['direct'] }

function policyOf(codec, options) {
  const none = { formerCodecs: [], values: undefined, padToBytes: undefined, maxBytes: undefined, encryptNull: false }
  return createFieldPolicy({ ...none, model: PLACE.model, id: PLACE.field, codec, ...options })
}

function seal(codec, value, options) {
  const policy = policyOf(codec, options)
  const dek = Buffer.alloc(32, 7)
  const wrapped = { key: createSecretKey(dek), recordId: Buffer.alloc(12, 3), label: 'v1', blob: Buffer.alloc(65, 9) }
  const encoded = policy.encode(value)
  const aad = policy.aad(encoded.valueFlags, encoded.typeTag, ['k1', 'k2'])
  const bytes = sealDirect(wrapped, { ...encoded, aad }, nodeEngine, createRandomSource())
  return { bytes, dek }
}

describe('what core seals', () => {
  it.each(BUILT_IN_CODECS.map((codec) => [codec.type, codec]))('opens as %s, padded and not', (type, codec) => {
    expect(TAGS[codec.tag]).toBe(type)
    for (const value of SAMPLES[type]) {
      for (const padToBytes of type === 'json' && value === null ? [] : [undefined, 16]) {
        const { bytes, dek } = seal(codec, value, { padToBytes })
        const place = { ...PLACE, type, mapKeys: ['k1', 'k2'] }
        expect(openValue(bytes, place, () => dek)).toEqual(value)
        expect(() => openValue(bytes, { ...place, mapKeys: ['k2', 'k1'] }, () => dek)).toThrow('decrypt')
        expect(() => openValue(bytes, { ...place, layouts: ['kek'] }, () => dek)).toThrow('layout')
        expect(() => openValue(bytes, place, () => Buffer.alloc(32, 8))).toThrow('another commitment')
      }
    }
  })

  it('opens an encrypted null only where the field encrypts nulls', () => {
    const { bytes, dek } = seal(BUILT_IN_CODECS[0], null, { encryptNull: true })
    const place = { ...PLACE, type: 'string', mapKeys: ['k1', 'k2'] }
    expect(openValue(bytes, { ...place, encryptNulls: true }, () => dek)).toBe(null)
    expect(() => openValue(bytes, place, () => dek)).toThrow('decrypt')
  })
})

describe('decoder and core agree', () => {
  it('on plaintexts that are not canonical', () => {
    const plaintexts = [
      '',
      '00',
      '01',
      '02',
      '0000',
      '007f',
      '0080',
      'ff80',
      'ff7f',
      '7ff8000000000001',
      '8000000000000000',
    ]
    const texts = [
      '{"a":1}',
      '{"a": 1}',
      '{"b":1,"a":2}',
      '{"a":1,"a":1}',
      '1.0',
      '-0',
      '"\\ud800"',
      '2023-02-29',
      '0000-01-01',
    ]
    const deep = [
      '['.repeat(512) + ']'.repeat(512),
      '['.repeat(513) + ']'.repeat(513),
      `${'['.repeat(513)}1${']'.repeat(513)}`,
    ]
    const all = [
      ...plaintexts.map((hex) => Buffer.from(hex, 'hex')),
      ...[...texts, ...deep].map((text) => Buffer.from(text)),
    ]
    for (const codec of BUILT_IN_CODECS) {
      for (const bytes of all) {
        const theirs = outcome(() => codec.decode(bytes))
        expect(
          outcome(() => decodeValue(codec.tag, bytes)),
          `${codec.type} ${bytes.toString('latin1')}`,
        ).toEqual(theirs)
      }
    }
  })

  it('on normalisers', () => {
    const texts = [
      '',
      ' Ada@Example.ORG ',
      'ΣΑΣ',
      'İ',
      'ﬁ',
      '+43 (0) 660',
      '٣',
      'x',
      '\u0378',
      '\ud800',
      '\u00a01\u3000',
    ]
    for (const { id, normalize } of Object.values(NORMALIZERS)) {
      for (const text of texts) {
        expect(
          outcome(() => NORMALISERS[`${id}@1`](text)),
          `${id} ${text}`,
        ).toEqual(outcome(() => normalize(text)))
      }
    }
  })
})

function outcome(action) {
  try {
    return { value: action() }
  } catch {
    return 'refused'
  }
}
