import { fromTemporaryCredentials } from '@aws-sdk/credential-providers'
import { SecretKey } from '@fieldseal/core/kms'
import { CONTEXT, failure, newKey, portSuite, request } from '@fieldseal/kms-emulators/vitest'
import { expect, it, vi } from 'vitest'
import { awsKms } from '../src/index.ts'
import { useAws } from './support/aws.ts'

const aws = useAws()

it('makes a key and its wrap in one call and records the key material that KMS reports', async () => {
  const { arn, cmk } = aws.cmk()
  const made = await cmk.generate?.(request())
  expect(aws.emulator.calls.map(({ operation }) => operation)).toEqual(['GenerateDataKey'])
  expect(made?.wrap).toMatchObject({
    keyVersion: aws.emulator.calls[0]?.keyVersion,
    versionEvidence: 'reported',
  })
  expect(made?.wrap.keyVersion).toMatch(/^[0-9a-f]{64}$/)
  const opened = await cmk.unwrap(made?.wrap ?? { blob: new Uint8Array(1), versionEvidence: 'unknown' }, request())
  expect(made?.key.equals(opened)).toBe(true)
  expect(aws.emulator.calls.at(-1)).toMatchObject({ operation: 'Decrypt', key: arn, context: CONTEXT })
})

it('makes a thousand keys, all different', async () => {
  const { cmk } = aws.cmk()
  const seen = new Set<string>()
  const batch = async () => {
    for (let i = 0; i < 100; i++) {
      const made = await cmk.generate?.(request())
      seen.add(Buffer.from(made?.key.exposeBytes() ?? []).toString('hex'))
    }
  }
  await Promise.all(Array.from({ length: 10 }, batch))
  expect(seen.size).toBe(1_000)
})

it('does not claim to know the key material of a wrap made by Encrypt, and learns it by a rewrap', async () => {
  const { arn, cmk } = aws.cmk()
  const wrap = await cmk.wrap(newKey(), request())
  expect(wrap).toEqual({ blob: expect.any(Uint8Array), versionEvidence: 'unknown' })
  const material = aws.emulator.rotate(arn)
  aws.emulator.forgetCalls()
  const moved = await cmk.rewrap?.(wrap, request())
  expect(moved).toMatchObject({ keyVersion: material, versionEvidence: 'reported' })
  expect(aws.emulator.calls.map(({ operation }) => operation)).toEqual(['ReEncrypt'])
  expect(await cmk.describe?.(request())).toEqual({ state: 'enabled', currentVersion: material })
})

it('tells the state of a CMK and the day of its deletion', async () => {
  const { arn, cmk } = aws.cmk()
  aws.emulator.disable(arn)
  expect(await cmk.describe?.(request())).toMatchObject({ state: 'disabled' })
  aws.emulator.scheduleDeletion(arn, { days: 7 })
  const { state, deletesAt } = (await cmk.describe?.(request())) ?? {}
  expect(state).toBe('pending-deletion')
  expect((deletesAt?.getTime() ?? 0) - Date.now()).toBeGreaterThan(6 * 86_400_000)
  aws.emulator.setState(arn, 'PendingImport')
  expect(await cmk.describe?.(request())).toMatchObject({ state: 'pending-import' })
  aws.emulator.destroy(arn)
  expect(await failure(cmk.describe?.(request()) ?? Promise.resolve())).toMatchObject({ code: 'ERR_KMS_KEY_NOT_FOUND' })
})

it('resolves an alias to the ARN once and stays with it when the alias moves', async () => {
  const kms = aws.kms({ region: 'eu-west-1' })
  const [one, two] = [aws.emulator.createKey({ alias: 'alias/moving' }), aws.emulator.createKey()]
  const cmk = kms.cmk('alias/moving')
  expect(await cmk.canonicalUri?.(request())).toBe(one)
  const wrap = await cmk.wrap(newKey(), request())
  aws.emulator.alias('alias/moving', two)
  expect(await cmk.canonicalUri?.(request())).toBe(one)
  await expect(cmk.unwrap(wrap, request())).resolves.toBeInstanceOf(SecretKey)
  const asked = aws.emulator.calls.filter(({ operation }) => operation === 'DescribeKey')
  expect(asked).toHaveLength(1)

  const renewed = kms.cmk('arn:aws:kms:eu-west-1:111122223333:alias/moving')
  expect(await renewed.canonicalUri?.(request())).toBe(two)
  expect(await failure(renewed.unwrap(wrap, request()))).toMatchObject({ code: 'ERR_KMS_WRONG_KEY', kind: 'corrupt' })
})

