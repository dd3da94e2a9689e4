import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { SecretKey } from '@fieldseal/core/kms'
import { type GcpKmsEmulator, startGcpKms } from '@fieldseal/kms-emulators'
import { CONTEXT, failure, newKey, portSuite, request } from '@fieldseal/kms-emulators/vitest'
import { Impersonated } from 'google-auth-library'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { crc32c } from '../src/crc32c.ts'
import { gcpKms } from '../src/index.ts'
import { useGcp } from './support/gcp.ts'

const gcp = useGcp()

it('stores the version that Google reports for each wrap', async () => {
  const { name, cmk } = gcp.cmk()
  expect(await cmk.wrap(newKey(), request())).toMatchObject({ keyVersion: '1', versionEvidence: 'reported' })
  gcp.emulator.rotate(name)
  expect(await cmk.wrap(newKey(), request())).toMatchObject({ keyVersion: '2', versionEvidence: 'reported' })
  expect(await cmk.describe?.(request())).toEqual({ state: 'enabled', currentVersion: '2' })
})

it('takes the version of a wrap from its answer while a new primary is still spreading', async () => {
  const { name, cmk } = gcp.cmk()
  gcp.emulator.rotate(name, { afterMs: 80 })
  const before = await cmk.wrap(newKey(), request())
  expect(before.keyVersion).toBe('1')
  await expect.poll(async () => (await cmk.wrap(newKey(), request())).keyVersion).toBe('2')
  await expect(cmk.unwrap(before, request())).resolves.toBeInstanceOf(SecretKey)
})

it('tells a version that was switched off alone from a key that is off', async () => {
  const { name, cmk } = gcp.cmk()
  const old = await cmk.wrap(newKey(), request())
  gcp.emulator.rotate(name)
  const current = await cmk.wrap(newKey(), request())
  gcp.emulator.disable(name, { version: 1 })
  expect(await failure(cmk.unwrap(old, request()))).toMatchObject({ code: 'ERR_KMS_VERSION_RETIRED', kind: 'denied' })
  await expect(cmk.unwrap(current, request())).resolves.toBeInstanceOf(SecretKey)
  gcp.emulator.disable(name)
  expect((await failure(cmk.unwrap(current, request()))).code).toBe('ERR_KMS_KEY_DISABLED')
  expect((await failure(cmk.unwrap(old, request()))).code).toBe('ERR_KMS_KEY_DISABLED')
})

it('says that the key is off when that is about the very version that is current', async () => {
  const { cmk } = gcp.cmk()
  const wrap = await cmk.wrap(newKey(), request())
  gcp.emulator.fail('FAILED_PRECONDITION', { violations: [{ type: 'KEY_DISABLED', subject: 'key' }] })
  expect((await failure(cmk.unwrap(wrap, request()))).code).toBe('ERR_KMS_KEY_DISABLED')
})

it('says that the key is off when it may not ask for more', async () => {
  const { name, cmk } = gcp.cmk()
  const old = await cmk.wrap(newKey(), request())
  gcp.emulator.rotate(name)
  gcp.emulator.disable(name, { version: 1 })
  gcp.emulator.deny({ operation: 'GetCryptoKey' })
  expect((await failure(cmk.unwrap(old, request()))).code).toBe('ERR_KMS_KEY_DISABLED')
})

it('tells the state of a CMK and the day of its destruction', async () => {
  const { name, cmk } = gcp.cmk()
  gcp.emulator.disable(name)
  expect(await cmk.describe?.(request())).toMatchObject({ state: 'disabled' })
  gcp.emulator.scheduleDeletion(name, { days: 30 })
  const { state, deletesAt } = (await cmk.describe?.(request())) ?? {}
  expect(state).toBe('pending-deletion')
  expect((deletesAt?.getTime() ?? 0) - Date.now()).toBeGreaterThan(29 * 86_400_000)
  gcp.emulator.destroy(name)
  expect(await cmk.describe?.(request())).toMatchObject({ state: 'destroyed' })
})

it('refuses uris that name no key, and a version, before any call', () => {
  const kms = gcp.kms()
  const name = 'projects/p/locations/global/keyRings/r/cryptoKeys/k'
  for (const uri of [
    '',
    'k',
    `${name}/cryptoKeyVersions/1`,
    name.replace('projects', 'folders'),
    `${name}/..`,
    `${name}\n`,
  ])
    expect(() => kms.cmk(uri), uri).toThrow('ERR_CONFIG_INVALID')
  expect(() => kms.cmk(name, { credentialScope: '' })).toThrow('credentialScope')
  expect(() => kms.cmk(name, { apiEndpoint: 'https://x' })).toThrow('apiEndpoint')
  expect(() => gcpKms({ maxClients: 0 })).toThrow('maxClients')
  expect(() => gcpKms({ clientOptions: { fallback: true } })).toThrow('fallback')
  expect(gcp.emulator.calls).toEqual([])
})

it('refuses to run while the environment tells Google’s client to print keys', async () => {
  const before = process.env['GOOGLE_SDK_NODE_LOGGING']
  try {
    for (const value of ['kms', 'all', '*', 'pubsub,kms', 'KMS', 'k*', 'kms:v1', ' all ', 'gax']) {
      process.env['GOOGLE_SDK_NODE_LOGGING'] = value
      expect(() => gcpKms(), value).toThrow('GOOGLE_SDK_NODE_LOGGING')
    }
    for (const value of ['', 'pubsub', 'storage,auth']) {
      process.env['GOOGLE_SDK_NODE_LOGGING'] = value
      expect(() => gcpKms(), value).not.toThrow()
    }
    const late = gcp.kms().cmk(gcp.emulator.createKey())
    process.env['GOOGLE_SDK_NODE_LOGGING'] = 'all'
    expect((await failure(late.wrap(newKey(), request()))).code).toBe('ERR_CONFIG_INVALID')
  } finally {
    if (before === undefined) delete process.env['GOOGLE_SDK_NODE_LOGGING']
    else process.env['GOOGLE_SDK_NODE_LOGGING'] = before
  }
})

