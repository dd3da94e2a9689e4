import { expect, it } from 'vitest'
import { moveWraps, rotateKek } from '../../src/attach.ts'
import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import { recordToJson } from '../../src/keys/record-json.ts'
import { type ArrayKeyStore, arrayKeyStore } from '../support/array-key-store.ts'
import { clinic } from '../support/clinic.ts'
import { type FakeCmk, fakeCmk } from '../support/fake-cmk.ts'
import { directRecord } from '../support/records.ts'

const uris = (keyStore: ArrayKeyStore) => keyStore.keks().map(({ wraps }) => wraps.map(({ uri }) => uri).join('+'))

/** Tenant a with two KEK versions and an index KEK, all wrapped by `old`. */
async function before() {
  const keyStore = arrayKeyStore()
  const [old, next] = [fakeCmk('old', { credentialScope: 'old' }), fakeCmk('new', { credentialScope: 'new' })]
  const world = clinic({ keyStore, keys: { cmks: [old] } })
  const first = await world.seal('a', { ssn: 'v1' })
  await rotateKek(world.fieldseal, { tenant: 'a' })
  const second = await world.seal('a', { ssn: 'v2', email: 'ada@example.org' })
  const configured = (cmks: FakeCmk[], formerCmks: FakeCmk[] = []) => {
    const again = clinic({ keyStore, keys: { cmks, formerCmks } })
    return {
      ...again,
      readAll: async () => {
        expect((await again.open('a', { ssn: first.envelopes[0] })).values).toEqual(['v1'])
        expect((await again.open('a', { ssn: second.envelopes[0] })).values).toEqual(['v2'])
      },
    }
  }
  return { keyStore, old, next, configured }
}

it('moves every KEK of a tenant to the configured CMK by rewriting key records only', async () => {
  const { keyStore, old, next, configured } = await before()
  const { fieldseal, readAll } = configured([next], [old])
  expect(await moveWraps(fieldseal, { tenant: 'a' })).toEqual({
    rewritten: 3,
    unchanged: 0,
    wrapsAdded: 3,
    wrapsDropped: 3,
  })
  expect(uris(keyStore)).toEqual(['new', 'new', 'new'])
  old.failure = 'ERR_KMS_KEY_DESTROYED'
  await readAll()
  expect(await moveWraps(fieldseal, { tenant: 'a' })).toEqual({
    rewritten: 0,
    unchanged: 3,
    wrapsAdded: 0,
    wrapsDropped: 0,
  })
})

it('adds a second CMK and takes one away', async () => {
  const { keyStore, old, next, configured } = await before()
  await moveWraps(configured([old, next]).fieldseal, { tenant: 'a' })
  expect(uris(keyStore)).toEqual(['old+new', 'old+new', 'old+new'])
  const { fieldseal, readAll } = configured([next])
  await moveWraps(fieldseal, { tenant: 'a' })
  expect(uris(keyStore)).toEqual(['new', 'new', 'new'])
  await readAll()
})

it('leaves facts, MAC and other tenants as they are', async () => {
  const { keyStore, old, next, configured } = await before()
  await clinic({ keyStore, keys: { cmks: [old] } }).seal('b', { ssn: 'x' })
  const macs = () => keyStore.keks().map(({ id, mac, revision }) => [id, Buffer.from(mac).toString('hex'), revision])
  const was = macs()
  await moveWraps(configured([next], [old]).fieldseal, { tenant: 'a' })
  expect(macs()).toEqual(was)
  expect(uris(keyStore).at(-1)).toBe('old')
})

it('keeps the last good wrap when the new CMK wraps another key or does not answer', async () => {
  const { keyStore, old, next, configured } = await before()
  const { fieldseal, readAll } = configured([next], [old])
  next.liar = true
  await expect(moveWraps(fieldseal, { tenant: 'a' })).rejects.toMatchObject({ code: 'ERR_KMS_INTEGRITY_FAILED' })
  expect(uris(keyStore)).toEqual(['old', 'old', 'old'])
  next.liar = false
  next.failure = 'ERR_KMS_ACCESS_DENIED'
  await expect(moveWraps(fieldseal, { tenant: 'a' })).rejects.toMatchObject({ kind: 'denied' })
  expect(uris(keyStore)).toEqual(['old', 'old', 'old'])
  next.failure = undefined
  await readAll()
  expect(next.given.every(({ disposed }) => disposed) || next.given.length === 0).toBe(true)
})

it('names formerCmks when no configured CMK opens a key', async () => {
  const { next, configured } = await before()
  await expect(moveWraps(configured([next]).fieldseal, { tenant: 'a' })).rejects.toMatchObject({
    code: 'ERR_KMS_CONFIG',
    details: { hint: expect.stringContaining('formerCmks') as string },
  })
})

