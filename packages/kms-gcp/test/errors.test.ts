import { ERROR_CODES } from '@fieldseal/core/adapter'
import { startGcpKms } from '@fieldseal/kms-emulators'
import {
  bad,
  denied,
  type ErrorRow,
  errorTable,
  failure,
  fatal,
  knowsEveryError,
  newKey,
  noAnswer,
  repeated,
  request,
} from '@fieldseal/kms-emulators/vitest'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { gcpCodeOf } from '../src/index.ts'
import { useGcp } from './support/gcp.ts'

const gcp = useGcp()

type Failing = Parameters<typeof gcp.emulator.fail>

const fail =
  (code: Failing[0], options: NonNullable<Failing[1]> = {}) =>
  () =>
    gcp.emulator.fail(code, options)
const violated = (...types: readonly string[]) =>
  fail('FAILED_PRECONDITION', { violations: types.map((type) => ({ type, subject: 'key' })) })

/** The rows of the error table that Google can answer, in its order. */
const ROWS: readonly ErrorRow[] = [
  {
    row: 2,
    when: 'nobody answers within the deadline',
    arrange: () => gcp.emulator.hang(),
    code: 'ERR_KMS_TIMEOUT',
    ...noAnswer,
  },
  { row: 3, when: 'the connection is cut', arrange: () => gcp.emulator.drop(), code: 'ERR_KMS_NETWORK', ...noAnswer },
  {
    row: 23,
    when: 'our token is refused',
    arrange: fail('UNAUTHENTICATED'),
    code: 'ERR_KMS_OPERATOR_CREDENTIALS',
    ...noAnswer,
  },
  ...['SERVICE_DISABLED', 'BILLING_DISABLED', 'CONSUMER_INVALID'].map((reason) => ({
    row: 24,
    when: `the project of the key answers ${reason}`,
    arrange: fail('PERMISSION_DENIED', { reason }),
    code: 'ERR_KMS_ACCESS_DENIED' as const,
    ...denied,
  })),
  {
    row: 25,
    when: 'our own quota project is refused',
    arrange: fail('PERMISSION_DENIED', { reason: 'USER_PROJECT_DENIED' }),
    code: 'ERR_KMS_CONFIG',
    ...fatal,
  },
  {
    row: 26,
    when: 'IAM denies',
    arrange: (key) => gcp.emulator.deny({ key }),
    code: 'ERR_KMS_ACCESS_DENIED',
    ...denied,
  },
  { row: 27, when: 'there is no such key', arrange: fail('NOT_FOUND'), code: 'ERR_KMS_KEY_NOT_FOUND', ...denied },
  {
    row: 28,
    when: 'the version is disabled',
    arrange: (key) => gcp.emulator.disable(key),
    code: 'ERR_KMS_KEY_DISABLED',
    ...denied,
  },
  {
    row: 29,
    when: 'the version is scheduled for destruction',
    arrange: (key) => gcp.emulator.scheduleDeletion(key),
    code: 'ERR_KMS_KEY_PENDING_DELETION',
    ...denied,
  },
  {
    row: 29,
    when: 'the version is destroyed',
    arrange: (key) => gcp.emulator.destroy(key),
    code: 'ERR_KMS_KEY_DESTROYED',
    ...denied,
  },
  {
    row: 29,
    when: 'only the text tells that it is destroyed',
    arrange: fail('FAILED_PRECONDITION', { message: 'x is not enabled, current state is: DESTROYED.' }),
    code: 'ERR_KMS_KEY_DESTROYED',
    ...denied,
  },
  ...['EXTERNAL_PERMISSION_DENIED', 'EXTERNAL_KEY_NOT_FOUND', 'EXTERNAL_JUSTIFICATION_DENIED'].map((type) => ({
    row: 30,
    when: `the external key manager answers ${type}`,
    arrange: violated('EXTERNAL_KEY_ERROR', type),
    code: 'ERR_KMS_EXTERNAL_KEY_DENIED' as const,
    ...denied,
  })),
  {
    row: 31,
    when: 'the external key manager does not answer',
    arrange: violated('EXTERNAL_KEY_ERROR', 'EXTERNAL_RESOURCE_UNREACHABLE'),
    code: 'ERR_KMS_EXTERNAL_KEY_UNREACHABLE',
    ...noAnswer,
  },
  {
    row: 32,
    when: 'the version is still being made',
    arrange: (key) => gcp.emulator.setState(key, 'PENDING_GENERATION'),
    code: 'ERR_KMS_UNAVAILABLE',
    ...noAnswer,
  },
  {
    row: 32,
    when: 'the version is still being imported',
    arrange: (key) => gcp.emulator.setState(key, 'PENDING_IMPORT'),
    code: 'ERR_KMS_UNAVAILABLE',
    ...noAnswer,
  },
  {
    row: 33,
    when: 'a precondition fails that nobody knows',
    arrange: violated('SOMETHING_NEW'),
    code: 'ERR_KMS_UNAVAILABLE',
    ...noAnswer,
  },
  {
    row: 34,
    when: 'Google finds our checksum wrong',
    arrange: fail('INVALID_ARGUMENT', {
      message: 'The checksum in field ciphertext_crc32c did not match the data in field ciphertext.',
    }),
    code: 'ERR_KMS_INTEGRITY_FAILED',
    ...repeated,
  },
  {
    row: 35,
    when: 'the ciphertext is invalid',
    arrange: fail('INVALID_ARGUMENT', { message: 'Decryption failed: the ciphertext is invalid.' }),
    code: 'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID',
    ...bad,
  },
  ...(['INVALID_ARGUMENT', 'OUT_OF_RANGE', 'UNIMPLEMENTED'] as const).map((code) => ({
    row: 36,
    when: `Google answers ${code}`,
    arrange: fail(code),
    code: 'ERR_KMS_CONFIG' as const,
    ...fatal,
  })),
  { row: 37, when: 'Google throttles', arrange: () => gcp.emulator.throttle(), code: 'ERR_KMS_THROTTLED', ...repeated },
  {
    row: 38,
    when: 'Google answers DEADLINE_EXCEEDED',
    arrange: fail('DEADLINE_EXCEEDED'),
    code: 'ERR_KMS_TIMEOUT',
    ...noAnswer,
  },
  ...(['CANCELLED', 'UNKNOWN', 'ABORTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS'] as const).map((code) => ({
    row: 38,
    when: `Google answers ${code}`,
    arrange: fail(code),
    code: 'ERR_KMS_UNAVAILABLE' as const,
    ...noAnswer,
  })),
  {
    row: 67,
    when: 'Google answers what nobody knows',
    arrange: fail('ALREADY_EXISTS'),
    code: 'ERR_KMS_UNKNOWN',
    ...noAnswer,
    retries: 0,
  },
]

