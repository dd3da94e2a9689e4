import { fromTemporaryCredentials } from '@aws-sdk/credential-providers'
import { ERROR_CODES } from '@fieldseal/core/adapter'
import type { Cmk } from '@fieldseal/core/kms'
import { startAwsKms } from '@fieldseal/kms-emulators'
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
import { describe, expect, it } from 'vitest'
import { awsCodeOf, awsKms } from '../src/index.ts'
import { useAws } from './support/aws.ts'

const aws = useAws()

const fail =
  (type: string, message = '', status = 400) =>
  () =>
    void aws.emulator.fail(type, { message, status })

/** The rows of the error table that AWS can answer, in its order. */
const ROWS: readonly ErrorRow[] = [
  {
    row: 2,
    when: 'nobody answers within the deadline',
    arrange: () => void aws.emulator.hang(),
    code: 'ERR_KMS_TIMEOUT',
    ...noAnswer,
  },
  {
    row: 3,
    when: 'the connection is cut before the answer',
    arrange: () => void aws.emulator.drop(),
    code: 'ERR_KMS_NETWORK',
    ...noAnswer,
  },
  {
    row: 3,
    when: 'the connection is cut in the middle of the answer',
    arrange: () => void aws.emulator.drop({ when: 'midway' }),
    code: 'ERR_KMS_NETWORK',
    ...noAnswer,
  },
  ...[
    'ExpiredTokenException',
    'UnrecognizedClientException',
    'InvalidClientTokenId',
    'MissingAuthenticationTokenException',
    'IncompleteSignature',
  ].map((name) => ({
    row: 6,
    when: `AWS answers ${name}`,
    arrange: fail(name),
    code: 'ERR_KMS_OPERATOR_CREDENTIALS' as const,
    ...noAnswer,
  })),
  {
    row: 7,
    when: 'our clock is an hour off',
    arrange: () => void (aws.emulator.clockOffsetMs = 3_600_000),
    code: 'ERR_KMS_CLOCK_SKEW',
    ...noAnswer,
  },
  {
    row: 7,
    when: 'the signature is wrong for another reason',
    arrange: fail('InvalidSignatureException', 'does not match'),
    code: 'ERR_KMS_OPERATOR_CREDENTIALS',
    ...noAnswer,
  },
  {
    row: 8,
    when: 'the key policy denies',
    arrange: (key) => void aws.emulator.deny({ key }),
    code: 'ERR_KMS_ACCESS_DENIED',
    ...denied,
  },
  {
    row: 9,
    when: 'a disabled key is pending deletion',
    arrange: fail('DisabledException', 'arn is pending deletion.'),
    code: 'ERR_KMS_KEY_PENDING_DELETION',
    ...denied,
  },
  {
    row: 10,
    when: 'the key is disabled',
    arrange: (key) => aws.emulator.disable(key),
    code: 'ERR_KMS_KEY_DISABLED',
    ...denied,
  },
  {
    row: 11,
    when: 'the key is pending deletion',
    arrange: (key) => aws.emulator.scheduleDeletion(key),
    code: 'ERR_KMS_KEY_PENDING_DELETION',
    ...denied,
  },
  {
    row: 11,
    when: 'the replica is pending deletion',
    arrange: fail('KMSInvalidStateException', 'arn is pending replica deletion.'),
    code: 'ERR_KMS_KEY_PENDING_DELETION',
    ...denied,
  },
  {
    row: 12,
    when: 'imported material is gone',
    arrange: (key) => aws.emulator.setState(key, 'PendingImport'),
    code: 'ERR_KMS_KEY_PENDING_IMPORT',
    ...denied,
  },
  {
    row: 13,
    when: 'the key is being created',
    arrange: (key) => aws.emulator.setState(key, 'Creating'),
    code: 'ERR_KMS_UNAVAILABLE',
    ...noAnswer,
  },
  {
    row: 14,
    when: 'the external key manager denies',
    arrange: (key) => aws.emulator.setState(key, 'Unavailable', 'The external key store proxy denied: access denied.'),
    code: 'ERR_KMS_EXTERNAL_KEY_DENIED',
    ...denied,
  },
  {
    row: 14,
    when: 'the external key manager does not answer',
    arrange: (key) => aws.emulator.setState(key, 'Unavailable'),
    code: 'ERR_KMS_EXTERNAL_KEY_UNREACHABLE',
    ...noAnswer,
  },
  {
    row: 15,
    when: 'the key does not exist',
    arrange: (key) => aws.emulator.destroy(key),
    code: 'ERR_KMS_KEY_NOT_FOUND',
    ...denied,
  },
  ...[
    'InvalidKeyUsageException',
    'InvalidGrantTokenException',
    'ValidationException',
    'InvalidArnException',
    'UnsupportedOperationException',
    'SerializationException',
  ].map((name) => ({
    row: 18,
    when: `AWS answers ${name}`,
    arrange: fail(name),
    code: 'ERR_KMS_CONFIG' as const,
    ...fatal,
  })),
  {
    row: 19,
    when: 'AWS throttles',
    arrange: () => void aws.emulator.throttle(),
    code: 'ERR_KMS_THROTTLED',
    ...repeated,
  },
  {
    row: 19,
    when: 'AWS answers 429 under an unknown name',
    arrange: fail('SomethingNew', '', 429),
    code: 'ERR_KMS_THROTTLED',
    ...repeated,
  },
  {
    row: 20,
    when: 'a quota of resources is used up',
    arrange: fail('LimitExceededException'),
    code: 'ERR_KMS_CONFIG',
    ...fatal,
  },
  ...(
    [
      'KeyUnavailableException',
      'DependencyTimeoutException',
      'KMSInternalException',
      'ServiceUnavailableException',
      'SomethingNew',
    ] as const
  ).map((name) => ({
    row: 21,
    when: `AWS answers ${name} with 500`,
    arrange: fail(name, '', 500),
    code: 'ERR_KMS_UNAVAILABLE' as const,
    ...noAnswer,
  })),
  {
    row: 67,
    when: 'AWS answers what nobody knows',
    arrange: fail('SomethingNew'),
    code: 'ERR_KMS_UNKNOWN',
    ...noAnswer,
    retries: 0,
  },
]