it('refuses to drop a CMK that direct rows need', async () => {
  const { keyStore, old, next, configured } = await before()
  const { denial, ...record } = directRecord({ provider: 'fake', uri: 'old' })
  keyStore.rows.set(record.id, recordToJson(record))
  await expect(moveWraps(configured([next], [old]).fieldseal, { tenant: 'a' })).rejects.toMatchObject({
    code: 'ERR_KMS_CONFIG',
    details: { hint: expect.stringContaining('rewrap') as string },
  })
  expect(uris(keyStore)).toEqual(['old', 'old', 'old']) // refused before anything was written
  expect(await moveWraps(configured([old]).fieldseal, { tenant: 'a' })).toMatchObject({ unchanged: 3 })
  keyStore.tamper(record.id, { denial }) // its rows were rewrapped, the record is needed no more
  expect(await moveWraps(configured([next], [old]).fieldseal, { tenant: 'a' })).toMatchObject({ rewritten: 3 })
})

it('writes nothing over a record that changed meanwhile', async () => {
  const { keyStore, old, next, configured } = await before()
  const { update } = keyStore
  keyStore.update = async (record) => {
    keyStore.update = update
    keyStore.tamper(record.id, { rowVersion: record.rowVersion, denial: 'retired' })
    return update(record)
  }
  await expect(moveWraps(configured([next], [old]).fieldseal, { tenant: 'a' })).rejects.toMatchObject({
    code: 'ERR_KEY_STORE_UNAVAILABLE',
    details: { hint: 'run the move again' },
  })
  expect(keyStore.keks().some(({ denial }) => denial === 'retired')).toBe(true)
})

it('moves no key whose record was altered', async () => {
  const { keyStore, old, next, configured } = await before()
  keyStore.tamper(keyStore.keks()[0]?.id as never, { compromised: true })
  await expect(moveWraps(configured([next], [old]).fieldseal, { tenant: 'a' })).rejects.toMatchObject({
    code: 'ERR_KEY_RECORD_INVALID',
  })
})

it('leaves tombstones and the keys of data subjects alone', async () => {
  const { keyStore, old, next, configured } = await before()
  const world = configured([old])
  await world.fieldseal.prepare('a', { keyspaces: ['subject:patient:1'] })
  const gone = keyStore.keks()[0]
  keyStore.tamper(gone?.id as never, { denial: 'destroyed', wraps: [] })
  expect(await moveWraps(configured([next], [old]).fieldseal, { tenant: 'a' })).toMatchObject({ rewritten: 2 })
  expect(keyStore.keks().find(({ parent }) => parent !== undefined)?.wraps[0]?.provider).toBe('kek')
})

it('reaches the keys across tenants', async () => {
  const model = {
    id: 'users',
    options: { tenantBy: 'clinic_id' },
    fields: [{ path: 'email', type: 'string', options: { blindIndex: { acrossTenants: true } } }],
    rowKey: [{ path: 'id', kind: 'uuid' as const }],
  }
  const keyStore = arrayKeyStore()
  const [old, next] = [fakeCmk('old'), fakeCmk('new')]
  await clinic({ keyStore, keys: { cmks: [old] } }, model).seal('a', { email: 'x' })
  await moveWraps(clinic({ keyStore, keys: { cmks: [next], formerCmks: [old] } }, model).fieldseal, {
    acrossTenants: true,
  })
  expect(
    keyStore
      .keks()
      .map(({ tenant, wraps }) => `${tenant} ${wraps[0]?.uri}`)
      .sort(),
  ).toEqual(['$shared new', 'a old'])
})

it('converges after a crash at any step, and all data is readable at every moment', async () => {
  for (let step = 1; ; step++) {
    const { keyStore, old, next, configured } = await before()
    const dying = configured([next], [old])
    const counted = { left: step }
    keyStore.before =
      old.before =
      next.before =
        () => {
          if (--counted.left <= 0) throw new FieldsealError('ERR_KMS_UNKNOWN')
        }
    const outcome = await moveWraps(dying.fieldseal, { tenant: 'a' }).catch(() => undefined)
    keyStore.before = old.before = next.before = undefined
    if (outcome !== undefined && counted.left > 0) break
    expect(step, 'the loop ends').toBeLessThan(60)

    await configured([next], [old]).readAll()
    await moveWraps(configured([next], [old]).fieldseal, { tenant: 'a' })
    expect(uris(keyStore), `after step ${step}`).toEqual(['new', 'new', 'new'])
    await configured([next]).readAll()
  }
})