describe('error table', () => {
  errorTable(gcp, ROWS)

  it('row 3: ERR_KMS_NETWORK when nobody listens', async () => {
    const kms = gcp.kms({ clientOptions: { port: 9 } })
    const cmk = kms.cmk(gcp.emulator.createKey())
    expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_NETWORK')
    await kms.close?.()
  })

  it('row 4: ERR_KMS_CONFIG when the certificate is not to be trusted', async () => {
    const stranger = await startGcpKms({ tls: true })
    const { apiEndpoint, port } = stranger.clientOptions()
    const authClient = stranger.authClient('app@operator.iam.gserviceaccount.com')
    const { gcpKms } = await import('../src/index.ts')
    const kms = gcpKms({ clientOptions: { apiEndpoint, port, authClient } })
    expect((await failure(kms.cmk(stranger.createKey()).wrap(newKey(), request()))).code).toBe('ERR_KMS_CONFIG')
    await kms.close?.()
    await stranger.stop()
  })

  it('row 35: another key, another context and an altered blob are corrupt, and leave the cache alone', async () => {
    const { cmk } = gcp.cmk()
    const { cmk: other } = gcp.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    const altered = { ...wrap, blob: wrap.blob.map((byte, i) => (i === 40 ? byte ^ 1 : byte)) }
    const context = { tenant: 'clinic-8' }
    for (const work of [
      other.unwrap(wrap, request()),
      cmk.unwrap(wrap, request({ context })),
      cmk.unwrap(altered, request()),
    ])
      expect((await failure(work)).code).toBe('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID')
  })
})

describe('gcpCodeOf', () => {
  knowsEveryError(gcpCodeOf, [9, { code: -1 }, { code: Number.NaN }, { code: '7' }])

  it('knows a code for any status with any details', () => {
    const codes = Object.keys(ERROR_CODES)
    fc.assert(
      fc.property(fc.integer(), fc.anything(), (code, statusDetails) =>
        codes.includes(gcpCodeOf({ code, statusDetails })),
      ),
    )
  })
})
