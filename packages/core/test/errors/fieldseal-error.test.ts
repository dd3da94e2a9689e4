import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { inspect } from 'node:util'
import { expect, it } from 'vitest'
import { ERROR_CODES, type ErrorCode, type KmsErrorCode } from '../../src/errors/codes.ts'
import { dispositionOf, FieldsealError, isFieldsealError, kmsError } from '../../src/errors/fieldseal-error.ts'

const CODES = Object.keys(ERROR_CODES) as ErrorCode[]

it('takes kind and text from the table', () => {
  const error = new FieldsealError('ERR_DECRYPT_FAILED', { model: 'patients', field: 'ssn', hint: 'look' })
  expect(error.kind).toBe('corrupt')
  expect(error.message).toBe('ERR_DECRYPT_FAILED patients.ssn: authentication failed; hint: look')
  expect(new FieldsealError('ERR_CLOSED', { reason: 'why' }).message).toBe(
    'ERR_CLOSED: this Fieldseal has been closed (why)',
  )
  expect(error.cause).toBeUndefined()
})

it('has no enumerable name of its own, which drivers copy and stumble over', () => {
  const error = new FieldsealError('ERR_CLOSED')
  expect(error.name).toBe('FieldsealError')
  expect(Object.keys(error)).not.toContain('name')
  expect(Object.isFrozen(error.details)).toBe(true)
  expect(inspect(error)).toContain('FieldsealError')
})

it('knows an error of another copy of core by its brand', () => {
  // As the CommonJS build would make it: another class, the same symbol.
  class Other extends Error {
    readonly code = 'ERR_CLOSED'
    readonly kind = 'misuse'
    static {
      Object.defineProperty(this.prototype, Symbol.for('@fieldseal/core:error'), { value: true })
    }
  }
  expect(isFieldsealError(new Other())).toBe(true)
  expect(dispositionOf(new Other())).toBe('fatal')
  for (const value of [null, undefined, 'ERR_CLOSED', new Error('x'), {}, { code: 'ERR_CLOSED', kind: 'misuse' }])
    expect(isFieldsealError(value)).toBe(false)
})

it('treats whatever is not classified as no answer', () => {
  for (const value of [new Error('x'), 'x', undefined, null]) expect(dispositionOf(value)).toBe('serve-stale')
})

it('keeps of a vendor’s error its name and request id only', () => {
  const error = kmsError(
    'ERR_KMS_ACCESS_DENIED',
    { provider: 'aws-kms', vendorCode: 'AccessDeniedException', requestId: '1' },
    500,
  )
  expect(error).toMatchObject({ kind: 'denied', retryAfterMs: 500, details: { vendorCode: 'AccessDeniedException' } })
})

it('gives every denial the kind denied and every silence the kind unavailable', () => {
  for (const code of CODES.filter((one) => one.startsWith('ERR_KMS_')) as KmsErrorCode[]) {
    const { kind, disposition, retries } = ERROR_CODES[code]
    expect(disposition === 'revoke', code).toBe(kind === 'denied')
    if (disposition === 'serve-stale') expect(kind, code).toBe('unavailable')
    if (disposition !== 'serve-stale') expect(retries, `${code}: a denial is sent once`).toBe(0)
  }
})

it('is lower case without a full stop, one line each, in every summary', () => {
  for (const code of CODES) {
    const { summary } = ERROR_CODES[code]
    expect(summary).toMatch(/^(?:[a-z]|KMS|CMK)[^\n]*[^.\n]$/)
    expect(code).toMatch(/^ERR_[A-Z]+(_[A-Z]+)*$/)
  }
})

/** All TypeScript below a folder of this package. */
function sourcesOf(folder: string): string {
  const root = path.join(import.meta.dirname, '..', '..', folder)
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  return files.map((file) => readFileSync(path.join(root, file), 'utf8')).join('\n')
}

/** Codes that only adapters throw, or that features still to come will throw. */
const NOT_CORES: ErrorCode[] = [
  'ERR_DATABASE_UNAVAILABLE',
  'ERR_INDEX_COLLISION',
  'ERR_ROWS_REMAIN',
  'ERR_KEY_NEEDED',
  'ERR_PLAN_OUTDATED',
  'ERR_PLAN_REFUSED',
  'ERR_CHECKPOINT_MISMATCH',
  'ERR_CHECKPOINT_TAKEN',
]
/** Codes that only KMS providers throw; core's own tests have fakes throw them. */
const ofProviders = (code: ErrorCode) => code.startsWith('ERR_KMS_')

it('has no code that nothing throws', () => {
  const thrown = sourcesOf('src').split('ERROR_CODES = {')
  const text = thrown.map((part) => part.replace(/ERR_\w+: row\(/g, '')).join('')
  const unused = CODES.filter((code) => !text.includes(`'${code}'`) && !ofProviders(code))
  expect(unused).toEqual(NOT_CORES)
})

it('has no code that core throws and no test expects', () => {
  const tests = sourcesOf('test')
  const untested = CODES.filter((code) => !NOT_CORES.includes(code) && !tests.includes(`'${code}'`))
  expect(untested).toEqual([])
})