it('asks the replica of a multi-Region key in another Region under the ARN that is stored', async () => {
  const home = aws.emulator.createKey({ replicas: ['us-east-1'] })
  const wrap = await aws.kms().cmk(home).wrap(newKey(), request())
  const abroad = aws.kms().cmk(home, { region: 'us-east-1' })
  await expect(abroad.unwrap(wrap, request())).resolves.toBeInstanceOf(SecretKey)
  expect(await abroad.canonicalUri?.(request())).toBe(home)
  expect(aws.emulator.calls.at(-1)?.key).toBe(home.replace('eu-west-1', 'us-east-1'))
})

it('never opens a blob of one key under the name of another', async () => {
  const { cmk } = aws.cmk()
  const { cmk: other } = aws.cmk()
  const wrap = await cmk.wrap(newKey(), request())
  expect(await failure(other.unwrap(wrap, request()))).toMatchObject({ code: 'ERR_KMS_WRONG_KEY', kind: 'corrupt' })
  // By AWS itself: the request named the key that was expected.
  expect(aws.emulator.calls.at(-1)?.outcome).toBe('IncorrectKeyException')
  expect(await failure(other.rewrap?.(wrap, request()) ?? Promise.resolve())).toMatchObject({ kind: 'corrupt' })
  expect(aws.emulator.calls.at(-1)?.outcome).toBe('IncorrectKeyException')
})

it('refuses options that contradict each other and uris that name no CMK, before any call', () => {
  const kms = aws.kms()
  const arn = 'arn:aws:kms:eu-west-1:111122223333:key/0b4c5f6e-0000-4000-8000-000000000000'
  for (const uri of ['', 'alias/no-region', 'key/1', arn.replace('kms', 's3'), `${arn}/x`, '../../etc', `${arn}\n`])
    expect(() => kms.cmk(uri), uri).toThrow('ERR_CONFIG_INVALID')
  expect(() => kms.cmk(arn, { region: 'us-east-1' })).toThrow('contradicts')
  expect(() => kms.cmk(arn, { credentialScope: '' })).toThrow('credentialScope')
  expect(() => awsKms({ fips: true, endpoint: 'https://vpce.example' })).toThrow('fips')
  expect(() => awsKms({ endpoint: 'kms.example' })).toThrow('endpoint')
  expect(() => awsKms({ maxClients: 0 })).toThrow('maxClients')
  expect(aws.emulator.calls).toEqual([])
})

it('asks the FIPS and the dual-stack endpoint of the Region', async () => {
  const hosts: string[] = []
  const seen = {
    handle: async ({ hostname }: { hostname: string }) => (hosts.push(hostname), Promise.reject(new Error('seen'))),
  }
  const arn = 'arn:aws:kms:us-west-2:111122223333:key/0b4c5f6e-0000-4000-8000-000000000000'
  const kms = awsKms({ credentials: aws.emulator.credentials(), clientOptions: { requestHandler: seen as never } })
  for (const options of [{}, { fips: true }, { fips: true, dualStack: true }])
    await failure(kms.cmk(arn, options).wrap(newKey(), request()))
  expect(hosts).toEqual([
    'kms.us-west-2.amazonaws.com',
    'kms-fips.us-west-2.amazonaws.com',
    'kms-fips.us-west-2.api.aws',
  ])
})