describe('error table', () => {
  errorTable(aws, ROWS)

  it('row 3: ERR_KMS_NETWORK when nobody listens or the name does not resolve', async () => {
    for (const endpoint of ['http://127.0.0.1:9', 'http://kms.invalid']) {
      const { cmk } = aws.cmk({ endpoint })
      expect(await failure(cmk.wrap(newKey(), request()))).toMatchObject({ code: 'ERR_KMS_NETWORK' })
    }
  })

  it('row 4: ERR_KMS_CONFIG when the certificate is not to be trusted', async () => {
    const stranger = await startAwsKms({ tls: true })
    try {
      const { cmk } = aws.cmk({ endpoint: stranger.endpoint })
      expect(await failure(cmk.wrap(newKey(), request()))).toMatchObject({ code: 'ERR_KMS_CONFIG', kind: 'misuse' })
    } finally {
      await stranger.stop()
    }
  })

  it('row 5: ERR_KMS_TENANT_CREDENTIALS_DENIED when the tenant takes its role away, and row 6 when our own credentials fail', async () => {
    const role = 'arn:aws:iam::444455556666:role/fieldseal'
    aws.emulator.createRole(role, { externalId: 'ours', trusts: () => false })
    const port = (masterCredentials: { accessKeyId: string; secretAccessKey: string }): Cmk => {
      const { endpoint, region } = aws.emulator.clientOptions()
      const credentials = fromTemporaryCredentials({
        masterCredentials,
        clientConfig: { endpoint, region, maxAttempts: 1 },
        params: { RoleArn: role, ExternalId: 'ours', RoleSessionName: 'fieldseal-7', DurationSeconds: 900 },
      })
      return aws.kms().cmk(aws.emulator.createKey(), { credentialScope: 'clinic-7', credentials })
    }
    expect(await failure(port(aws.emulator.credentials()).wrap(newKey(), request()))).toMatchObject({
      code: 'ERR_KMS_TENANT_CREDENTIALS_DENIED',
      kind: 'denied',
      details: { vendorCode: 'AccessDenied' },
    })
    const unknown = { accessKeyId: 'AKIAUNKNOWN', secretAccessKey: 'x' }
    expect(await failure(port(unknown).wrap(newKey(), request()))).toMatchObject({
      code: 'ERR_KMS_OPERATOR_CREDENTIALS',
      kind: 'unavailable',
    })
    const provider = () => Promise.reject(Object.assign(new Error('no'), { name: 'CredentialsProviderError' }))
    const cmk = aws.kms({ credentials: provider }).cmk(aws.emulator.createKey())
    expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_OPERATOR_CREDENTIALS')
  })

  it('rows 16 and 17: another key and another context are corrupt, and leave the cache alone', async () => {
    const { cmk } = aws.cmk()
    const { cmk: other } = aws.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    const wrongKey = await failure(other.unwrap(wrap, request()))
    const wrongContext = await failure(cmk.unwrap(wrap, request({ context: { tenant: 'clinic-8' } })))
    expect([wrongKey.code, wrongContext.code]).toEqual(['ERR_KMS_WRONG_KEY', 'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID'])
    expect(ERROR_CODES.ERR_KMS_WRONG_KEY).toMatchObject(bad)
    expect(ERROR_CODES.ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID).toMatchObject(bad)
  })

  it('row 6: fetches new credentials for the next attempt when AWS refuses those at hand', async () => {
    const role = 'arn:aws:iam::444455556666:role/short'
    aws.emulator.createRole(role)
    const { endpoint, region, credentials: masterCredentials } = aws.emulator.clientOptions()
    const credentials = fromTemporaryCredentials({
      masterCredentials,
      clientConfig: { endpoint, region, maxAttempts: 1 },
      params: { RoleArn: role, RoleSessionName: 'fieldseal-7', DurationSeconds: 900 },
    })
    const cmk = aws.kms().cmk(aws.emulator.createKey(), { credentialScope: 'short', credentials })
    await cmk.wrap(newKey(), request())
    aws.emulator.expireCredentials(role)
    expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_OPERATOR_CREDENTIALS')
    await cmk.wrap(newKey(), request())
    expect(aws.emulator.calls.filter(({ operation }) => operation === 'AssumeRole')).toHaveLength(2)
  })

  it('recovers from a clock that is off at the next attempt', async () => {
    const { cmk } = aws.cmk()
    aws.emulator.clockOffsetMs = 3_600_000
    expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_CLOCK_SKEW')
    await cmk.wrap(newKey(), request())
  })
})

describe('awsCodeOf', () => {
  knowsEveryError(awsCodeOf, [])

  it('is pure: it knows nothing but the error', () => {
    expect(awsCodeOf({ name: 'DisabledException', message: 'x is disabled.' })).toBe('ERR_KMS_KEY_DISABLED')
    expect(awsCodeOf({ name: 'Error', code: 'ERR_TLS_CERT_ALTNAME_INVALID' })).toBe('ERR_KMS_CONFIG')
    expect(awsCodeOf(awsKms)).toBe('ERR_KMS_UNKNOWN')
  })
})
