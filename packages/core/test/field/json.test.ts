import fc from 'fast-check'
import { expect, it } from 'vitest'
import { canonicalJson, parseCanonicalJson } from '../../src/field/json.ts'

const refusedValue = expect.objectContaining({ code: 'ERR_VALUE_INVALID' })
const refusedText = expect.objectContaining({ code: 'ERR_DECRYPT_FAILED' })

it('writes the example of RFC 8785 §3.2.2', () => {
  const input = JSON.parse(
    '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],' +
      '"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
  ) as unknown
  expect(canonicalJson(input)).toBe(
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
      '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  )
})

it('writes numbers as RFC 8785 appendix B lists them', () => {
  const cases: [string, string][] = [
    ['0000000000000000', '0'],
    ['8000000000000000', '0'],
    ['0000000000000001', '5e-324'],
    ['8000000000000001', '-5e-324'],
    ['7fefffffffffffff', '1.7976931348623157e+308'],
    ['4340000000000000', '9007199254740992'],
    ['4430000000000000', '295147905179352830000'],
    ['44b52d02c7e14af5', '9.999999999999997e+22'],
    ['44b52d02c7e14af6', '1e+23'],
    ['444b1ae4d6e2ef4e', '999999999999999700000'],
    ['444b1ae4d6e2ef50', '1e+21'],
    ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
    ['3eb0c6f7a0b5ed8d', '0.000001'],
    ['41b3de4355555557', '333333333.33333343'],
    ['becbf647612f3696', '-0.0000033333333333333333'],
    ['43143ff3c1cb0959', '1424953923781206.2'],
  ]
  for (const [bits, text] of cases) expect(canonicalJson(Buffer.from(bits, 'hex').readDoubleBE()), bits).toBe(text)
})

it('sorts members by UTF-16 code units, integer-like keys too', () => {
  const keys = {
    '\u20ac': 'Euro',
    '\r': 'CR',
    '\ufb33': 'Hebrew',
    '1': 'One',
    '\u{1f600}': 'Smiley',
    '\u0080': 'Control',
    ö: 'O',
  }
  expect(Object.keys(JSON.parse(canonicalJson(keys)) as object).map((key) => key.codePointAt(0))).toEqual(
    // RFC 8785 §3.2.3; JSON.parse lists the integer-like key first.
    [0x31, 0x0d, 0x80, 0xf6, 0x20ac, 0x1f600, 0xfb33],
  )
  expect(canonicalJson({ '10': 1, '9': 2, a: 3 })).toBe('{"10":1,"9":2,"a":3}')
  expect(
    canonicalJson(
      Object.fromEntries([
        ['b', 1],
        ['a', 2],
      ]),
    ),
  ).toBe('{"a":2,"b":1}')
})

it('keeps __proto__ as data', () => {
  const text = '{"__proto__":{"admin":true},"constructor":1}'
  const value = parseCanonicalJson(text) as Record<string, unknown>
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
  expect(Object.hasOwn(value, '__proto__')).toBe(true)
  expect(value['admin']).toBeUndefined()
  expect(canonicalJson(value)).toBe(text)
})

it('leaves undefined members out, as JSON does, and calls toJSON', () => {
  expect(canonicalJson({ a: undefined, b: new Date(0) })).toBe('{"b":"1970-01-01T00:00:00.000Z"}')
  expect(canonicalJson({ toJSON: () => ({ z: 1, a: 2 }) })).toBe('{"a":2,"z":1}')
})

it('refuses what would come back as something else', () => {
  const cyclic: Record<string, unknown> = {}
  cyclic['self'] = cyclic
  const values: unknown[] = [
    undefined,
    Number.NaN,
    Infinity,
    1n,
    Symbol('s'),
    () => 1,
    new Map([['a', 1]]),
    new Set([1]),
    /a/,
    new Error('e'),
    new Uint8Array(1),
    Object(1),
    Object('a'),
    '\ud800',
    { '\udfff': 1 },
    [undefined],
    Array.from({ length: 2 }),
    [, 1], // eslint-disable-line no-sparse-arrays
    { a: { b: [Number.NaN] } },
    cyclic,
  ]
  for (const value of values) expect(() => canonicalJson(value)).toThrow(refusedValue)
})

it('goes 512 levels below the outermost and no deeper, writing and reading', () => {
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
  expect(parseCanonicalJson(nested(513))).toBeInstanceOf(Array)
  expect(() => parseCanonicalJson(nested(514))).toThrow(refusedText)
  expect(() => parseCanonicalJson(nested(500_000))).toThrow(refusedText)
})

it('refuses every text that it would not have written', () => {
  const texts = [
    '',
    ' 1',
    '1 ',
    '\ufeff1',
    '{"b":1,"a":2}',
    '{"a":1,"a":1}',
    '{"a":1,"a":2}',
    '{ "a":1}',
    '[1, 2]',
    '1.0',
    '-0',
    '1e2',
    '1E+30',
    '1e400',
    '01',
    '"\\u0041"',
    '"\\/"',
    '"\\ud800"',
    '"\u2028',
    '{"9":1,"10":2}',
    'nul',
    "{'a':1}",
    '12345678901234567890',
  ]
  for (const text of texts) expect(() => parseCanonicalJson(text), text).toThrow(refusedText)
})

it('never lets V8 quote the text it could not parse', () => {
  let error: unknown
  try {
    parseCanonicalJson('John Smith, SECRET')
  } catch (thrown) {
    error = thrown
  }
  expect(String(error)).not.toContain('SECRET')
  expect((error as Error).cause).toBeUndefined()
})

it('agrees with JSON.stringify where keys are in order already', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 2 }), (value) => {
      const text = canonicalJson(value)
      const plain: unknown = JSON.parse(JSON.stringify(value))
      expect(JSON.parse(text)).toEqual(plain)
      expect(parseCanonicalJson(text)).toEqual(plain)
      expect(canonicalJson(plain)).toBe(text)
    }),
  )
})
