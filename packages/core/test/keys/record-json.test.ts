import fc from 'fast-check'
import { expect, it } from 'vitest'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import { recordFromJson, recordToJson } from '../../src/keys/record-json.ts'
import type { KeyStoreRecord } from '../../src/keys/records.ts'
import { directRecord, indexRecord, kekRecord } from '../support/records.ts'

const RECORDS: KeyStoreRecord[] = [kekRecord(), indexRecord(), directRecord()]
const invalid = expect.objectContaining({ code: 'ERR_KEY_RECORD_INVALID', kind: 'corrupt' })

it('gives every kind of record back, Buffers and plain byte arrays alike', () => {
  for (const record of RECORDS) expect(recordFromJson(recordToJson(record))).toEqual(record)
  const plain = kekRecord({ mac: new Uint8Array(32).fill(7) })
  expect(Buffer.from((recordFromJson(recordToJson(plain)) as typeof plain).mac)).toEqual(Buffer.alloc(32, 7))
})

it('leaves absent members absent and drops unknown ones', () => {
  const { notAfter: _n, destroyAt: _d, parent: _p, denial: _x, ...record } = kekRecord({ wraps: [] })
  expect(recordFromJson(recordToJson(record))).toEqual(record)
  expect(recordFromJson(JSON.stringify({ ...JSON.parse(recordToJson(record)), secret: 1 }))).toEqual(record)
})

it('refuses every member that is missing, of another type or out of range', () => {
  for (const record of RECORDS) {
    const json = JSON.parse(recordToJson(record)) as Record<string, unknown>
    for (const member of Object.keys(json)) {
      const optional = ['notAfter', 'destroyAt', 'parent', 'denial'].includes(member)
      const { [member]: _removed, ...without } = json
      if (!optional) expect(() => recordFromJson(JSON.stringify(without)), `no ${member}`).toThrow(invalid)
      for (const value of [null, 'unheard of', '', {}, [1], true, -1, 1.5, 1e300, 'x'.repeat(4_097)]) {
        if (typeof json[member] === typeof value && (value === true || (value === 'unheard of' && isFreeText(member))))
          continue
        expect(
          () => recordFromJson(JSON.stringify({ ...json, [member]: value })),
          `${member}: ${JSON.stringify(value)}`,
        ).toThrow(invalid)
      }
    }
  }
})

it('refuses lengths and ranges beyond the format', () => {
  const json = JSON.parse(recordToJson(kekRecord())) as Record<string, unknown> & { wraps: object[] }
  const withWrap = (change: object) => JSON.stringify({ ...json, wraps: [{ ...json.wraps[0], ...change }] })
  const bytes = (length: number) => Buffer.alloc(length, 1).toString('base64url')
  recordFromJson(withWrap({ blob: bytes(6_144) }))
  recordFromJson(withWrap({ keyVersion: 'x'.repeat(64) }))
  const wrong = [
    withWrap({ blob: bytes(6_145) }),
    withWrap({ blob: '' }),
    withWrap({ blob: 'AA==' }),
    withWrap({ blob: 'AB' }), // non-zero tail bits
    withWrap({ keyVersion: 'x'.repeat(65) }),
    JSON.stringify({ ...json, mac: bytes(31) }),
    JSON.stringify({ ...json, mac: bytes(33) }),
    JSON.stringify({ ...json, version: 0 }),
    JSON.stringify({ ...json, version: 2 ** 32 }),
    JSON.stringify({ ...json, revision: 0 }),
    JSON.stringify({ ...json, wraps: Array.from({ length: 17 }, () => json.wraps[0]) }),
    JSON.stringify({ ...JSON.parse(recordToJson(indexRecord())), epoch: 256 }),
    JSON.stringify({ ...JSON.parse(recordToJson(indexRecord())), epoch: 0 }),
    JSON.stringify({ ...json, id: 'AB'.repeat(12) }),
  ]
  for (const text of wrong) expect(() => recordFromJson(text), text).toThrow(invalid)
})

it('takes nothing from a prototype', () => {
  const json = { ...JSON.parse(recordToJson(kekRecord())), state: undefined } as object
  expect(() => recordFromJson(JSON.stringify(json).replace(/}$/, ',"__proto__":{"state":"active"}}'))).toThrow(invalid)
})

it('is total: any text gives a record or ERR_KEY_RECORD_INVALID', () => {
  const valid = RECORDS.map((record) => recordToJson(record))
  const edited = fc
    .tuple(fc.constantFrom(...valid), fc.nat(), fc.nat(3), fc.string({ maxLength: 3 }))
    .map(([text, at, cut, insert]) => text.slice(0, at % text.length) + insert + text.slice((at % text.length) + cut))
  const members = fc.tuple(fc.constantFrom(...valid), fc.nat(30), fc.jsonValue()).map(([text, at, value]) => {
    const json = JSON.parse(text) as Record<string, unknown>
    const names = Object.keys(json)
    return JSON.stringify({ ...json, [names[at % names.length] ?? 'id']: value })
  })
  let records = 0
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), edited, members), (text) => {
      try {
        recordToJson(recordFromJson(text))
        records++
      } catch (error) {
        expect(isFieldsealError(error) && error.code).toBe('ERR_KEY_RECORD_INVALID')
      }
    }),
    { numRuns: 3_000 },
  )
  expect(records).toBeGreaterThan(20)
})

function isFreeText(member: string): boolean {
  return ['app', 'tenant', 'keyspace', 'provider', 'uri', 'model', 'index', 'normalizer'].includes(member)
}
