import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { TenantHealth } from '../src/keyring/health.ts'
import type { TenantKeys } from '../src/keyring/tenant-keys.ts'
import type { KmsErrorCode } from '../src/kms.ts'
import { ERROR_CODES } from '../src/errors/codes.ts'
import { clinic, PATIENTS } from './support/clinic.ts'
import { type FakeCmk, fakeCmk, type FakeCmkOptions } from './support/fake-cmk.ts'

/** A tenant with the given CMKs, its KEK made. */
async function world(options: FakeCmkOptions = {}, keys: (cmk: FakeCmk) => Partial<TenantKeys> = () => ({})) {
  const cmk = fakeCmk('one', options)
  const made = clinic({ cmk, keys: { cmks: [cmk], ...keys(cmk) } })
  const { envelopes } = await made.seal('a', { ssn: 'x' })
  cmk.calls.length = 0
  const health = async (): Promise<TenantHealth> => {
    const [tenant] = (await made.fieldseal.health('a')).tenants
    if (tenant === undefined) throw new Error('no tenant')
    return tenant
  }
  const statuses = async () => {
    const { status, cmks } = await health()
    return [status, ...cmks.map((one) => one.status)]
  }
  const changes = () => made.events('health.changed').map(({ from, to }) => `${from} → ${to}`)
  return { ...made, cmk, health, statuses, changes, read: () => made.open('a', { ssn: envelopes[0] }) }
}

it('asks describe and probe where a CMK has them, with a wrap of its own', async () => {
  const { cmk, health } = await world({ describes: true, probes: true })
  expect(await health()).toMatchObject({
    tenant: 'a',
    status: 'healthy',
    cmks: [{ provider: 'fake', uri: 'one', role: 'current', status: 'healthy' }],
  })
  expect(cmk.operations()).toEqual(['describe', 'probe'])
  expect(cmk.calls.map(({ context }) => context['purpose'])).toEqual(['health', 'wrap'])
})

it('believes the last call of a CMK that has neither while it went well, and else asks it to unwrap a key', async () => {
  const { cmk, statuses, read, clock, settled, changes } = await world()
  expect(await statuses()).toEqual(['healthy', 'healthy'])
  expect(cmk.calls).toEqual([])
  cmk.failure = 'ERR_KMS_KEY_DISABLED'
  clock.advance(60_000)
  await read().catch(() => undefined)
  await settled()
  cmk.calls.length = 0
  expect(await statuses()).toEqual(['denied', 'denied'])
  expect(cmk.operations()).toEqual(['unwrap'])
  cmk.failure = undefined
  expect(await statuses(), 'no ordinary call was needed').toEqual(['healthy', 'healthy'])
  expect(cmk.operations()).toEqual(['unwrap', 'unwrap'])
  expect(await statuses()).toEqual(['healthy', 'healthy'])
  expect(cmk.calls).toHaveLength(2)
  expect(changes()).toEqual(['healthy → denied', 'denied → healthy'])
})

it('asks a CMK without probe in a process that has not used it yet, and never with a key that is retired', async () => {
  const { keyStore, cmk } = await world({ describes: true })
  const fresh = () => clinic({ keyStore, cmk }).fieldseal.health('a')
  expect(await fresh()).toMatchObject({ status: 'healthy' })
  expect(cmk.operations()).toEqual(['describe', 'unwrap'])
  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  expect(await fresh(), 'enabled, but not for us').toMatchObject({ status: 'denied' })
  for (const { id } of keyStore.keks()) keyStore.tamper(id, { denial: 'retired' })
  cmk.calls.length = 0
  await fresh()
  expect(cmk.operations()).toEqual(['describe'])
})

it('says unknown of a CMK that nobody has asked', async () => {
  const { fieldseal } = clinic()
  expect((await fieldseal.health('new')).tenants).toMatchObject([{ status: 'unknown', cmks: [{ status: 'unknown' }] }])
})

it('tells when a CMK will be deleted, that it was, and that it is disabled or empty', async () => {
  const { cmk, health } = await world({ describes: true, probes: true })
  const deletesAt = new Date('2026-12-24')
  cmk.failure = 'ERR_KMS_ACCESS_DENIED' // what a probe says of all of these
  cmk.description = { state: 'pending-deletion', deletesAt }
  expect(await health()).toMatchObject({
    status: 'pending-deletion',
    cmks: [{ status: 'pending-deletion', deletesAt, code: 'ERR_KMS_KEY_PENDING_DELETION' }],
  })
  cmk.description = { state: 'destroyed' }
  expect((await health()).cmks[0]).toMatchObject({ status: 'destroyed' })
  expect((await health()).cmks[0]).not.toHaveProperty('deletesAt')
  cmk.description = { state: 'disabled' }
  expect((await health()).cmks[0]).toMatchObject({ status: 'denied', code: 'ERR_KMS_KEY_DISABLED' })
  cmk.description = { state: 'pending-import' }
  expect((await health()).cmks[0]).toMatchObject({ status: 'denied', code: 'ERR_KMS_KEY_PENDING_IMPORT' })
})

