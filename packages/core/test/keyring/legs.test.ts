import { expect, it } from 'vitest'
import type { TenantKeys } from '../../src/keyring/tenant-keys.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { clinic } from '../support/clinic.ts'
import { type FakeCmk, fakeCmk, type FakeCmkOptions } from '../support/fake-cmk.ts'

/** A KEK wrapped by two CMKs of two clouds. */
async function twoLegs(keys: Partial<TenantKeys> = {}, options: FakeCmkOptions = {}) {
  const one = fakeCmk('one', { credentialScope: 'one', ...options })
  const two = fakeCmk('two', { credentialScope: 'two', ...options })
  const keyStore = arrayKeyStore()
  const world = clinic({ keyStore, keys: { cmks: [one, two], ...keys } })
  const { envelopes } = await world.seal('a', { ssn: 'x' })
  const restart = (next: Partial<TenantKeys> = keys) => {
    for (const leg of [one, two]) leg.calls.length = 0
    const again = clinic({ keyStore, keys: { cmks: [one, two], ...next } })
    return { ...again, read: () => again.open('a', { ssn: envelopes[0] }) }
  }
  return { ...world, one, two, restart, read: () => world.open('a', { ssn: envelopes[0] }) }
}
const operations = (...cmks: FakeCmk[]) => cmks.map((cmk) => cmk.operations().join(' '))

it('wraps a new KEK by every configured CMK, and sees each wrap open', async () => {
  const { one, two, keyStore } = await twoLegs()
  expect(operations(one, two)).toEqual(['wrap unwrap', 'wrap unwrap'])
  expect(keyStore.keks()[0]?.wraps.map(({ uri }) => uri)).toEqual(['one', 'two'])
})

it('asks every leg before the first use, unwrapping by the first', async () => {
  const { one, two, restart } = await twoLegs()
  await restart().read()
  expect(operations(one, two)).toEqual(['unwrap', 'unwrap'])
  expect(two.given.every(({ disposed }) => disposed)).toBe(true) // only asked
})

it('probes the further legs where the KMS can answer without key material', async () => {
  const { one, two, restart } = await twoLegs({}, { probes: true })
  await restart().read()
  expect(operations(one, two)).toEqual(['unwrap', 'probe'])
})

it('asks a further leg once each validForMs, never later', async () => {
  const { one, two, restart } = await twoLegs()
  const { read, clock, settled } = restart()
  await read()
  for (let minute = 0; minute < 20; minute++) {
    clock.advance(60_000)
    await read()
    await settled()
  }
  expect(one.operations()).toHaveLength(21)
  expect(two.operations()).toHaveLength(6) // at the start, then every fourth minute: within 300 s
})

it('closes the key when any leg denies, cold or cached', async () => {
  const { two, restart } = await twoLegs()
  two.failure = 'ERR_KMS_KEY_DISABLED'
  const cold = restart()
  await expect(cold.read()).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DISABLED' })
  cold.clock.advance(16_000) // the remembered denial is over: the leg still denies
  await expect(cold.read()).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DISABLED' })

  two.failure = undefined
  const cached = restart()
  await cached.read()
  two.failure = 'ERR_KMS_KEY_DISABLED'
  for (let minute = 0; minute < 5; minute++) {
    cached.clock.advance(60_000)
    await cached.read().catch(() => undefined)
    await cached.settled()
  }
  await expect(cached.read()).rejects.toMatchObject({ code: 'ERR_KMS_KEY_DISABLED' })
})

it('hears a probe that answers denied', async () => {
  const { two, restart } = await twoLegs({}, { probes: true })
  two.failure = 'ERR_KMS_ACCESS_DENIED'
  await expect(restart().read()).rejects.toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED' })
})

it('falls back to the next leg only when one does not answer', async () => {
  const { one, two, restart } = await twoLegs()
  one.failure = 'ERR_KMS_UNKNOWN'
  await restart().read()
  expect(operations(one, two)).toEqual(['unwrap', 'unwrap'])
  for (const failure of ['ERR_KMS_ACCESS_DENIED', 'ERR_KMS_WRONG_KEY', 'ERR_KMS_CONFIG'] as const) {
    one.failure = failure
    await expect(restart().read()).rejects.toMatchObject({ code: failure })
    expect(operations(two)).toEqual([''])
  }
})

