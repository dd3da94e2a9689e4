import fc from 'fast-check'
import { expect, it } from 'vitest'
import { assertContext, contextBytes } from '../../src/context/encryption-context.ts'

const refused = expect.objectContaining({ code: 'ERR_KMS_CONTEXT_INVALID' })

it('accepts what every KMS can take', () => {
  assertContext({ app: 'clinic', fieldseal: '1', tenant: 'clinic-7', keyspace: 'default', purpose: 'wrap', kek: 'ab' })
  assertContext({ tenant: 'é'.repeat(128) })
  assertContext({})
})

it('refuses keys, values and sizes that some KMS would refuse or change', () => {
  const contexts: Record<string, string>[] = [
    { Tenant: 'upper case' },
    { 'a b': 'x' },
    { ['k'.repeat(65)]: 'x' },
    { tenant: '' },
    { tenant: 'x'.repeat(257) },
    { tenant: 'a\nb' },
    { tenant: 'a\u0085b' },
    { tenant: 'e\u0301' },
    { tenant: '\ud800' },
    Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`k${i}`, 'x'])),
    Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`k${i}`, 'x'.repeat(256)])),
  ]
  for (const context of contexts) expect(() => assertContext(context), JSON.stringify(context)).toThrow(refused)
})

it('does not print a value it refuses', () => {
  expect(() => assertContext({ tenant: 'SECRET\n' })).toThrow(expect.not.stringContaining('SECRET'))
})

it('encodes pairs in the order of their keys, whatever order they came in', () => {
  const bytes = contextBytes({ b: '2', a: '1' })
  expect(bytes).toEqual(contextBytes({ a: '1', b: '2' }))
  expect(Buffer.from(bytes).toString('latin1')).toBe('\0\x04\0\0\0\x01a\0\0\0\x011\0\0\0\x01b\0\0\0\x012')
})

it('never encodes two contexts alike', () => {
  const context = fc.dictionary(fc.stringMatching(/^[a-z0-9_.-]{1,3}$/), fc.string({ minLength: 1, maxLength: 3 }), {
    maxKeys: 3,
    noNullPrototype: true,
  })
  fc.assert(
    fc.property(context, context, (a, b) => {
      const same = Object.keys({ ...a, ...b }).every((key) => a[key] === b[key])
      expect(Buffer.compare(contextBytes(a), contextBytes(b)) === 0).toBe(same)
    }),
  )
  expect(contextBytes({ a: 'bc' })).not.toEqual(contextBytes({ ab: 'c' }))
})
