import fc from 'fast-check'
import { expect, it } from 'vitest'
import { identifiersIn } from '../../src/guard/sql-identifiers.ts'

const namesIn = (sql: string) => identifiersIn(sql).map(({ names }) => names.join('.'))

it.each<[string, string, string[]]>([
  ['qualified names', 'p.email = "p"."ssn"', ['p.email', 'p.ssn']],
  ['gaps and comments', 'p /* . */ . -- x\n email', ['p.email']],
  ['quotes in quotes', '"a""b"."c"', ['a"b.c']],
  ['literals', `'email' || E'it\\'s email' || $$email$$ || $x$ email $x$ || x`, ['x']],
  ['comments', 'a -- email\n, b /* email */', ['a', 'b']],
  ['casts', 'a::email, b :: "email"', ['a', 'b']],
  ['numbered parameters and numbers', '$1 + 1e5 + 1.5email', ['email']],
  ['array slices', 'a[1:email]', ['a', 'email']],
  ['escaped identifiers', 'U&"d\\0061ta"', ['U&', 'U', 'd\\0061ta']],
  ['other scripts', 'größe = naïve', ['größe', 'naïve']],
  ['unfinished literals', `a = 'email`, ['a', 'email']],
])('%s', (_, sql, expected) => {
  expect(namesIn(sql)).toEqual(expected)
})

it('knows parameters by their names', () => {
  expect(identifiersIn('a = :email AND b = :other', (name) => name === 'email').map(({ names }) => names[0])).toEqual([
    'a',
    'AND',
    'b',
    'other',
  ])
})

it('tells null tests and calls', () => {
  expect(identifiersIn('a IS NULL, b is /* */ not null, lower(c), d ISNULL')).toMatchObject([
    { names: ['a'], testedForNull: true },
    { names: ['b'], testedForNull: true },
    { names: ['lower'], called: true },
    { names: ['c'], testedForNull: false },
    { names: ['d'], testedForNull: true },
  ])
})

const gap = fc.constantFrom(' ', '\n', '\t', ' /* c */ ', ' -- c\n')
const noise = fc.constantFrom(
  `'it''s'`,
  '$1',
  '42',
  '1.5',
  '(',
  ')',
  ',',
  '+',
  '||',
  '=',
  '<>',
  '::text',
  `E'\\''`,
  '$$ x $$',
  'other',
  '"Other"',
  'f(x)',
  'IS NULL',
)

it('never misses a name, whatever stands around it', () => {
  fc.assert(
    fc.property(
      fc.array(noise),
      gap,
      fc.constantFrom(
        'secret',
        'SECRET',
        '"secret"',
        'p.secret',
        '"p" . "secret"',
        'secret::text',
        'lower(secret)',
        '(secret)',
      ),
      gap,
      fc.array(noise),
      (before, g1, name, g2, after) => {
        const sql = before.join(' ') + g1 + name + g2 + after.join(' ')
        expect(namesIn(sql).some((found) => found.split('.').at(-1)?.toLowerCase() === 'secret')).toBe(true)
      },
    ),
    { numRuns: 2_000 },
  )
})

it('ends on any input', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('"', "'", '$', '-', '/', '*', '.', ':', 'a', ' ', '\\', '\n', 'E', '&', 'U') }),
      (sql) => {
        expect(Array.isArray(identifiersIn(sql))).toBe(true)
      },
    ),
    { numRuns: 2_000 },
  )
})
