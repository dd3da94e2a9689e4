import { expect, it } from 'vitest'
import { rotateKek } from '../../src/attach.ts'
import { changeKek, denyKey, findKey, listKeys, rewrapChildren, rotateCmk } from '../../src/maintenance.ts'
import type { KekId } from '../../src/keys/records.ts'
import { clinic, NOTES, OTHER_ID } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

const DAY = 86_400_000

async function prepared() {
  const app = clinic()
  const { envelopes } = await app.seal('a', { ssn: '1' })
  const [kek] = app.keyStore.keks().filter((record) => record.purpose === 'wrap')
  if (kek === undefined) throw new Error('no KEK')
  const recordOf = (id: KekId) => app.keyStore.keks().find((record) => record.id === id)
  return { ...app, id: kek.id, envelope: envelopes[0], recordOf }
}

it('goes forward over states and back where that can be undone, each under a MAC that holds', async () => {
  const { fieldseal, id, recordOf, envelope, open, clock } = await prepared()
  const to = (state: 'decrypt-only' | 'retired' | 'destroyed') => changeKek(fieldseal, id, { to: state })
  expect(await to('decrypt-only')).toBe('changed')
  expect(await to('decrypt-only')).toBe('unchanged')
  expect((await open('a', { ssn: envelope })).values).toEqual(['1'])
  await to('retired')
  await expect(open('a', { ssn: envelope })).rejects.toMatchObject({ code: 'ERR_KEY_RETIRED' })
  await to('decrypt-only')
  expect((await open('a', { ssn: envelope })).values).toEqual(['1'])
  const destroyAt = clock.now() + 7 * DAY
  await changeKek(fieldseal, id, { to: 'pending-destruction', destroyAt })
  expect(recordOf(id)).toMatchObject({ state: 'pending-destruction', destroyAt, revision: 5 })
  await expect(to('destroyed')).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED', kind: 'refused' })
  await to('retired')
  expect(recordOf(id)).not.toHaveProperty('destroyAt')
  await changeKek(fieldseal, id, { to: 'pending-destruction', destroyAt })
  clock.advance(8 * DAY)
  await to('destroyed')
  expect(recordOf(id)).toMatchObject({ state: 'destroyed', wraps: [] })
  await expect(to('retired')).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
  await expect(open('a', { ssn: envelope })).rejects.toMatchObject({ code: 'ERR_KEY_ERASED', kind: 'erased' })
})

it('never goes back from decrypt-only to active', async () => {
  const { fieldseal, id, keyStore } = await prepared()
  await changeKek(fieldseal, id, { to: 'decrypt-only' })
  keyStore.before = undefined
  const back = { to: 'active' } as never // what the types forbid
  await expect(changeKek(fieldseal, id, back)).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
})

it('does not renew the MAC of a record that was altered', async () => {
  const { fieldseal, id, keyStore } = await prepared()
  keyStore.tamper(id, { createdAt: 1 })
  await expect(changeKek(fieldseal, id, { to: 'decrypt-only' })).rejects.toMatchObject({
    code: 'ERR_KEY_RECORD_INVALID',
  })
  await expect(changeKek(fieldseal, OTHER as KekId, { to: 'retired' })).rejects.toMatchObject({
    code: 'ERR_KEY_NOT_FOUND',
  })
})
const OTHER = 'f'.repeat(24)

it('reads the record again when somebody else was faster, and gives up in the end', async () => {
  const { fieldseal, id, keyStore, recordOf } = await prepared()
  let faster = 1
  keyStore.before = (operation) => {
    const record = recordOf(id)
    if (operation !== 'update' || faster-- <= 0 || record === undefined) return
    keyStore.tamper(id, { rowVersion: record.rowVersion + 1 })
  }
  expect(await changeKek(fieldseal, id, { to: 'compromised' })).toBe('changed')
  expect(recordOf(id)).toMatchObject({ compromised: true, state: 'active', revision: 2, rowVersion: 3 })
  faster = Infinity
  await expect(changeKek(fieldseal, id, { to: 'retired' })).rejects.toMatchObject({
    code: 'ERR_KEY_STORE_UNAVAILABLE',
  })
  await expect(denyKey(fieldseal, id, 'retired')).rejects.toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE' })
})

it('denies without the key, only ever more strictly, and takes a denial back', async () => {
  const { fieldseal, id, cmk, envelope, open, recordOf } = await prepared()
  cmk.failure = 'ERR_KMS_KEY_DISABLED'
  fieldseal.purge('a')
  await expect(changeKek(fieldseal, id, { to: 'decrypt-only' })).rejects.toMatchObject({ kind: 'denied' })
  expect(await denyKey(fieldseal, id, 'pending-destruction')).toBe('changed')
  expect(await denyKey(fieldseal, id, 'pending-destruction')).toBe('unchanged')
  await expect(denyKey(fieldseal, id, 'retired')).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
  await denyKey(fieldseal, id, undefined)
  cmk.failure = undefined
  fieldseal.purge('a')
  expect((await open('a', { ssn: envelope })).values).toEqual(['1'])
  await denyKey(fieldseal, id, 'destroyed')
  expect(recordOf(id)).toMatchObject({ denial: 'destroyed', wraps: [] })
  await expect(denyKey(fieldseal, id, undefined)).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
  await expect(changeKek(fieldseal, id, { to: 'retired' })).rejects.toMatchObject({ code: 'ERR_KEY_ERASED' })
})

