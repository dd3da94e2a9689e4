import { setTimeout as sleep } from 'node:timers/promises'
import {
  CreateAliasCommand,
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  KMSClient,
  ReEncryptCommand,
  RotateKeyOnDemandCommand,
  ScheduleKeyDeletionCommand,
} from '@aws-sdk/client-kms'
import { fromTemporaryCredentials } from '@aws-sdk/credential-providers'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { type AwsKmsEmulator, startAwsKms } from '../src/index.ts'

let aws: AwsKmsEmulator
let kms: KMSClient
beforeAll(async () => {
  aws = await startAwsKms()
  kms = new KMSClient(aws.clientOptions())
})
afterEach(() => {
  aws.restore()
  aws.clockOffsetMs = 0
})
afterAll(() => aws.stop())

const context = { tenant: 'clinic-7', kek: '01' }
const nameOf = (work: Promise<unknown>) =>
  work.then(
    () => 'ok',
    (error: Error) => error.name,
  )
const encrypt = (KeyId: string, EncryptionContext: Record<string, string> = context) =>
  kms.send(new EncryptCommand({ KeyId, Plaintext: Buffer.from('x'.repeat(32)), EncryptionContext }))

it('decrypts what it encrypted under the same context in any order, and says which key did it', async () => {
  const key = aws.createKey()
  const { CiphertextBlob, KeyId } = await encrypt(key)
  expect(KeyId).toBe(key)
  const answer = await kms.send(
    new DecryptCommand({ CiphertextBlob, EncryptionContext: { kek: '01', tenant: 'clinic-7' } }),
  )
  expect(Buffer.from(answer.Plaintext ?? []).toString()).toBe('x'.repeat(32))
  expect(answer.KeyId).toBe(key)
  expect(answer.KeyMaterialId).toMatch(/^[0-9a-f]{64}$/)
})

it('tells contexts apart that hold the same characters cut elsewhere', async () => {
  const { CiphertextBlob } = await encrypt(aws.createKey(), { a: '1', b: '2' })
  for (const EncryptionContext of [{ a: '1b2' }, { a: '1', b: '3' }, { a: '1' }, { a: '1', b: '2', c: '' }, {}]) {
    expect(await nameOf(kms.send(new DecryptCommand({ CiphertextBlob, EncryptionContext })))).toBe(
      'InvalidCiphertextException',
    )
  }
})

it('refuses the name of another key, a flipped bit and more than 4096 bytes', async () => {
  const key = aws.createKey()
  const { CiphertextBlob = new Uint8Array(0) } = await encrypt(key)
  const open = (KeyId: string, blob: Uint8Array) =>
    nameOf(kms.send(new DecryptCommand({ KeyId, CiphertextBlob: blob, EncryptionContext: context })))
  expect(await open(aws.createKey(), CiphertextBlob)).toBe('IncorrectKeyException')
  expect(
    await open(
      key,
      CiphertextBlob.map((byte, i) => (i === CiphertextBlob.length - 1 ? byte ^ 1 : byte)),
    ),
  ).toBe('InvalidCiphertextException')
  const tooLong = new EncryptCommand({ KeyId: key, Plaintext: new Uint8Array(4_097) })
  expect(await nameOf(kms.send(tooLong))).toBe('ValidationException')
})

it('reports new key material after a rotation and still decrypts what older material made', async () => {
  const key = aws.createKey()
  const before = await kms.send(new GenerateDataKeyCommand({ KeyId: key, KeySpec: 'AES_256' }))
  await kms.send(new RotateKeyOnDemandCommand({ KeyId: key }))
  const after = await kms.send(new GenerateDataKeyCommand({ KeyId: key, KeySpec: 'AES_256' }))
  expect(after.KeyMaterialId).not.toBe(before.KeyMaterialId)
  const opened = await kms.send(new DecryptCommand({ CiphertextBlob: before.CiphertextBlob }))
  expect(opened.KeyMaterialId).toBe(before.KeyMaterialId)
  const { KeyMetadata } = await kms.send(new DescribeKeyCommand({ KeyId: key }))
  expect(KeyMetadata?.CurrentKeyMaterialId).toBe(after.KeyMaterialId)
  const moved = await kms.send(new ReEncryptCommand({ CiphertextBlob: before.CiphertextBlob, DestinationKeyId: key }))
  expect([moved.SourceKeyMaterialId, moved.DestinationKeyMaterialId]).toEqual([
    before.KeyMaterialId,
    after.KeyMaterialId,
  ])
})