it('serves while a further leg does not answer', async () => {
  const { two, restart } = await twoLegs()
  two.failure = 'ERR_KMS_UNKNOWN'
  expect((await restart().read()).values).toEqual(['x'])
})

it('falls back where the name of the first leg cannot be resolved', async () => {
  const one = fakeCmk('alias-one', { canonical: 'key-one', credentialScope: 'one' })
  const two = fakeCmk('two', { credentialScope: 'two' })
  const keyStore = arrayKeyStore()
  const keys = { cmks: [one, two] }
  const { envelopes } = await clinic({ keyStore, keys }).seal('a', { ssn: 'x' })
  expect(keyStore.keks()[0]?.wraps.map(({ uri }) => uri)).toEqual(['key-one', 'two'])
  one.failure = 'ERR_KMS_UNKNOWN'
  expect(
    (await clinic({ keyStore, keys: { cmks: [fakeCopy(one), two] } }).open('a', { ssn: envelopes[0] })).values,
  ).toEqual(['x'])
  one.failure = 'ERR_KMS_ACCESS_DENIED'
  await expect(
    clinic({ keyStore, keys: { cmks: [fakeCopy(one), two] } }).open('a', { ssn: envelopes[0] }),
  ).rejects.toMatchObject({
    code: 'ERR_KMS_ACCESS_DENIED',
  })
})

it('keeps a key open until all legs deny, when told so', async () => {
  const { one, two, restart } = await twoLegs({ revocation: 'all-legs' })
  one.failure = 'ERR_KMS_KEY_DISABLED'
  expect((await restart().read()).values).toEqual(['x'])
  two.failure = 'ERR_KMS_ACCESS_DENIED'
  await expect(restart().read()).rejects.toMatchObject({ kind: 'denied' })
})

it('does not call a key denied while one of all legs is silent, in either order', async () => {
  const { one, two, restart } = await twoLegs({ revocation: 'all-legs' })
  for (const [first, second] of [
    ['ERR_KMS_KEY_DISABLED', 'ERR_KMS_UNKNOWN'],
    ['ERR_KMS_UNKNOWN', 'ERR_KMS_KEY_DISABLED'],
  ] as const) {
    one.failure = two.failure = undefined
    const cached = restart()
    await cached.read()
    one.failure = first
    two.failure = second
    cached.clock.advance(300_000)
    expect((await cached.read()).values).toEqual(['x'])
    expect(cached.events('key.revoked')).toEqual([])
  }
})

it('lets a former CMK open only what no current one has wrapped', async () => {
  const [old, current] = [fakeCmk('old', { credentialScope: 'old' }), fakeCmk('current')]
  const keyStore = arrayKeyStore()
  const { envelopes } = await clinic({ keyStore, keys: { cmks: [old] } }).seal('a', { ssn: 'x' })
  const during = clinic({ keyStore, keys: { cmks: [current], formerCmks: [old] } })
  expect((await during.open('a', { ssn: envelopes[0] })).values).toEqual(['x'])
  await during.seal('b', { ssn: 'y' })
  expect(old.operations()).toEqual(['wrap', 'unwrap', 'unwrap']) // never wraps again

  const both = await twoLegs()
  both.one.calls.length = 0
  const after = clinic({ keyStore: both.keyStore, keys: { cmks: [both.two], formerCmks: [both.one] } })
  await after.seal('a', { ssn: 'z' })
  expect(operations(both.one)).toEqual([''])
})

