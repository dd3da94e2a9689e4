import { expect, it } from 'vitest'
import type { TenantKeys } from '../../src/keyring/tenant-keys.ts'
import { kmsError, type KmsErrorCode } from '../../src/kms.ts'
import { clinic } from '../support/clinic.ts'
import { type FakeCmk, fakeCmk } from '../support/fake-cmk.ts'

const SOON = { waitForGrantMs: 2_000, retryEveryMs: 1 }
const purposes = (cmk: FakeCmk) => cmk.calls.map(({ operation, context }) => `${operation} ${context['purpose']}`)

it('has each CMK wrap and unwrap a challenge, asks it under another context, then makes the keys', async () => {
  const [one, two] = [fakeCmk('one'), fakeCmk('two')]
  const { fieldseal, keyStore, seal } = clinic({ keys: { cmks: [one, two] } })
  await fieldseal.activate('a')
  for (const cmk of [one, two]) {
    expect(purposes(cmk).slice(0, 3)).toEqual(['wrap activate', 'unwrap activate', 'unwrap activate'])
    const [wrapped, unwrapped, foreign] = cmk.calls.map(({ context }) => context)
    expect(wrapped).toEqual({
      app: 'clinic',
      fieldseal: '1',
      tenant: 'a',
      keyspace: 'default',
      purpose: 'activate',
      kek: expect.stringMatching(/^[0-9a-f]{24}$/),
    })
    expect(unwrapped).toEqual(wrapped)
    expect(foreign).toEqual({ ...wrapped, tenant: '$other' })
    expect(cmk.given.filter((_key, i) => i < 1).every(({ disposed }) => disposed)).toBe(true)
  }
  expect(keyStore.keks().map(({ purpose, wraps }) => `${purpose} ${wraps.length}`)).toEqual(['wrap 2', 'index 2'])
  const calls = one.calls.length
  await seal('a', { ssn: 'x', email: 'ada@example.org' })
  expect(one.calls.length, 'the keys are loaded').toBe(calls)
})

it('makes the keyspaces asked for', async () => {
  const { fieldseal, keyStore } = clinic()
  await fieldseal.activate('a', { keyspaces: ['class:payment'] })
  expect(keyStore.keks().map(({ keyspace }) => keyspace)).toContain('class:payment')
})

it('gives each challenge a context of its own, so that no answer can be played again', async () => {
  const cmk = fakeCmk('one')
  const { fieldseal } = clinic({ cmk })
  for (const tenant of ['a', 'a', 'b']) await fieldseal.activate(tenant)
  const challenges = cmk.calls.filter(
    ({ operation, context }) => operation === 'wrap' && context['purpose'] === 'activate',
  )
  expect(new Set(challenges.map(({ context }) => context['kek'])).size).toBe(3)
})

it('may be repeated: it makes nothing anew', async () => {
  const { fieldseal, keyStore } = clinic()
  await fieldseal.activate('a')
  const rows = [...keyStore.rows.values()]
  await Promise.all([fieldseal.activate('a'), fieldseal.activate('a')])
  expect([...keyStore.rows.values()]).toEqual(rows)
})

it('refuses a CMK that unwraps to another key, and makes no key', async () => {
  const cmk = Object.assign(fakeCmk('one'), { liar: true })
  const { fieldseal, keyStore } = clinic({ cmk })
  await expect(fieldseal.activate('a', SOON)).rejects.toMatchObject({
    code: 'ERR_ACTIVATION_REFUSED',
    kind: 'refused',
    details: { reason: 'unwrapped to another key than was wrapped' },
  })
  expect(keyStore.rows.size).toBe(0)
  expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
})

/** A CMK that does not look at the context. */
function careless(bindsContext: boolean): FakeCmk {
  const cmk = fakeCmk('one')
  const { wrap, unwrap } = cmk
  const context = { tenant: 'any' }
  return Object.assign(cmk, {
    facts: { ...cmk.facts, bindsContext },
    wrap: ((key, request) => wrap(key, { ...request, context })) satisfies FakeCmk['wrap'],
    unwrap: ((one, request) => unwrap(one, { ...request, context })) satisfies FakeCmk['unwrap'],
  })
}

it('refuses a CMK that says it binds the context and does not', async () => {
  const { fieldseal, keyStore, cmk } = clinic({ cmk: careless(true) })
  await expect(fieldseal.activate('a', SOON)).rejects.toMatchObject({ code: 'ERR_ACTIVATION_REFUSED' })
  expect(keyStore.rows.size).toBe(0)
  expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
})

it('asks no such thing of one that does not say so', async () => {
  const { fieldseal, cmk } = clinic({ cmk: careless(false) })
  await fieldseal.activate('a')
  expect(cmk.operations().slice(0, 3)).toEqual(['wrap', 'unwrap', 'wrap'])
})

it('takes a denial under another tenant’s context as the refusal that it is, silence as none', async () => {
  for (const [code, outcome] of [
    ['ERR_KMS_ACCESS_DENIED', 'active'],
    ['ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID', 'active'],
    ['ERR_KMS_UNKNOWN', 'ERR_KMS_UNKNOWN'],
  ] as const) {
    const cmk = fakeCmk('one')
    cmk.before = (_operation, { context }) => {
      if (context['tenant'] === '$other') throw kmsError(code, {})
    }
    const { fieldseal, events } = clinic({ cmk })
    const outcomeOf = fieldseal.activate('a', SOON).then(
      () => 'active',
      (error: { code: string }) => error.code,
    )
    expect(await outcomeOf).toBe(outcome)
    expect(events('health.changed'), 'a refusal that was wanted is no news').toEqual([])
  }
})