it('refuses to use a key in any state but enabled', async () => {
  const key = aws.createKey()
  const { CiphertextBlob } = await encrypt(key)
  const open = () => nameOf(kms.send(new DecryptCommand({ CiphertextBlob, EncryptionContext: context })))
  aws.disable(key)
  expect(await open()).toBe('DisabledException')
  expect(await nameOf(encrypt(key))).toBe('DisabledException')
  for (const state of ['PendingImport', 'Creating', 'Unavailable'] as const) {
    aws.setState(key, state)
    expect(await open()).toBe('KMSInvalidStateException')
  }
  aws.enable(key)
  const { DeletionDate } = await kms.send(new ScheduleKeyDeletionCommand({ KeyId: key, PendingWindowInDays: 7 }))
  expect(DeletionDate?.getTime()).toBeGreaterThan(Date.now() + 6 * 86_400_000)
  expect(await open()).toBe('KMSInvalidStateException')
  aws.destroy(key)
  expect(await nameOf(encrypt(key))).toBe('NotFoundException')
})

it('resolves aliases, follows a moved one, and knows replicas of a multi-Region key', async () => {
  const [one, two] = [aws.createKey(), aws.createKey()]
  await kms.send(new CreateAliasCommand({ AliasName: 'alias/moves', TargetKeyId: one }))
  expect((await encrypt('alias/moves')).KeyId).toBe(one)
  aws.alias('alias/moves', two)
  expect((await encrypt('arn:aws:kms:eu-west-1:111122223333:alias/moves')).KeyId).toBe(two)

  const home = aws.createKey({ replicas: ['us-east-1'] })
  const { CiphertextBlob } = await encrypt(home)
  const abroad = new KMSClient({ ...aws.clientOptions(), region: 'us-east-1' })
  const KeyId = home.replace('eu-west-1', 'us-east-1')
  const answer = await abroad.send(new DecryptCommand({ KeyId, CiphertextBlob, EncryptionContext: context }))
  expect(answer.KeyId).toBe(KeyId)
  const asked = abroad.send(new DecryptCommand({ KeyId: one, CiphertextBlob }))
  expect(await nameOf(asked)).toBe('NotFoundException')
})

it('denies by principal, key and context, and tells a dry run from the real thing', async () => {
  const key = aws.createKey()
  const other = new KMSClient(aws.clientOptions('arn:aws:iam::111122223333:role/other'))
  aws.policy(({ context: pairs, operation }) =>
    operation === 'DescribeKey' || pairs?.['tenant'] === 'clinic-7' ? 'allow' : 'deny',
  )
  aws.deny({ principal: 'arn:aws:iam::111122223333:role/other' })
  expect(await nameOf(encrypt(key))).toBe('ok')
  expect(await nameOf(encrypt(key, { tenant: 'clinic-8' }))).toBe('AccessDeniedException')
  expect(await nameOf(other.send(new DescribeKeyCommand({ KeyId: key })))).toBe('AccessDeniedException')
  const dry = new EncryptCommand({ KeyId: key, Plaintext: Buffer.from('x'), EncryptionContext: context, DryRun: true })
  expect(await nameOf(kms.send(dry))).toBe('DryRunOperationException')
})

it('lets a change take effect later, as eventual consistency does', async () => {
  const key = aws.createKey({ afterMs: 60 })
  expect(await nameOf(encrypt(key))).toBe('NotFoundException')
  await expect.poll(() => nameOf(encrypt(key))).toBe('ok')
  aws.disable(key, { afterMs: 60 })
  expect(await nameOf(encrypt(key))).toBe('ok')
  await expect.poll(() => nameOf(encrypt(key))).toBe('DisabledException')
})