it('assumes the role of each tenant once and calls under it', async () => {
  const kms = aws.kms()
  const tenants = ['clinic-1', 'clinic-2'].map((tenant, i) => {
    const account = `44445555666${i}`
    const role = `arn:aws:iam::${account}:role/fieldseal`
    aws.emulator.createRole(role, { externalId: `external-${tenant}` })
    const arn = aws.emulator.createKey({ account })
    const { endpoint, region, credentials: masterCredentials } = aws.emulator.clientOptions()
    const credentials = fromTemporaryCredentials({
      masterCredentials,
      clientConfig: { endpoint, region, maxAttempts: 1 },
      params: {
        RoleArn: role,
        ExternalId: `external-${tenant}`,
        RoleSessionName: `fieldseal-${tenant}`,
        DurationSeconds: 900,
      },
    })
    return { arn, role, options: { credentialScope: tenant, credentials } }
  })
  for (let round = 0; round < 3; round++) {
    // As a registry does: a new port for every answer.
    for (const { arn, options } of tenants) await kms.cmk(arn, options).wrap(newKey(), request())
  }
  const count = (operation: string, principal: string) =>
    aws.emulator.calls.filter((call) => call.operation === operation && call.principal === principal).length
  expect(count('AssumeRole', aws.emulator.calls[0]?.principal ?? '')).toBe(2)
  expect(tenants.map(({ role }) => count('Encrypt', role))).toEqual([3, 3])
})

it('uses other credentials of a scope from the next port on, and never those of another scope', async () => {
  const { arn } = aws.cmk()
  const kms = aws.kms()
  const role = (name: string) => `arn:aws:iam::111122223333:role/${name}`
  const port = (scope: string, name: string) =>
    kms.cmk(arn, { credentialScope: scope, credentials: aws.emulator.credentials(role(name)) })
  await port('a', 'one').wrap(newKey(), request())
  await port('b', 'two').wrap(newKey(), request())
  await port('a', 'three').wrap(newKey(), request())
  await port('a', 'one').wrap(newKey(), request())
  expect(aws.emulator.calls.map(({ principal }) => principal)).toEqual(['one', 'two', 'three', 'one'].map(role))
})

it('gives each scope a client of its own: what one learns of the clock, the other does not know', async () => {
  const { arn } = aws.cmk()
  const kms = aws.kms()
  const wrapIn = (scope: string) => kms.cmk(arn, { credentialScope: scope }).wrap(newKey(), request())
  aws.emulator.clockOffsetMs = 3_600_000
  expect((await failure(wrapIn('one'))).code).toBe('ERR_KMS_CLOCK_SKEW')
  await wrapIn('one')
  expect((await failure(wrapIn('two'))).code).toBe('ERR_KMS_CLOCK_SKEW')
})

it('holds no more clients than it may: the one not used for longest has forgotten what it learnt', async () => {
  const { arn } = aws.cmk()
  const kms = aws.kms({ maxClients: 2 })
  const wrapIn = (scope: string) => kms.cmk(arn, { credentialScope: scope }).wrap(newKey(), request())
  aws.emulator.clockOffsetMs = 3_600_000
  for (const scope of ['one', 'two']) {
    expect((await failure(wrapIn(scope))).code).toBe('ERR_KMS_CLOCK_SKEW')
    await wrapIn(scope)
  }
  await wrapIn('one')
  await failure(wrapIn('three'))
  await wrapIn('one')
  expect((await failure(wrapIn('two'))).code).toBe('ERR_KMS_CLOCK_SKEW')
})

it('resolves the default chain once, for the clients of all scopes', async () => {
  const { arn } = aws.cmk()
  const roles = ['one', 'two'].map((name) => `arn:aws:iam::111122223333:role/${name}`)
  const kms = awsKms({ endpoint: aws.emulator.endpoint })
  try {
    for (const role of roles) {
      const { accessKeyId, secretAccessKey } = aws.emulator.credentials(role)
      vi.stubEnv('AWS_ACCESS_KEY_ID', accessKeyId)
      vi.stubEnv('AWS_SECRET_ACCESS_KEY', secretAccessKey)
      await kms.cmk(arn, { credentialScope: role }).wrap(newKey(), request())
    }
    expect(aws.emulator.calls.map(({ principal }) => principal)).toEqual([roles[0], roles[0]])
  } finally {
    vi.unstubAllEnvs()
    await kms.close?.()
  }
})

