import { expect, it } from 'vitest'
import { codecOf, refusesBytes, refusesValue } from '../support/codecs.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const bytes = (text: string) => Buffer.from(text, 'hex')

it('knows eight types, each with its tag', () => {
  const tags = ['string', 'number', 'boolean', 'bigint', 'date', 'bytes', 'json', 'day'].map(
    (type) => codecOf(type).tag,
  )
  expect(tags).toEqual([1, 2, 3, 4, 5, 6, 7, 9])
})

it('writes strings as UTF-8 without normalisation and keeps a byte order mark', () => {
  const string = codecOf('string')
  expect(hex(string.encode('é'))).toBe('c3a9')
  expect(hex(string.encode('e\u0301'))).toBe('65cc81')
  expect(string.decode(bytes('efbbbf41'))).toBe('\ufeffA')
  expect(string.decode(string.encode('\0'))).toBe('\0')
  refusesValue('string', '\ud800', 'a\udc00', 7, null, undefined, {}, ['a'])
  refusesBytes('string', 'ff', 'c080', 'eda080')
})

it('writes numbers as big-endian binary64, NaN in one form, -0 kept', () => {
  const number = codecOf('number')
  expect(hex(number.encode(1))).toBe('3ff0000000000000')
  expect(hex(number.encode(-0))).toBe('8000000000000000')
  expect(hex(number.encode(Number.NaN))).toBe('7ff8000000000000')
  expect(hex(number.encode(-Infinity))).toBe('fff0000000000000')
  expect(hex(number.encode(Number.MIN_VALUE))).toBe('0000000000000001')
  expect(Object.is(number.decode(bytes('8000000000000000')), -0)).toBe(true)
  expect(number.decode(bytes('7ff8000000000000'))).toBeNaN()
  refusesValue('number', '1', 1n, true, null)
  refusesBytes('number', '', '00', '3ff00000000000', '3ff000000000000000')
  refusesBytes('number', '7ff8000000000001', 'fff8000000000000', '7ff0000000000001', 'ffffffffffffffff')
})

it('writes booleans as one byte', () => {
  const boolean = codecOf('boolean')
  expect([hex(boolean.encode(false)), hex(boolean.encode(true))]).toEqual(['00', '01'])
  refusesValue('boolean', 0, 1, 'true', null)
  refusesBytes('boolean', '', '02', 'ff', '0000')
})

it('writes bigints as the shortest two’s complement', () => {
  const bigint = codecOf('bigint')
  const cases: [bigint, string][] = [
    [0n, '00'],
    [1n, '01'],
    [127n, '7f'],
    [128n, '0080'],
    [255n, '00ff'],
    [256n, '0100'],
    [-1n, 'ff'],
    [-128n, '80'],
    [-129n, 'ff7f'],
    [-256n, 'ff00'],
    [2n ** 63n, '008000000000000000'],
    [-(2n ** 63n), '8000000000000000'],
  ]
  for (const [value, text] of cases) {
    expect(hex(bigint.encode(value)), String(value)).toBe(text)
    expect(bigint.decode(bytes(text))).toBe(value)
  }
  refusesValue('bigint', 1, '1', null)
  refusesBytes('bigint', '', '0000', '007f', 'ffff', 'ff80', '00007f')
})

it('writes dates as instants within the range of Date', () => {
  const date = codecOf('date')
  expect(hex(date.encode(new Date(0)))).toBe('0000000000000000')
  expect(hex(date.encode(new Date(-1)))).toBe('ffffffffffffffff')
  for (const ms of [8.64e15, -8.64e15]) expect(date.decode(date.encode(new Date(ms)))).toEqual(new Date(ms))
  refusesValue('date', new Date(Number.NaN), 0, '2020-01-01', null)
  refusesBytes('date', '', '00000000000000', '001eb208c2dc0001', 'ffe14df73d23ffff', '7fffffffffffffff')
})

it('writes bytes as they are', () => {
  const codec = codecOf('bytes')
  expect(codec.decode(codec.encode(Uint8Array.of(0, 255)))).toEqual(Uint8Array.of(0, 255))
  expect(codec.encode(new Uint8Array())).toHaveLength(0)
  refusesValue('bytes', 'a', [1], new ArrayBuffer(2), null)
})

it('writes calendar days of the Gregorian calendar, years 0001 to 9999', () => {
  const day = codecOf('day')
  for (const text of ['0001-01-01', '9999-12-31', '2024-02-29', '2000-02-29', '1900-02-28'])
    expect(day.decode(day.encode(text))).toBe(text)
  const wrong = ['0000-01-01', '2023-02-29', '1900-02-29', '2024-04-31', '2024-13-01', '2024-00-10', '2024-01-00']
  const forms = [
    '2024-1-1',
    '24-01-01',
    '2024/01/01',
    '2024-01-01T00:00',
    ' 2024-01-01',
    '2024-01-01\n',
    '',
    '２０２４-01-01',
  ]
  refusesValue('day', ...wrong, ...forms, new Date(), 20240101, null)
  refusesBytes('day', ...[...wrong, ...forms].map((text) => Buffer.from(text).toString('hex')))
})

it('never prints a value it refuses', () => {
  const secret = 'SECRET-078-05-1120'
  for (const type of ['number', 'boolean', 'bigint', 'date', 'bytes', 'day']) {
    for (const value of [secret, { secret }, [secret]]) {
      let text = 'nothing thrown'
      try {
        codecOf(type).encode(value)
      } catch (error) {
        text = `${String(error)} ${JSON.stringify(error)}`
      }
      expect(text).toContain('ERR_VALUE_INVALID')
      expect(text).not.toContain('SECRET')
    }
  }
})
