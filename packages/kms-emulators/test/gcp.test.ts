import { setDefaultCACertificates, getCACertificates } from 'node:tls'
import { KeyManagementServiceClient } from '@google-cloud/kms'
import { Impersonated } from 'google-auth-library'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { type GcpKmsEmulator, startGcpKms } from '../src/index.ts'

let gcp: GcpKmsEmulator
let kms: KeyManagementServiceClient
beforeAll(async () => {
  gcp = await startGcpKms()
  kms = new KeyManagementServiceClient(gcp.clientOptions())
  await kms.initialize()
})
afterEach(() => gcp.restore())
afterAll(async () => {
  await kms.close()
  await gcp.stop()
})

interface VendorError {
  readonly code?: number
  readonly statusDetails?: readonly { readonly violations?: readonly { readonly type?: string }[] }[]
}
const once = { retry: null, timeout: 2_000 } as never // the vendor's types know no `null`
const failure = (work: Promise<unknown>): Promise<VendorError> =>
  work.then(
    () => ({}),
    (error: VendorError) => error,
  )
const encrypt = (name: string, aad = 'aad', more = {}, client = kms) =>
  client
    .encrypt(
      { name, plaintext: Buffer.from('k'.repeat(32)), additionalAuthenticatedData: Buffer.from(aad), ...more },
      once,
    )
    .then(([answer]) => answer)
const decrypt = (name: string, ciphertext: Uint8Array, aad = 'aad') =>
  kms.decrypt({ name, ciphertext, additionalAuthenticatedData: Buffer.from(aad) }, once).then(([answer]) => answer)
const bytes = (value: unknown) => (value instanceof Uint8Array ? value : new Uint8Array(0))

it('decrypts what it encrypted under the same additional data and names the version that did it', async () => {
  const key = gcp.createKey()
  const { name, ciphertext } = await encrypt(key)
  expect(name).toBe(`${key}/cryptoKeyVersions/1`)
  const answer = await decrypt(key, bytes(ciphertext))
  expect(bytes(answer.plaintext).toString()).toBe('k'.repeat(32))
  expect(answer.usedPrimary).toBe(true)
  expect((await failure(decrypt(key, bytes(ciphertext), 'other'))).code).toBe(3)
  expect((await failure(decrypt(gcp.createKey(), bytes(ciphertext)))).code).toBe(3)
})

it('compares checksums that are sent, says so, and returns its own', async () => {
  const key = gcp.createKey()
  const plaintext = Buffer.from('123456789')
  const right = await encrypt(key, '', { plaintext, plaintextCrc32c: { value: 0xe3069283 } })
  expect(right.verifiedPlaintextCrc32c).toBe(true)
  expect(right.verifiedAdditionalAuthenticatedDataCrc32c).toBe(false)
  const wrong = await failure(encrypt(key, '', { plaintext, plaintextCrc32c: { value: 1 } }))
  expect(wrong).toMatchObject({ code: 3, message: expect.stringContaining('plaintext_crc32c') })
  const opened = await decrypt(key, bytes(right.ciphertext), '')
  expect(opened.plaintextCrc32c).toMatchObject({ value: String(0xe3069283) })
})

it('encrypts with the new version after a rotation, once it has propagated, and still decrypts old ciphertexts', async () => {
  const key = gcp.createKey()
  const before = await encrypt(key)
  gcp.rotate(key, { afterMs: 60 })
  expect((await encrypt(key)).name).toMatch(/\/1$/)
  await expect.poll(async () => (await encrypt(key)).name).toMatch(/\/2$/)
  expect((await decrypt(key, bytes(before.ciphertext))).usedPrimary).toBe(false)
  const [described] = await kms.getCryptoKey({ name: key }, once)
  expect(described.primary).toMatchObject({ name: `${key}/cryptoKeyVersions/2`, state: 'ENABLED' })
})

it('refuses a version in any state but enabled and names the state in a violation', async () => {
  const key = gcp.createKey()
  const { ciphertext } = await encrypt(key)
  for (const state of ['DISABLED', 'DESTROY_SCHEDULED', 'DESTROYED', 'PENDING_GENERATION', 'PENDING_IMPORT'] as const) {
    gcp.setState(key, state)
    const error = await failure(decrypt(key, bytes(ciphertext)))
    expect(error.code).toBe(9)
    expect(error.statusDetails?.[0]?.violations?.[0]?.type).toBe(`KEY_${state}`)
  }
  gcp.enable(key)
  gcp.rotate(key)
  gcp.disable(key, { version: 1 })
  expect((await failure(decrypt(key, bytes(ciphertext)))).code).toBe(9)
  expect((await encrypt(key)).name).toMatch(/\/2$/)
  const [version] = await kms.getCryptoKeyVersion({ name: `${key}/cryptoKeyVersions/1` }, once)
  expect(version.state).toBe('DISABLED')
})

it('knows callers by their tokens over TLS, lets service accounts be impersonated, and denies by principal', async () => {
  const secure = await startGcpKms({ tls: true })
  const before = getCACertificates('default')
  setDefaultCACertificates([...before, secure.ca ?? ''])
  try {
    const key = secure.createKey()
    const operator = 'app@operator.iam.gserviceaccount.com'
    const tenant = 'kms@tenant.iam.gserviceaccount.com'
    secure.createServiceAccount(tenant, (principal) => principal === operator)
    const authClient = new Impersonated({
      sourceClient: secure.authClient(operator),
      targetPrincipal: tenant,
      targetScopes: ['https://www.googleapis.com/auth/cloudkms'],
      endpoint: secure.iamEndpoint,
    } as never) // `endpoint` is read but not in the vendor's types
    const { apiEndpoint, port } = secure.clientOptions()
    const client = new KeyManagementServiceClient({ apiEndpoint, port, authClient } as never)
    await encrypt(key, 'aad', {}, client)
    expect(secure.calls.at(-1)).toMatchObject({ principal: tenant, operation: 'Encrypt', keyVersion: '1' })
    secure.deny({ principal: tenant })
    expect((await failure(encrypt(key, 'aad', {}, client))).code).toBe(7)
    secure.revoke(tenant)
    expect((await failure(encrypt(key, 'aad', {}, client))).code).toBe(16)
    await client.close()
  } finally {
    setDefaultCACertificates(before)
    await secure.stop()
  }
})

it('throttles, delays, cuts, hangs and fails as told', async () => {
  const key = gcp.createKey()
  gcp.throttle({ times: 1 })
  expect((await failure(encrypt(key))).code).toBe(8)
  gcp.fail('UNAVAILABLE')
  expect((await failure(encrypt(key))).code).toBe(14)
  gcp.drop({ times: 1 })
  expect((await failure(encrypt(key))).code).toBe(14)
  gcp.hang({ times: 1 })
  const call = kms.encrypt({ name: key, plaintext: Buffer.from('x') }, { retry: null, timeout: 60 } as never)
  expect((await failure(call)).code).toBe(4)
  gcp.latency(60, { operation: 'Encrypt' })
  const started = performance.now()
  await encrypt(key)
  expect(performance.now() - started).toBeGreaterThan(55)
})

it('rotates by itself when told to', async () => {
  const key = gcp.createKey(undefined, { rotateEveryMs: 25 })
  await expect.poll(async () => (await encrypt(key)).name).not.toMatch(/\/1$/)
})
