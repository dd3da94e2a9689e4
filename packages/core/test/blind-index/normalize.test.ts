import fc from 'fast-check'
import { expect, it } from 'vitest'
import { NORMALIZERS, normalizerName, resolveNormalizer, type NormalizerName } from '../../src/blind-index/normalize.ts'
import { unicode } from '../support/arbitrary.ts'

const NAMES = Object.keys(NORMALIZERS) as NormalizerName[]
const apply = (name: NormalizerName, value: string) => NORMALIZERS[name].normalize(value)
const refused = expect.objectContaining({ code: 'ERR_VALUE_INVALID' })

it('are all at version 1', () => {
  expect(NAMES.map((name) => normalizerName(NORMALIZERS[name]))).toEqual([
    'none@1',
    'trim@1',
    'lower@1',
    'email@1',
    'digits@1',
  ])
})

it('none changes nothing, not even the Unicode form', () => {
  for (const value of ['', ' A ', 'e\u0301', '\u0378']) expect(apply('none', value)).toBe(value)
})

it('trim removes the white space of Unicode at both ends and nothing else', () => {
  const space =
    '\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'
  expect(apply('trim', `${space}a ${space}b${space}`)).toBe(`a ${space}b`)
  expect(apply('trim', space)).toBe('')
  for (const kept of ['\ufeff', '\u200b', '\u180e', '\u2060'])
    expect(apply('trim', `${kept}a${kept}`)).toBe(`${kept}a${kept}`)
})

it('lower and email make equal what people write alike', () => {
  const alike: string[][] = [
    ['Ada@Example.org', ' ada@EXAMPLE.ORG\n'],
    ['É', 'e\u0301'.toUpperCase(), 'é'],
    ['ﬁ', 'FI', 'fi'], // compatibility ligature
    ['Ａ', 'a'], // full width
    ['ΟΔΟΣ', 'οδοσ'], // every sigma alike, wherever it stands
    ['K', '\u212a'], // Kelvin sign
    ['İ', 'i\u0307'],
  ]
  for (const name of ['lower', 'email'] as const)
    for (const [first = '', ...others] of alike)
      for (const other of others) expect(apply(name, other), other).toBe(apply(name, first))
  expect(apply('lower', 'ß')).toBe('ß')
  expect(apply('lower', 'ς')).not.toBe(apply('lower', 'σ')) // it lower-cases, it does not fold
})

it('does not depend on the locale', () => {
  expect(apply('lower', 'I')).toBe('i')
})

it('digits keeps ASCII digits behind one plus sign', () => {
  const cases: [string, string][] = [
    ['+49 (0)30 901-820', '+49030901820'],
    ['0049.30', '004930'],
    ['  +1', '+1'],
    ['１２３', '123'], // full width, by NFKC
    ['', ''],
    ['   ', ''],
    ['1+2', '12'],
  ]
  for (const [value, expected] of cases) expect(apply('digits', value), value).toBe(expected)
})

it('digits refuses what it would lose: digits of other scripts, values without any digit', () => {
  for (const value of ['٠١٢', '१२', 'abc', '+', '1٢']) expect(() => apply('digits', value), value).toThrow(refused)
})

it('refuses code points that Unicode has not assigned, and lone surrogates, without printing the value', () => {
  for (const name of ['trim', 'lower', 'email', 'digits'] as const)
    for (const value of ['SECRET\u0378', 'SECRET\u{e0fff}', 'SECRET\ud800', 'SECRET\uffff']) {
      expect(() => apply(name, value)).toThrow(refused)
      expect(() => apply(name, value)).toThrow(expect.not.stringContaining('SECRET'))
    }
})

/** Compatibility characters such as U+00A8 begin with a space in NFKC, which comes after trimming: see the spec. */
const hasOuterSpace = (value: string) => /^\s|\s$/u.test(value)

it('gives the same when applied twice, for any text it takes', () => {
  for (const name of NAMES) {
    let taken = 0
    fc.assert(
      fc.property(
        fc.oneof(unicode(8), fc.string({ maxLength: 12 }), fc.stringMatching(/^[ +0-9٠-٩ÄöİıſKÅﬁΣς().-]{0,10}$/)),
        (value) => {
          let once: string
          try {
            once = apply(name, value)
          } catch {
            return
          }
          if (name !== 'none' && hasOuterSpace(once)) return
          taken++
          expect(apply(name, once)).toBe(once)
        },
      ),
      { numRuns: 600 },
    )
    expect(taken, name).toBeGreaterThan(50)
  }
})

it('is idempotent for every single code point', () => {
  const spaced: number[] = []
  for (let point = 0; point < 0x2fa20; point++) {
    // No code point beyond has a mapping.
    if (point >= 0xd800 && point <= 0xdfff) continue
    const char = String.fromCodePoint(point)
    let once: string
    try {
      once = apply('lower', char)
    } catch {
      continue
    }
    if (hasOuterSpace(once)) spaced.push(point)
    else if (apply('lower', once) !== once) expect.fail(`U+${point.toString(16)}`)
  }
  expect(spaced).toContain(0xa8)
  expect(spaced.length).toBeLessThan(100)
})

it('takes a normaliser of the user’s own, and refuses one that could be mistaken', () => {
  const normalize = (value: string) => value.slice(0, 3)
  expect(normalizerName(resolveNormalizer({ id: 'initials', version: 2, normalize }))).toBe('initials@2')
  const wrong: unknown[] = [
    'unheard',
    'toString',
    { id: 'lower', version: 1, normalize },
    { id: 'a@b', version: 1, normalize },
    { id: 'A', version: 1, normalize },
    { id: 'a', version: 0, normalize },
    { id: 'a', version: 1.5, normalize },
    { id: 'a', version: 1 },
    { id: 'a+b', version: 1, normalize },
  ]
  for (const choice of wrong)
    expect(() => resolveNormalizer(choice as never), JSON.stringify(choice)).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }),
    )
})
