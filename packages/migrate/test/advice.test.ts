import { FieldsealError } from '@fieldseal/core'
import { expect, it } from 'vitest'
import { advised } from '../src/report/advice.ts'

const coded = (code: unknown, name = 'error') => Object.assign(new Error('x'), { code, name })

it.each([
  [coded('53100'), /disk is full.*make room/],
  [coded(14_031, 'MongoServerError'), /disk is full/],
  [coded('57014'), /time limit.*statement_timeout/],
  [coded(50, 'MongoServerError'), /time limit/],
  [coded('40001'), /others write/],
  [coded('40P01'), /others write/],
  [coded('53300'), /no more connections/],
  [coded('53200'), /lacks memory/],
  [coded('25006'), /read-only.*primary/],
  [coded('58030'), /files.*log/],
  [coded('57P01'), /restarting/],
  [coded(11_600, 'MongoServerError'), /restarting/],
  [coded('08006'), /connection failed/],
  [coded('08P01'), /pooler.*log/],
  [coded('ECONNRESET'), /connection failed/],
  [new AggregateError([coded('ECONNREFUSED')]), /connection failed/],
  [Object.assign(coded('ECONNREFUSED'), { address: '127.0.0.1', port: 5432 }), /connection to 127.0.0.1:5432 failed/],
  [Object.assign(coded('ENOTFOUND'), { hostname: 'db.example' }), /connection to db.example failed/],
  [coded(undefined, 'MongoNetworkTimeoutError'), /connection failed/],
  [coded(undefined, 'QueryRunnerAlreadyReleasedError'), /connection failed/],
  [new Error('Connection terminated unexpectedly'), /connection failed/],
])('tells what a database failed with, and what to do: %o', (error, told) => {
  const ours = advised(error, 'rewrap')
  expect(ours).toMatchObject({
    code: 'ERR_DATABASE_UNAVAILABLE',
    kind: 'unavailable',
    details: { operation: 'rewrap' },
  })
  expect(String(ours)).toMatch(told)
  expect(String(ours)).toMatch(/run the same command again/)
})

it('says what to do about keys and key stores too, and leaves a hint that is there', () => {
  const full = advised(new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', { vendorCode: '53100' }))
  expect(String(full)).toMatch(/ERR_KEY_STORE_UNAVAILABLE.*disk is full.*make room/)
  expect(String(advised(new FieldsealError('ERR_KMS_TIMEOUT')))).toMatch(/see that it runs/)
  expect(String(advised(new FieldsealError('ERR_KMS_ACCESS_DENIED')))).toMatch(/have its owner allow it/)
  expect(String(advised(new FieldsealError('ERR_KEY_RECORD_INVALID')))).toMatch(/restore the record/)
  for (const code of ['ERR_TENANT_UNKNOWN', 'ERR_KEY_RETIRED'] as const)
    expect(String(advised(new FieldsealError(code)))).not.toMatch(/owner/) // of whom nobody can be asked
  const hinted = new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', { hint: 'mine' })
  expect(advised(hinted)).toBe(hinted)
})

it('leaves alone what is no failure of a service', () => {
  for (const error of [
    new Error('x'),
    coded('23505'),
    coded(7, 'GrpcError'),
    new DOMException('x', 'AbortError'),
    new FieldsealError('ERR_DECRYPT_FAILED'),
    'x',
  ])
    expect(advised(error)).toBe(error)
})