it('sends grant tokens along with every call', async () => {
  const bodies: string[] = []
  const seen = { handle: async ({ body }: { body: string }) => (bodies.push(body), Promise.reject(new Error('seen'))) }
  const { arn } = aws.cmk()
  const cmk = aws.kms({ clientOptions: { requestHandler: seen as never } }).cmk(arn, { grantTokens: ['new-grant'] })
  const wrap = { blob: new Uint8Array(64), versionEvidence: 'unknown' as const }
  for (const work of [
    cmk.wrap(newKey(), request()),
    cmk.unwrap(wrap, request()),
    cmk.generate?.(request()),
    cmk.rewrap?.(wrap, request()),
    cmk.describe?.(request()),
  ])
    await failure(work ?? Promise.resolve())
  expect(bodies.map((body) => JSON.parse(body).GrantTokens)).toEqual(bodies.map(() => ['new-grant']))
  expect(bodies).toHaveLength(5)
})

it('leaves no timer behind when a call ends at its signal', async () => {
  const { cmk } = aws.cmk()
  await cmk.wrap(newKey(), request())
  aws.emulator.hang()
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const before = timers()
  const stop = new AbortController()
  const call = failure(cmk.wrap(newKey(), request({ signal: stop.signal })))
  setTimeout(() => stop.abort(), 60)
  expect((await call).code).toBe('ERR_KMS_ABORTED')
  await failure(cmk.wrap(newKey(), request({ signal: AbortSignal.timeout(40) })))
  await new Promise((resolve) => setTimeout(resolve, 30))
  expect(timers()).toBeLessThanOrEqual(before + 1)
})

it('ends with its signal while credentials are still being fetched', async () => {
  const { arn } = aws.cmk()
  const credentials = () => new Promise<never>(() => undefined)
  const cmk = aws.kms().cmk(arn, { credentialScope: 'slow', credentials })
  expect((await failure(cmk.wrap(newKey(), request({ signal: AbortSignal.timeout(40) })))).code).toBe('ERR_KMS_TIMEOUT')
})

it('tells the id of AWS’s answer, which its own log holds too', async () => {
  const { cmk } = aws.cmk()
  const ids: string[] = []
  await cmk.wrap(newKey(), { ...request(), answered: ({ requestId }) => void ids.push(requestId) })
  expect(ids).toEqual([aws.emulator.calls[0]?.requestId])
})

it('follows the environment about FIPS where no option speaks, and says what cannot be combined', async () => {
  const before = process.env['AWS_USE_FIPS_ENDPOINT']
  process.env['AWS_USE_FIPS_ENDPOINT'] = 'true'
  try {
    const { cmk } = aws.cmk()
    expect((await failure(cmk.wrap(newKey(), request()))).code).toBe('ERR_KMS_CONFIG')
    const { cmk: explicit } = aws.cmk({ fips: false })
    await explicit.wrap(newKey(), request())
  } finally {
    if (before === undefined) delete process.env['AWS_USE_FIPS_ENDPOINT']
    else process.env['AWS_USE_FIPS_ENDPOINT'] = before
  }
})

it('does not slow one scope down because another was throttled, whatever retry mode the environment asks for', async () => {
  const before = process.env['AWS_RETRY_MODE']
  process.env['AWS_RETRY_MODE'] = 'adaptive'
  try {
    const { arn } = aws.cmk()
    const kms = aws.kms()
    const port = kms.cmk(arn, { credentialScope: 'one' })
    aws.emulator.throttle({ times: 20 })
    for (let i = 0; i < 20; i++) await failure(port.wrap(newKey(), request()))
    for (const scope of ['one', 'two']) {
      const started = performance.now()
      await kms.cmk(arn, { credentialScope: scope }).wrap(newKey(), request())
      expect(performance.now() - started).toBeLessThan(400)
    }
  } finally {
    if (before === undefined) delete process.env['AWS_RETRY_MODE']
    else process.env['AWS_RETRY_MODE'] = before
  }
})

portSuite(aws)