it('assumes a role only with its ExternalId and logs what the role did', async () => {
  const role = 'arn:aws:iam::444455556666:role/fieldseal'
  aws.createRole(role, { externalId: 'ours' })
  const key = aws.createKey({ account: '444455556666' })
  const clientAs = (ExternalId: string) => {
    const { credentials: masterCredentials, endpoint, region } = aws.clientOptions()
    const params = { RoleArn: role, ExternalId, RoleSessionName: 'fieldseal-7', DurationSeconds: 900 }
    const credentials = fromTemporaryCredentials({
      masterCredentials,
      params,
      clientConfig: { endpoint, region, maxAttempts: 1 },
    })
    return new KMSClient({ ...aws.clientOptions(), credentials })
  }
  aws.forgetCalls()
  await clientAs('ours').send(
    new EncryptCommand({ KeyId: key, Plaintext: Buffer.from('x'), EncryptionContext: context }),
  )
  expect(aws.calls.map(({ operation, principal, outcome }) => [operation, principal, outcome])).toEqual([
    ['AssumeRole', 'arn:aws:iam::111122223333:role/app', 'ok'],
    ['Encrypt', role, 'ok'],
  ])
  expect(aws.calls[1]).toMatchObject({ key, context, keyVersion: expect.stringMatching(/^[0-9a-f]{64}$/) })
  expect(await nameOf(clientAs('theirs').send(new EncryptCommand({ KeyId: key, Plaintext: Buffer.from('x') })))).toBe(
    'AccessDenied',
  )
})

it('refuses a wrong signature, expired and unknown credentials, and a clock that is off', async () => {
  const key = aws.createKey()
  const send = (credentials: { accessKeyId: string; secretAccessKey: string }) =>
    nameOf(new KMSClient({ ...aws.clientOptions(), credentials }).send(new DescribeKeyCommand({ KeyId: key })))
  const good = aws.credentials()
  expect(await send(good)).toBe('ok')
  expect(await send({ ...good, secretAccessKey: 'another' })).toBe('InvalidSignatureException')
  expect(await send({ ...good, accessKeyId: 'AKIAUNKNOWN' })).toBe('UnrecognizedClientException')
  aws.clockOffsetMs = 3_600_000
  expect(await send(good)).toBe('InvalidSignatureException')
  aws.clockOffsetMs = 0
  aws.expireCredentials('arn:aws:iam::111122223333:role/app')
  expect(await send(good)).toBe('ExpiredTokenException')
  kms = new KMSClient(aws.clientOptions())
})

it('throttles, delays, cuts and hangs as told', async () => {
  const key = aws.createKey()
  aws.throttle({ times: 1 })
  expect(await nameOf(encrypt(key))).toBe('ThrottlingException')
  aws.drop({ times: 1 })
  expect(await nameOf(encrypt(key))).not.toBe('ok')
  aws.drop({ times: 1, when: 'midway' })
  // A body that is cut before the SDK listens for errors leaves its call hanging for ever: Node drops the error then.
  const cut = Promise.race([nameOf(encrypt(key)), sleep(500, 'hangs')])
  expect(await cut).not.toBe('ok')
  aws.hang({ times: 1, only: { key } })
  const hung = kms.send(new DescribeKeyCommand({ KeyId: key }), { abortSignal: AbortSignal.timeout(50) })
  expect(await nameOf(hung)).toBe('AbortError')
  aws.latency(40)
  aws.slowBody(40, { times: 1 })
  const started = performance.now()
  expect(await nameOf(encrypt(key))).toBe('ok')
  expect(performance.now() - started).toBeGreaterThan(70)
})

it('makes keys for the vendor’s own tools', async () => {
  const { KeyMetadata } = await kms.send(new CreateKeyCommand({ MultiRegion: true }))
  expect(KeyMetadata).toMatchObject({ KeyState: 'Enabled', MultiRegion: true, KeyId: expect.stringMatching(/^mrk-/) })
})

it('rotates by itself when told to', async () => {
  const key = aws.createKey({ rotateEveryMs: 25 })
  const material = async () =>
    (await kms.send(new DescribeKeyCommand({ KeyId: key }))).KeyMetadata?.CurrentKeyMaterialId
  const first = await material()
  await expect.poll(material).not.toBe(first)
})
