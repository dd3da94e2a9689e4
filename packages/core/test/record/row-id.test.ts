import fc from 'fast-check'
import { expect, it } from 'vitest'
import { canonicalKeyBytes, rowIdOf, rowIdText, type RowKeyKind } from '../../src/record/row-id.ts'
import { clinic, PATIENTS } from '../support/clinic.ts'

const hex = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes).toString('hex'))
const key = (kind: RowKeyKind, value: unknown) => hex(canonicalKeyBytes(kind, value))
const UUID = 'B5A1F6DE-3f7c-4ac3-9a2e-4f0a8b0b5f01'

it('writes integers alike, whatever type a driver gives them', () => {
  for (const value of [1, 1n, '1']) expect(key('integer', value)).toBe('31')
  expect(key('integer', '9223372036854775807')).toBe(key('integer', 9223372036854775807n))
  expect(key('integer', -5)).toBe(key('integer', '-5'))
  expect(key('integer', -0)).toBe(key('integer', '0'))
})

it('knows no integer in numbers beyond the safe ones and in other spellings', () => {
  const wrong = [
    2 ** 53,
    1.5,
    Number.NaN,
    '01',
    '+1',
    '-0',
    '1.0',
    '1e3',
    ' 1',
    '1\n',
    '',
    '0x1',
    null,
    undefined,
    true,
    {},
    '１',
  ]
  for (const value of wrong) expect(key('integer', value), JSON.stringify(value)).toBeUndefined()
})

it('writes a uuid as its 16 bytes, whatever its case', () => {
  expect(key('uuid', UUID)).toBe('b5a1f6de3f7c4ac39a2e4f0a8b0b5f01')
  expect(key('uuid', UUID.toLowerCase())).toBe(key('uuid', UUID.toUpperCase()))
  for (const value of [UUID.replaceAll('-', ''), `{${UUID}}`, `${UUID} `, UUID.slice(1), 7, null])
    expect(key('uuid', value)).toBeUndefined()
})

it('writes an ObjectId as its 12 bytes, as an object of any copy of bson or as hex', () => {
  const text = '65a1f6de3f7c4ac39a2e4f0a'
  expect(key('objectid', { toHexString: () => text })).toBe(text)
  expect(key('objectid', text.toUpperCase())).toBe(text)
  for (const value of [text.slice(1), { toHexString: () => 7 }, {}, 12, null])
    expect(key('objectid', value)).toBeUndefined()
})

it('writes strings byte by byte', () => {
  expect(key('string', 'é')).toBe('c3a9')
  expect(key('string', 'É')).not.toBe(key('string', 'é'))
  expect(key('string', '')).toBe('')
  for (const value of ['\ud800', 1, null]) expect(key('string', value)).toBeUndefined()
})

it('leaves rows with any other kind of key unbound', () => {
  expect(key('other', 'x')).toBeUndefined()
  expect(
    rowIdOf([
      { kind: 'uuid', value: UUID },
      { kind: 'other', value: 1 },
    ]),
  ).toBeUndefined()
  expect(
    rowIdOf([
      { kind: 'uuid', value: UUID },
      { kind: 'integer', value: undefined },
    ]),
  ).toBeUndefined()
  expect(rowIdOf([])).toBeUndefined()
})

it('tells kinds and columns apart: LP of LP(kind, bytes), even for one column', () => {
  expect(hex(rowIdOf([{ kind: 'integer', value: 7 }]))).toBe('0001' + '0000000c' + '0002' + '0000000101' + '0000000137')
  const ids = [
    rowIdOf([{ kind: 'integer', value: '1' }]),
    rowIdOf([{ kind: 'string', value: '1' }]),
    rowIdOf([
      { kind: 'string', value: '1' },
      { kind: 'string', value: '' },
    ]),
    rowIdOf([
      { kind: 'string', value: '' },
      { kind: 'string', value: '1' },
    ]),
  ]
  expect(new Set(ids.map(hex)).size).toBe(4)
})

it('is injective for keys of two columns', () => {
  const column = fc.oneof(
    fc.record({ kind: fc.constant('string' as const), value: fc.string({ maxLength: 3 }) }),
    fc.record({ kind: fc.constant('integer' as const), value: fc.integer() }),
  )
  fc.assert(
    fc.property(column, column, column, column, (a, b, c, d) => {
      const same = JSON.stringify([a, b]) === JSON.stringify([c, d])
      expect(hex(rowIdOf([a, b])) === hex(rowIdOf([c, d]))).toBe(same)
    }),
  )
})

it('sorts columns by the bytes of their names, in whatever order they are declared', () => {
  const facts = (paths: string[]) => {
    const { map, as, host } = clinic(
      {},
      { ...PATIENTS, rowKey: paths.map((path) => ({ path, kind: 'string' as const })) },
    )
    return hex(
      map.facts(
        { clinic_id: 'a', B: '1', a: '2', ü: '3' },
        as('a', () => host.capture()),
      ).rowId,
    )
  }
  expect(facts(['ü', 'a', 'B'])).toBe(facts(['B', 'a', 'ü']))
})

it('prints a row id as its key, in the order of its columns', () => {
  const oid = '65f0c0ffee0123456789abcd'
  const text = (...columns: [RowKeyKind, unknown][]) => {
    const rowId = rowIdOf(columns.map(([kind, value]) => ({ kind, value })))
    return rowId && rowIdText(rowId)
  }
  expect(text(['integer', -7], ['objectid', oid.toUpperCase()])).toBe(`int:-7,oid:${oid}`)
  expect(text(['uuid', UUID])).toBe(`uuid:${UUID.toLowerCase()}`)
  expect(text(['string', 'ä,b']), 'for people: not injective').toBe('str:ä,b')
})

it('prints different opaque keys differently', () => {
  const column = fc.oneof(
    fc.maxSafeInteger().map((value) => ({ kind: 'integer' as const, value })),
    fc.uuid().map((value) => ({ kind: 'uuid' as const, value })),
    fc.uint8Array({ minLength: 12, maxLength: 12 }).map((bytes) => ({ kind: 'objectid' as const, value: hex(bytes) })),
  )
  const keys = fc.array(column, { minLength: 1, maxLength: 3 })
  fc.assert(
    fc.property(keys, keys, (a, b) => {
      const [one, two] = [rowIdOf(a), rowIdOf(b)]
      if (one === undefined || two === undefined) throw new Error('canonical')
      expect(rowIdText(one) === rowIdText(two)).toBe(hex(one) === hex(two))
    }),
  )
})
