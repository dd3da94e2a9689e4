import { expect, it } from 'vitest'
import { createFieldseal } from '../../src/create-fieldseal.ts'
import { createTenantContext } from '../../src/tenant/tenant-context.ts'
import { attach } from '../../src/attach.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { clinic, PATIENTS } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

const multi = () => createTenantContext('multi')
const code = (name: string) => expect.objectContaining({ code: name })

it('throws without a tenant', () => {
  const context = multi()
  expect(() => context.capture()).toThrow(code('ERR_TENANT_MISSING'))
  expect(context.captureIfAny()).toBeUndefined()
})

it('returns what the function returns, a promise or not, and throws what it throws', async () => {
  const context = multi()
  expect(context.runAs({ tenant: 'a' }, () => 7)).toBe(7)
  expect(await context.runAs({ tenant: 'a' }, async () => 7)).toBe(7)
  const error = new Error('own')
  expect(() =>
    context.runAs({ tenant: 'a' }, () => {
      throw error
    }),
  ).toThrow(error)
})

it('captures when it is asked, not when the work runs', async () => {
  const context = multi()
  const lazy = context.runAs({ tenant: 'a' }, () => {
    const captured = context.capture()
    return async () => captured.tenant
  })
  expect(await lazy()).toBe('a')
  expect(Object.isFrozen(context.runAs({ tenant: 'a' }, () => context.capture()))).toBe(true)
})

it('keeps fifty concurrent requests apart across awaits, timers and async iteration', async () => {
  const context = multi()
  async function* numbers() {
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 1))
      yield i
    }
  }
  const seen = await Promise.all(
    Array.from({ length: 50 }, (_, i) =>
      context.runAs({ tenant: `t${i}` }, async () => {
        const tenants = new Set<unknown>()
        for await (const _number of numbers()) tenants.add(context.capture().tenant)
        await new Promise<void>((resolve) => setImmediate(() => (tenants.add(context.capture().tenant), resolve())))
        return [...tenants]
      }),
    ),
  )
  expect(seen).toEqual(Array.from({ length: 50 }, (_, i) => [`t${i}`]))
})

it('gives a generator the tenant of the code that iterates it', async () => {
  const context = multi()
  async function* tenants() {
    yield context.captureIfAny()?.tenant
  }
  const made = context.runAs({ tenant: 'a' }, () => tenants())
  for await (const tenant of made) expect(tenant).toBeUndefined()
})

it('refuses another tenant inside runAs and allows the same one again', () => {
  const context = multi()
  context.runAs({ tenant: 'a', actor: 'u1' }, () => {
    expect(() => context.runAs({ tenant: 'b' }, () => 1)).toThrow(code('ERR_TENANT_MISMATCH'))
    context.runAs({ tenant: 'a', purpose: 'billing' }, () => {
      expect(context.capture()).toMatchObject({ tenant: 'a', actor: 'u1', purpose: 'billing' })
    })
    expect(context.capture().purpose).toBeUndefined()
  })
})

it('never falls back to the outer tenant when the inner one is missing', () => {
  const context = multi()
  context.runAs({ tenant: 'a' }, () => {
    for (const tenant of [undefined, null, ''])
      expect(() => context.runAs({ tenant } as object, () => 1)).toThrow(code('ERR_TENANT_MISSING'))
  })
})

it('loops over tenants inside runAsSystem', () => {
  const context = multi()
  context.runAsSystem({ reason: 'nightly', actor: 'cron' }, () => {
    expect(context.capture()).toMatchObject({ tenant: { reason: 'nightly' }, actor: 'cron', onUnreadable: 'throw' })
    for (const tenant of ['a', 'b']) expect(context.runAs({ tenant }, () => context.capture().tenant)).toBe(tenant)
  })
})

it('wants a reason for work across tenants', () => {
  const context = multi()
  for (const reason of ['', '  ', undefined, 7])
    expect(() => context.runAsSystem({ reason } as { reason: string }, () => 1)).toThrow(code('ERR_ARGUMENT_INVALID'))
})

it('does not carry onUnreadable into system work', () => {
  const context = multi()
  context.runAs({ tenant: 'a', onUnreadable: 'mark' }, () => {
    expect(context.runAs({ tenant: 'a' }, () => context.capture().onUnreadable)).toBe('mark')
    expect(context.runAsSystem({ reason: 'x' }, () => context.capture().onUnreadable)).toBe('throw')
  })
})

it('has one tenant without being asked in tenancy single, and takes none', () => {
  const context = createTenantContext('single')
  expect(context.capture().tenant).toBe('$single')
  expect(context.runAs({ actor: 'u' }, () => context.capture())).toMatchObject({ tenant: '$single', actor: 'u' })
  expect(context.runAsSystem({ reason: 'x' }, () => context.capture().tenant)).toBe('$single')
  expect(() => context.runAs({ tenant: 'a' }, () => 1)).toThrow(code('ERR_ARGUMENT_INVALID'))
})

it('keeps the contexts of two Fieldseals apart', () => {
  const [one, two] = [multi(), multi()]
  one.runAs({ tenant: 'a' }, () => expect(() => two.capture()).toThrow(code('ERR_TENANT_MISSING')))
})

it('refuses reserved and malformed tenants', () => {
  for (const tenant of ['$single', '$shared', 'a\0b'])
    expect(() => multi().runAs({ tenant }, () => 1)).toThrow(code('ERR_ARGUMENT_INVALID'))
})

it('audits work across tenants', () => {
  const { fieldseal, events } = clinic()
  fieldseal.runAsSystem({ reason: 'nightly', actor: 'cron' }, () => undefined)
  expect(events('system.entered')).toEqual([{ reason: 'nightly', actor: 'cron' }])
})

it('encrypts without any runAs in tenancy single', async () => {
  const keyStore = arrayKeyStore()
  const fieldseal = createFieldseal({ app: 'x', tenancy: 'single', keyStore, keys: { cmks: [fakeCmk('cmk')] } })
  await fieldseal.prepare({ keyspaces: [] })
  const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
  const map = host.defineModel({ ...PATIENTS, options: {} })
  const context = host.capture()
  const cell = (value: unknown) => [
    { map, facts: map.facts({}, context), cells: [{ field: map.at('ssn').field as never, value }] },
  ]
  const [sealed] = await host.cipher.seal(cell('x'), context)
  const [opened] = await host.cipher.open(cell(sealed?.envelopes[0]), context)
  expect(opened?.values).toEqual(['x'])
  expect(keyStore.keks()[0]?.tenant).toBe('$single')
  fieldseal.purge()
})