it('refuses a wrap by a CMK that is not configured, before any call', async () => {
  const { one, two, keyStore } = await twoLegs()
  const stranger = fakeCmk('three')
  one.calls.length = two.calls.length = 0
  const world = clinic({ keyStore, keys: { cmks: [stranger] } })
  await expect(world.seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_KMS_CONFIG', kind: 'misuse' })
  expect(operations(one, two, stranger)).toEqual(['', '', ''])
})

it('obeys minWraps: fewer answers make no KEK, enough do, and a denial never passes', async () => {
  const make = async (minWraps: number, ...failures: FakeCmk['failure'][]) => {
    const cmks = failures.map((failure, i) =>
      Object.assign(fakeCmk(`k${i}`, { credentialScope: `s${i}` }), { failure }),
    )
    const world = clinic({ keys: { cmks, minWraps } })
    const outcome = await world.seal('a', { ssn: 'x' }).then(
      () => 'made',
      (error: { code: string }) => error.code,
    )
    return [outcome, world.keyStore.keks()[0]?.wraps.length]
  }
  expect(await make(1, undefined, 'ERR_KMS_UNKNOWN')).toEqual(['made', 1])
  expect(await make(2, undefined, 'ERR_KMS_UNKNOWN')).toEqual(['ERR_KMS_UNKNOWN', undefined])
  expect(await make(1, 'ERR_KMS_UNKNOWN', undefined, undefined)).toEqual(['made', 2])
  expect(await make(1, undefined, 'ERR_KMS_ACCESS_DENIED')).toEqual(['ERR_KMS_ACCESS_DENIED', undefined])
  expect(await make(1, undefined, 'ERR_KMS_UNKNOWN', 'ERR_KMS_KEY_DISABLED')).toEqual([
    'ERR_KMS_KEY_DISABLED',
    undefined,
  ])
})

it('lets the first CMK generate the key where it can, and zeroes it when the KEK is not made', async () => {
  const one = fakeCmk('one', { generates: true })
  const two = fakeCmk('two', { generates: true, credentialScope: 'two' })
  const world = clinic({ keys: { cmks: [one, two] } })
  await world.seal('a', { ssn: 'x' })
  expect(operations(one, two)).toEqual(['generate unwrap', 'wrap unwrap'])
  two.failure = 'ERR_KMS_ACCESS_DENIED'
  await expect(world.seal('b', { ssn: 'x' })).rejects.toMatchObject({ kind: 'denied' })
  expect(one.given.at(-1)?.disposed).toBe(true)
})

it('stores no KEK whose wrap opens to another key, made here or generated', async () => {
  for (const generates of [false, true]) {
    const cmk = Object.assign(fakeCmk('one', { generates }), { liar: true })
    const world = clinic({ cmk })
    await expect(world.seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_KMS_INTEGRITY_FAILED' })
    expect(world.keyStore.rows.size).toBe(0)
    expect(cmk.given.every(({ disposed }) => disposed)).toBe(true)
  }
})

it('asks further legs at the same time, not one after another', async () => {
  const cmks = ['k0', 'k1', 'k2', 'k3'].map((uri) => fakeCmk(uri, { credentialScope: uri }))
  const keyStore = arrayKeyStore()
  const { envelopes } = await clinic({ keyStore, keys: { cmks } }).seal('a', { ssn: 'x' })
  let underWay = 0
  let most = 0
  for (const cmk of cmks)
    cmk.before = async () => {
      most = Math.max(most, ++underWay)
      await new Promise((resolve) => setTimeout(resolve, 5))
      underWay--
    }
  await clinic({ keyStore, keys: { cmks } }).open('a', { ssn: envelopes[0] })
  expect(most).toBe(3)
  most = 0
  await clinic({ keys: { cmks } }).seal('a', { ssn: 'x' })
  expect(most, 'a new KEK is wrapped by all at once').toBe(4)
})

it('refuses at once to store a wrap that could never be read again', async () => {
  const cmk = fakeCmk('cmk', { keyVersion: 'projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/12345' })
  const world = clinic({ cmk })
  await expect(world.seal('a', { ssn: 'x' })).rejects.toMatchObject({ code: 'ERR_KMS_CONFIG' })
  expect(world.keyStore.rows.size).toBe(0)
})

/** The same CMK as a registry returns it again: another object. */
function fakeCopy(cmk: FakeCmk): FakeCmk {
  return new Proxy(cmk, {})
}
