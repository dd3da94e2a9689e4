import { createHash } from 'node:crypto'
import { expect, it } from 'vitest'
import { lp } from '../../src/bytes/lp.ts'
import { parseEnvelope } from '../../src/envelope/parse.ts'
import { createFieldPolicy, valueAad, type FieldPolicyInput } from '../../src/field/field-policy.ts'
import { codecOf } from '../support/codecs.ts'

const policy = (options: Partial<FieldPolicyInput> = {}) =>
  createFieldPolicy({
    model: 'patients',
    id: 'ssn',
    codec: codecOf('string'),
    formerCodecs: [],
    values: undefined,
    padToBytes: undefined,
    maxBytes: undefined,
    encryptNull: false,
    ...options,
  })

/** An envelope of layout kek as a reader parses it: `valueBytes` of ciphertext, a type tag, padded or not. */
const parsed = (valueBytes: number, typeTag: number, padded = false) => {
  const bytes = Buffer.alloc(112 + valueBytes)
  bytes.set([0xf8, 1, 1])
  bytes.set([0, padded ? 1 : 0, typeTag], 15)
  return parseEnvelope(bytes)
}
const code = (name: string) =>
  expect.objectContaining({ code: name, details: expect.objectContaining({ model: 'patients', field: 'ssn' }) })

it('leaves null and undefined null, and encrypts empty values', () => {
  expect(policy().encode(null)).toBeNull()
  expect(policy().encode(undefined)).toBeNull()
  expect(policy().encode('')?.plaintext).toHaveLength(0)
  expect(policy({ codec: codecOf('boolean') }).encode(false)?.plaintext).toEqual(Uint8Array.of(0))
  expect(policy({ codec: codecOf('number') }).encode(0)?.plaintext).toHaveLength(8)
})

it('names the field in every refusal of a value', () => {
  expect(() => policy().encode(7)).toThrow(code('ERR_VALUE_INVALID'))
  expect(() => policy().compareKey('\ud800')).toThrow(code('ERR_VALUE_INVALID'))
  expect(() => policy({ values: ['A'] }).encode('B')).toThrow(code('ERR_VALUE_INVALID'))
  expect(() => policy({ values: ['A'] }).compareKey('B')).toThrow(code('ERR_VALUE_INVALID'))
})

it('takes maxBytes of the encoded value and no byte more, writing', () => {
  const limited = policy({ maxBytes: 4 })
  expect(limited.encode('éé')?.plaintext).toHaveLength(4)
  expect(() => limited.encode('ééa')).toThrow(code('ERR_VALUE_INVALID'))
  expect(policy().encode('x'.repeat(1_048_576))).not.toBeNull()
  expect(() => policy().encode('x'.repeat(1_048_577))).toThrow(code('ERR_VALUE_INVALID'))
})

it('refuses too long a ciphertext before decryption, with room for any padding', () => {
  const limited = policy({ maxBytes: 4 })
  limited.assertReadable(parsed(4, 1))
  expect(() => limited.assertReadable(parsed(5, 1))).toThrow(code('ERR_ENVELOPE_MALFORMED'))
  limited.assertReadable(parsed(4 + 4 + 65_536, 1, true))
  expect(() => limited.assertReadable(parsed(4 + 4 + 65_537, 1, true))).toThrow(code('ERR_ENVELOPE_MALFORMED'))
})

it('refuses too long a true length inside padding', () => {
  const padded = Buffer.from(policy({ padToBytes: 16 }).encode('12345')?.plaintext ?? [])
  expect(policy({ maxBytes: 5 }).decode(parsed(20, 1, true), padded)).toBe('12345')
  expect(() => policy({ maxBytes: 4 }).decode(parsed(20, 1, true), padded)).toThrow(
    expect.objectContaining({ code: 'ERR_DECRYPT_FAILED' }),
  )
})

it('pads to the multiple it was told, enumerations to their longest value, bigint to 16', () => {
  const length = (options: Partial<FieldPolicyInput>, value: unknown) => policy(options).encode(value)?.plaintext.length
  expect(length({ padToBytes: 10 }, 'x')).toBe(14)
  expect(length({ padToBytes: 10 }, 'x'.repeat(11))).toBe(24)
  const values = ['A', 'positive', '0']
  expect(values.map((value) => length({ values }, value))).toEqual([12, 12, 12])
  expect(length({ values: [''] }, '')).toBe(5)
  const bigint = { codec: codecOf('bigint') }
  expect([0n, -1n, 2n ** 100n, -(2n ** 127n)].map((value) => length(bigint, value))).toEqual([20, 20, 20, 20])
  expect(length(bigint, 2n ** 127n)).toBe(36)
  expect(policy().encode('x')?.valueFlags).toBe(0)
  expect(policy({ padToBytes: 1 }).encode('x')?.valueFlags).toBe(1)
})