it('changes the key of a data subject through its parent, whatever state that is in', async () => {
  const app = clinic({}, NOTES)
  await app.as('a', () =>
    app.host.cipher.seal([app.rowOf('a', { text: 'x' }, OTHER_ID, { patient: '7' })], app.host.capture()),
  )
  const [child] = app.keyStore.keks().filter((record) => record.parent !== undefined)
  const [parent] = app.keyStore.keks().filter((record) => record.parent === undefined && record.purpose === 'wrap')
  if (child === undefined || parent === undefined) return expect.unreachable()
  await changeKek(app.fieldseal, parent.id, { to: 'retired' })
  expect(await changeKek(app.fieldseal, child.id, { to: 'retired' })).toBe('changed')
  app.keyStore.tamper(child.id, { parent: child.id })
  await expect(changeKek(app.fieldseal, child.id, { to: 'decrypt-only' })).rejects.toMatchObject({
    code: 'ERR_KEY_RECORD_INVALID',
  })
})

it('tells key records without key material', async () => {
  const { fieldseal, id } = await prepared()
  await rotateKek(fieldseal, { tenant: 'a' })
  const keys = []
  for await (const key of listKeys(fieldseal, { tenant: 'a' })) keys.push(key)
  expect(keys).toHaveLength(2)
  expect(JSON.stringify(keys)).not.toMatch(/blob|mac/)
  expect(await findKey(fieldseal, id)).toMatchObject({ id, state: 'decrypt-only', wraps: [{ uri: 'cmk-1' }] })
  expect(await findKey(fieldseal, OTHER as KekId)).toBeUndefined()
})

it('wraps KEKs anew by the newest version of their CMK, each wrap seen to open', async () => {
  const { fieldseal, id, keyStore, recordOf, open, envelope } = await prepared()
  const before = recordOf(id)
  expect(await rotateCmk(fieldseal, { tenant: 'a' })).toMatchObject({ rewritten: 1, unchanged: 0, changed: 0 })
  const after = recordOf(id)
  expect(after?.wraps[0]?.blob).not.toEqual(before?.wraps[0]?.blob)
  expect(after).toMatchObject({ revision: before?.revision, rowVersion: 2, mac: before?.mac })
  expect((await open('a', { ssn: envelope })).values).toEqual(['1'])
  keyStore.before = (operation) => {
    if (operation === 'update') keyStore.tamper(id, { rowVersion: 9 })
  }
  expect(await rotateCmk(fieldseal, { tenant: 'a' })).toMatchObject({ changed: 1 })
})

it('wraps no KEK anew whose record was altered, and keeps the good wrap when the new one opens to another key', async () => {
  const cmk = fakeCmk('one', { rewraps: true })
  const app = clinic({ cmk })
  const { envelopes } = await app.seal('a', { ssn: '1' })
  const [kek] = app.keyStore.keks()
  if (kek === undefined) return expect.unreachable()
  cmk.before = (operation) => void (cmk.liar = operation === 'rewrap')
  await expect(rotateCmk(app.fieldseal, { tenant: 'a' })).rejects.toMatchObject({ code: 'ERR_KMS_INTEGRITY_FAILED' })
  cmk.before = undefined
  cmk.liar = false
  expect(app.keyStore.keks()).toEqual([kek])
  expect((await app.open('a', { ssn: envelopes[0] })).values).toEqual(['1'])
  app.keyStore.tamper(kek.id, { compromised: true })
  await expect(rotateCmk(app.fieldseal, { tenant: 'a' })).rejects.toMatchObject({ code: 'ERR_KEY_RECORD_INVALID' })
  expect(app.keyStore.keks()[0]?.wraps).toEqual(kek.wraps)
})

it('wraps the keys of data subjects by the tenant’s newest key, but hides none that may be known', async () => {
  const app = clinic({}, NOTES)
  const row = () => app.rowOf('a', { text: 'x' }, OTHER_ID, { patient: '7' })
  const [sealed] = await app.as('a', () => app.host.cipher.seal([row()], app.host.capture()))
  const child = () => app.keyStore.keks().find((record) => record.parent !== undefined)
  const before = child()
  expect(await rewrapChildren(app.fieldseal, { tenant: 'a' })).toEqual({ rewrapped: 0, changed: 0, left: 0 })
  const { kekId, demoted } = await rotateKek(app.fieldseal, { tenant: 'a' })
  app.keyStore.before = (operation) => {
    if (operation === 'update' && before !== undefined) app.keyStore.tamper(before.id, { rowVersion: 5 })
  }
  expect(await rewrapChildren(app.fieldseal, { tenant: 'a' })).toMatchObject({ changed: 1 })
  app.keyStore.before = undefined
  expect(await rewrapChildren(app.fieldseal, { tenant: 'a' })).toMatchObject({ rewrapped: 1 })
  expect(child()).toMatchObject({ parent: kekId, revision: 2, id: before?.id })
  const [old] = demoted
  if (old === undefined) return expect.unreachable()
  await changeKek(app.fieldseal, old, { to: 'retired' })
  const stored = { ...row(), cells: [{ field: app.map.fields[0] as never, value: sealed?.envelopes[0] }] }
  const [opened] = await app.as('a', () => app.host.cipher.open([stored], app.host.capture()))
  expect(opened?.values).toEqual(['x'])
  await changeKek(app.fieldseal, kekId, { to: 'compromised' })
  expect(await rewrapChildren(app.fieldseal, { tenant: 'a' })).toMatchObject({ rewrapped: 0, left: 1 })
})