it('believes a probe over a description that sees no permissions, and a refusal to describe says nothing', async () => {
  const both = await world({ describes: true, probes: true })
  both.cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  expect(await both.statuses()).toEqual(['denied', 'denied'])
  both.cmk.failure = undefined
  both.cmk.description = 'ERR_KMS_ACCESS_DENIED'
  expect(await both.statuses()).toEqual(['healthy', 'healthy'])

  const only = await world({ describes: true })
  only.cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  only.clock.advance(60_000)
  await only.read().catch(() => undefined)
  await only.settled()
  expect(await only.statuses(), 'enabled, but not for us').toEqual(['denied', 'denied'])
  only.cmk.description = 'ERR_KMS_ACCESS_DENIED'
  expect(await only.statuses()).toEqual(['denied', 'denied'])
})

it('tells silence from denial, and throttling from both', async () => {
  const { cmk, statuses } = await world({ describes: true, probes: true })
  const answers: [KmsErrorCode, string][] = [
    ['ERR_KMS_NETWORK', 'unreachable'],
    ['ERR_KMS_OPERATOR_CREDENTIALS', 'unreachable'],
    ['ERR_KMS_ACCESS_DENIED', 'denied'],
  ]
  for (const [code, status] of answers) {
    cmk.failure = code
    expect(await statuses()).toEqual([status, status])
  }
  const passive = await world()
  passive.cmk.before = () => {
    throw Object.assign(new Error(), {})
  }
  passive.clock.advance(60_000)
  await passive.read()
  await passive.settled()
  expect(await passive.statuses()).toEqual(['unreachable', 'unreachable'])
})

it('says when something changes and when it recovers, once each', async () => {
  const { cmk, statuses, changes, events } = await world({ describes: true, probes: true })
  await statuses()
  cmk.description = { state: 'pending-deletion', deletesAt: new Date(0) }
  await statuses()
  await statuses()
  cmk.description = { state: 'enabled' }
  await statuses()
  expect(changes()).toEqual(['healthy → pending-deletion', 'pending-deletion → healthy'])
  expect(events('health.changed')[0]).toMatchObject({
    tenant: 'a',
    uri: 'one',
    code: 'ERR_KMS_KEY_PENDING_DELETION',
    deletesAt: new Date(0),
  })
})

it('tells since when it has been so, and when it was last heard', async () => {
  const { cmk, health, clock } = await world({ describes: true })
  await health()
  cmk.description = { state: 'disabled' }
  clock.advance(1_000)
  const changedAt = clock.now()
  await health()
  clock.advance(5_000)
  const [one] = (await health()).cmks
  expect([one?.since?.getTime(), one?.checkedAt?.getTime()]).toEqual([changedAt, changedAt + 5_000])
})

it('says so without being asked, when an ordinary call meets it', async () => {
  const { cmk, read, clock, settled, changes } = await world()
  cmk.failure = 'ERR_KMS_UNKNOWN'
  clock.advance(60_000)
  await read()
  await settled()
  cmk.failure = undefined
  clock.advance(60_000)
  await read()
  await settled()
  expect(changes()).toEqual(['healthy → unreachable', 'unreachable → healthy'])
})

it('calls a tenant degraded while one of its CMKs is silent, denied when one denies', async () => {
  const two = fakeCmk('two', { credentialScope: 'two', probes: true })
  const { cmk, statuses } = await world({ probes: true }, (one) => ({ cmks: [one, two] }))
  two.failure = 'ERR_KMS_NETWORK'
  expect(await statuses()).toEqual(['degraded', 'healthy', 'unreachable'])
  cmk.failure = 'ERR_KMS_NETWORK'
  expect(await statuses()).toEqual(['unreachable', 'unreachable', 'unreachable'])
  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  expect(await statuses()).toEqual(['denied', 'denied', 'unreachable'])
})

it('needs all CMKs to deny where the tenant says all-legs', async () => {
  const two = fakeCmk('two', { credentialScope: 'two', probes: true })
  const { cmk, statuses } = await world({ probes: true }, (one) => ({ cmks: [one, two], revocation: 'all-legs' }))
  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  expect(await statuses()).toEqual(['degraded', 'denied', 'healthy'])
  two.failure = 'ERR_KMS_NETWORK'
  expect(await statuses()).toEqual(['unreachable', 'denied', 'unreachable'])
  two.failure = 'ERR_KMS_ACCESS_DENIED'
  expect(await statuses()).toEqual(['denied', 'denied', 'denied'])
})