it('closes the client not used for longest when it would hold more than it may', async () => {
  const kms = gcp.kms({ maxClients: 2 })
  const name = gcp.emulator.createKey()
  const before = gcp.emulator.connections()
  for (const scope of ['one', 'two', 'three', 'four'])
    await kms.cmk(name, { credentialScope: scope }).wrap(newKey(), request())
  await expect.poll(() => gcp.emulator.connections()).toBe(before + 2)
  await kms.close?.()
  await expect.poll(() => gcp.emulator.connections()).toBe(before)
})

it('computes CRC32C, not the checksum of zip files', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283)
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa)
  expect(crc32c(new Uint8Array(0))).toBe(0)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.nat(), (bytes, at) => {
      const flipped = bytes.map((byte, i) => (i === at % bytes.length ? byte ^ 1 : byte))
      expect(crc32c(flipped)).not.toBe(crc32c(bytes))
    }),
  )
})

describe('credentials of a tenant', () => {
  let secure: GcpKmsEmulator
  const operator = 'app@operator.iam.gserviceaccount.com'
  const trusted = getCACertificates('default')
  beforeAll(async () => {
    secure = await startGcpKms({ tls: true })
    setDefaultCACertificates([...trusted, secure.ca ?? ''])
  })
  afterAll(async () => {
    setDefaultCACertificates(trusted)
    await secure.stop()
  })

  const impersonated = (targetPrincipal: string, endpoint = secure.iamEndpoint) =>
    new Impersonated({
      sourceClient: secure.authClient(operator),
      targetPrincipal,
      targetScopes: ['https://www.googleapis.com/auth/cloudkms'],
      endpoint,
    } as never) // `endpoint` is read but not in the vendor's types

  it('calls as each tenant’s service account, with one token each, and as ourselves where none is named', async () => {
    const tenants = ['a@one.iam.gserviceaccount.com', 'b@two.iam.gserviceaccount.com']
    for (const email of tenants) secure.createServiceAccount(email)
    const kms = gcpKms({ clientOptions: secure.clientOptions(operator) })
    const name = secure.createKey()
    const authClients = tenants.map((email) => impersonated(email))
    for (let round = 0; round < 2; round++) {
      for (const [i, authClient] of authClients.entries())
        await kms.cmk(name, { credentialScope: tenants[i] ?? '', authClient }).wrap(newKey(), request())
    }
    await kms.cmk(name).wrap(newKey(), request())
    expect(secure.calls.map(({ principal }) => principal)).toEqual([...tenants, ...tenants, operator])
    await kms.close?.()
  })

  it('are changed for a scope from the next port on', async () => {
    const accounts = ['f@six.iam.gserviceaccount.com', 'g@seven.iam.gserviceaccount.com']
    for (const email of accounts) secure.createServiceAccount(email)
    secure.forgetCalls()
    const kms = gcpKms({ clientOptions: secure.clientOptions(operator) })
    const name = secure.createKey()
    for (const email of accounts)
      await kms.cmk(name, { credentialScope: 'one', authClient: impersonated(email) }).wrap(newKey(), request())
    expect(secure.calls.map(({ principal }) => principal)).toEqual(accounts)
    await kms.close?.()
  })

  it('are denied when the tenant takes the impersonation away, and unavailable when the token service is down', async () => {
    const tenant = 'c@three.iam.gserviceaccount.com'
    secure.createServiceAccount(tenant, () => false)
    const kms = gcpKms({ clientOptions: secure.clientOptions(operator) })
    const name = secure.createKey()
    const denied = kms.cmk(name, { credentialScope: 'c', authClient: impersonated(tenant) })
    expect(await failure(denied.wrap(newKey(), request()))).toMatchObject({
      code: 'ERR_KMS_TENANT_CREDENTIALS_DENIED',
      kind: 'denied',
      details: { vendorCode: 'http:403' },
    })
    const down = kms.cmk(name, { credentialScope: 'd', authClient: impersonated(tenant, 'http://127.0.0.1:9') })
    expect(await failure(down.wrap(newKey(), request({ signal: AbortSignal.timeout(3_000) })))).toMatchObject({
      kind: 'unavailable',
    })
    await kms.close?.()
  })

  it('are refused by name when the key’s own policy denies them', async () => {
    const tenant = 'e@five.iam.gserviceaccount.com'
    secure.createServiceAccount(tenant)
    const undo = secure.deny({ principal: tenant })
    const kms = gcpKms({ clientOptions: secure.clientOptions(operator) })
    const cmk = kms.cmk(secure.createKey(), { credentialScope: 'e', authClient: impersonated(tenant) })
    const error = await failure(cmk.wrap(newKey(), request()))
    expect(error).toMatchObject({
      code: 'ERR_KMS_ACCESS_DENIED',
      details: { vendorCode: 'grpc:7/IAM_PERMISSION_DENIED' },
    })
    undo()
    await kms.close?.()
  })

  it('sends the context as bytes that are authenticated', async () => {
    const { cmk } = gcp.cmk()
    const wrap = await cmk.wrap(newKey(), request())
    expect(gcp.emulator.calls[0]).not.toHaveProperty('context')
    const error = await failure(cmk.unwrap(wrap, request({ context: { ...CONTEXT, tenant: 'clinic-8' } })))
    expect(error.code).toBe('ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID')
  })
})

portSuite(gcp)