it('waits for a grant that is on its way, with an event for each time it asks again', async () => {
  for (const code of ['ERR_KMS_ACCESS_DENIED', 'ERR_KMS_KEY_NOT_FOUND', 'ERR_KMS_TENANT_CREDENTIALS_DENIED'] as const) {
    const cmk = fakeCmk('one')
    let left = 3
    cmk.before = () => {
      if (left-- > 0) throw kmsError(code, {})
    }
    const { fieldseal, events, seal } = clinic({ cmk })
    await fieldseal.activate('a', SOON)
    expect(events('activation.waiting')).toMatchObject(
      Array.from({ length: 3 }, () => ({ tenant: 'a', what: 'fake one', code })),
    )
    await seal('a', { ssn: 'x' })
  }
})

it('outlasts a grant that has not reached every server of the KMS yet', async () => {
  const cmk = fakeCmk('one')
  const { fieldseal, seal, events } = clinic({ cmk })
  let denials = 2
  cmk.before = (_operation, { context }) => {
    if (context['purpose'] === 'wrap' && denials-- > 0) throw kmsError('ERR_KMS_ACCESS_DENIED', {})
  }
  await fieldseal.activate('a', SOON)
  expect(events('activation.waiting').map(({ what }) => what)).toEqual(['keys', 'keys'])
  await seal('a', { ssn: 'x' })
})

it('outlasts it for a tenant that has keys already, whose denial is remembered', async () => {
  const cmk = fakeCmk('one')
  const { fieldseal, keyStore } = clinic({ cmk })
  await fieldseal.activate('a')
  const again = clinic({ cmk, keyStore })
  let denials = 2
  cmk.before = (operation, { context }) => {
    if (operation === 'unwrap' && context['purpose'] === 'wrap' && denials-- > 0)
      throw kmsError('ERR_KMS_ACCESS_DENIED', {})
  }
  await again.fieldseal.activate('a', SOON)
  expect(again.events('activation.waiting')).toHaveLength(2)
})

it('goes on waiting over a moment of silence, and gives up after the time it was given', async () => {
  const cmk = fakeCmk('one')
  const answers: (KmsErrorCode | undefined)[] = ['ERR_KMS_ACCESS_DENIED', 'ERR_KMS_UNKNOWN', undefined]
  cmk.before = () => {
    const code = answers.shift()
    if (code !== undefined) throw kmsError(code, {})
  }
  const { fieldseal } = clinic({ cmk })
  await fieldseal.activate('a', SOON)

  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  const startedAt = performance.now()
  await expect(fieldseal.activate('b', { waitForGrantMs: 50, retryEveryMs: 10 })).rejects.toMatchObject({
    code: 'ERR_KMS_ACCESS_DENIED',
    kind: 'denied',
  })
  expect(performance.now() - startedAt).toBeLessThan(1_000)
})

it('waits for nothing that time will not mend', async () => {
  for (const code of ['ERR_KMS_KEY_DISABLED', 'ERR_KMS_CONFIG', 'ERR_KMS_UNKNOWN', 'ERR_KMS_KEY_DESTROYED'] as const) {
    const { fieldseal, cmk, events } = clinic()
    cmk.failure = code
    await expect(fieldseal.activate('a', SOON)).rejects.toMatchObject({ code })
    expect([cmk.calls.length, events('activation.waiting').length]).toEqual([1, 0])
  }
})

it('reads the registry as it is now, and knows no tenant that it does not', async () => {
  let keys: TenantKeys | null = null
  const { fieldseal, seal } = clinic({ keys: async () => keys })
  await expect(seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_TENANT_UNKNOWN' })
  await expect(fieldseal.activate('a')).rejects.toMatchObject({ code: 'ERR_TENANT_UNKNOWN' })
  keys = { cmks: [fakeCmk('one')] }
  await fieldseal.activate('a') // although the refusal is remembered for some seconds
  await seal('a', { ssn: 'x' })
})

it('stops waiting when the Fieldseal is closed, and takes no impossible time', async () => {
  const { fieldseal, cmk } = clinic()
  cmk.failure = 'ERR_KMS_ACCESS_DENIED'
  const waiting = fieldseal.activate('a', { waitForGrantMs: 60_000, retryEveryMs: 5 })
  for (const wrong of [{ waitForGrantMs: -1 }, { retryEveryMs: 0 }, { retryEveryMs: 1.5 }])
    await expect(fieldseal.activate('a', wrong)).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
  await fieldseal.close()
  await expect(waiting).rejects.toMatchObject({ code: 'ERR_CLOSED' })
})

it('is written into the audit trail before it asks anybody', async () => {
  const { fieldseal, cmk } = clinic({
    audit: {
      write() {
        throw new Error('full')
      },
    },
  })
  await expect(fieldseal.activate('a')).rejects.toMatchObject({ code: 'ERR_AUDIT_UNAVAILABLE' })
  expect(cmk.calls).toEqual([])
})