it('names a former CMK without letting it count', async () => {
  const former = fakeCmk('old', { probes: true, credentialScope: 'old' })
  former.failure = 'ERR_KMS_ACCESS_DENIED'
  const { health } = await world({ probes: true }, () => ({ formerCmks: [former] }))
  expect(await health()).toMatchObject({
    status: 'healthy',
    cmks: [{ role: 'current' }, { role: 'former', status: 'denied' }],
  })
})

it('tells of a registry or key store that does not answer, or of a tenant that nobody knows', async () => {
  let answer: () => Promise<TenantKeys | null> = async () => null
  const cmk = fakeCmk('one', { probes: true })
  const { fieldseal, keyStore } = clinic({ cmk, keys: () => answer() })
  const first = async (tenant: string) => (await fieldseal.health(tenant)).tenants[0]
  expect(await first('nobody')).toEqual({ tenant: 'nobody', status: 'denied', code: 'ERR_TENANT_UNKNOWN', cmks: [] })
  answer = () => Promise.reject(new Error('down'))
  expect(await first('b')).toMatchObject({ status: 'unreachable', code: 'ERR_REGISTRY_UNAVAILABLE' })
  answer = async () => ({ cmks: [cmk] })
  keyStore.down = true
  expect(await first('c')).toMatchObject({
    status: 'degraded',
    code: 'ERR_KEY_STORE_UNAVAILABLE',
    cmks: [{ status: 'healthy' }],
  })
})

it('asks about all tenants at most once per refresh, about one at once', async () => {
  const cmks = new Map(
    ['a', 'b', 'c'].map((tenant) => [tenant, fakeCmk(tenant, { probes: true, credentialScope: tenant })]),
  )
  const world = clinic({
    keys: async (tenant) => {
      const cmk = cmks.get(tenant)
      return cmk === undefined ? null : { cmks: [cmk] }
    },
  })
  for (const tenant of cmks.keys()) await world.seal(tenant, { ssn: 'x' })
  const probes = () => [...cmks.values()].map((cmk) => cmk.operations().filter((one) => one === 'probe').length)
  for (let i = 0; i < 5; i++) {
    const { tenants, status } = await world.fieldseal.health()
    expect([tenants.length, status]).toEqual([3, 'healthy'])
  }
  expect(probes(), 'their last calls are younger').toEqual([0, 0, 0])
  world.clock.advance(60_000)
  for (let i = 0; i < 5; i++) await world.fieldseal.health()
  expect(probes()).toEqual([1, 1, 1])
  await world.fieldseal.health('b')
  expect(probes()).toEqual([1, 2, 1])
  await Promise.all([world.fieldseal.health('b'), world.fieldseal.health('b')])
  expect(probes(), 'joins a question under way').toEqual([1, 3, 1])
})

it('counts the entries that the audit sink did not take', async () => {
  const { fieldseal, seal } = clinic({
    audit: {
      write() {
        throw new Error('full')
      },
    },
  })
  await seal('a', { ssn: 'x' })
  expect((await fieldseal.health('a')).auditFailures).toBeGreaterThan(0)
})

it('needs no tenant in tenancy single, and takes none that is malformed', async () => {
  const { fieldseal } = clinic({ tenancy: 'single' as never }, { ...PATIENTS, options: {} })
  expect((await fieldseal.health()).tenants).toMatchObject([{ tenant: '$single', status: 'unknown' }])
  await expect(clinic().fieldseal.health('$shared')).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
})

it('throws for no answer of a KMS whatsoever, and never stops a later question', async () => {
  const codes = (Object.keys(ERROR_CODES) as KmsErrorCode[]).filter((code) => code.startsWith('ERR_KMS_'))
  const one = fc.constantFrom<KmsErrorCode | undefined>(undefined, ...codes)
  await fc.assert(
    fc.asyncProperty(one, one, fc.boolean(), async (failure, description, thrownPlainly) => {
      const { cmk, health, changes } = await world({ describes: true, probes: true })
      cmk.failure = failure
      if (description !== undefined) cmk.description = description
      if (thrownPlainly)
        cmk.before = () => {
          throw 'not even an error'
        }
      expect((await health()).cmks).toHaveLength(1)
      cmk.failure = undefined
      cmk.before = undefined
      cmk.description = { state: 'enabled' }
      expect((await health()).status).toBe('healthy')
      expect(changes().at(-1) ?? '→ healthy').toMatch(/→ healthy$/)
    }),
    { numRuns: 40 },
  )
})