it('gives an encrypted null the length, flag and tag of other values', () => {
  for (const options of [
    {},
    { padToBytes: 32 },
    { values: ['yes', 'no'] },
    { codec: codecOf('bigint') },
    { codec: codecOf('date') },
  ]) {
    const nullable = policy({ ...options, encryptNull: true })
    const value = { string: 'yes', bigint: 5n, date: new Date(0) }[nullable.codec.type]
    const [one, other] = [nullable.encode(null), nullable.encode(value)]
    expect(one?.plaintext).toHaveLength(other?.plaintext.length ?? -1)
    expect([one?.valueFlags, one?.typeTag]).toEqual([other?.valueFlags, other?.typeTag])
    expect(nullable.decode(parsed(36, nullable.codec.tag, true), Buffer.from(one?.plaintext ?? []))).toBeNull()
  }
})

it('refuses an encrypted null where the field has none', () => {
  const sealed = Buffer.from(policy({ encryptNull: true }).encode(null)?.plaintext ?? [])
  expect(() => policy({ padToBytes: 16 }).decode(parsed(20, 1, true), sealed)).toThrow(
    expect.objectContaining({ code: 'ERR_DECRYPT_FAILED' }),
  )
})

it('reads its own type and former ones, and no other', () => {
  const changed = policy({ codec: codecOf('bigint'), formerCodecs: [codecOf('string'), codecOf('number')] })
  expect(changed.decode(parsed(1, 1), Buffer.from('7'))).toBe('7')
  expect(changed.decode(parsed(1, 4), Buffer.of(7))).toBe(7n)
  for (const tag of [1, 2, 4]) changed.assertReadable(parsed(1, tag))
  for (const tag of [3, 5, 6, 7, 8, 9])
    expect(() => changed.assertReadable(parsed(1, tag))).toThrow(code('ERR_DECRYPT_FAILED'))
  expect(changed.encode(7n)?.typeTag).toBe(4)
})

it('reads a value that has left the declared list', () => {
  const before = policy({ values: ['A', 'B'] }).encode('B')
  const after = policy({ values: ['A'] })
  expect(after.decode(parsed(5, 1, true), Buffer.from(before?.plaintext ?? []))).toBe('B')
})

it('binds AEAD, flags, tag, model, field and map keys, and nothing of the wrap', () => {
  const expected = createHash('sha256')
    .update(
      lp('fieldseal/1/value', Buffer.of(1), Buffer.of(0), Buffer.of(1), 'patients', 'phones.$*', 'home', 'mobile'),
    )
    .digest()
  expect(valueAad(0, 1, 'patients', 'phones.$*', ['home', 'mobile'])).toEqual(expected)
  const base = valueAad(0, 1, 'm', 'f', ['k'])
  const others = [
    valueAad(1, 1, 'm', 'f', ['k']),
    valueAad(0, 2, 'm', 'f', ['k']),
    valueAad(0, 1, 'n', 'f', ['k']),
    valueAad(0, 1, 'm', 'g', ['k']),
    valueAad(0, 1, 'm', 'f', []),
    valueAad(0, 1, 'm', 'f', ['k', '']),
    valueAad(0, 1, 'mf', '', ['k']),
    valueAad(0, 1, 'm', 'fk', []),
  ]
  const distinct = new Set([base, ...others].map((aad) => Buffer.from(aad).toString('hex')))
  expect(distinct.size).toBe(9)
  expect(base).toHaveLength(32)
})

it('computes the AAD of a field without map keys once per flag and tag, and never mixes them up', () => {
  const one = policy()
  for (const flags of [0, 1])
    for (let tag = 1; tag <= 9; tag++) {
      expect(one.aad(flags, tag, undefined)).toEqual(valueAad(flags, tag, 'patients', 'ssn', []))
      expect(one.aad(flags, tag, [])).toBe(one.aad(flags, tag, undefined))
    }
  expect(one.aad(0, 1, ['x'])).toEqual(valueAad(0, 1, 'patients', 'ssn', ['x']))
})

it('compares null with nothing else', () => {
  expect(policy().compareKey(null)).toBeNull()
  expect(policy().compareKey(undefined)).toBeNull()
  expect(policy().compareKey('null')).toBe('null')
})
