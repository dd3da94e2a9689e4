import { expect, it } from 'vitest'
import { clinic, NOTES } from '../support/clinic.ts'

it('makes the keys of a write before a connection is taken', async () => {
  const { host, map, as, keyStore, cmk, seal } = clinic()
  await as('a', async () => host.load([map], host.capture()))
  keyStore.calls.length = cmk.calls.length = 0
  await seal('a', { ssn: 'x', email: 'y' })
  expect([keyStore.calls.length, cmk.calls.length]).toEqual([0, 0])
})

it('makes no wrapping key for a read', async () => {
  const { host, as, keyStore } = clinic({}, NOTES)
  const plain = clinic({ keyStore }, { ...NOTES, options: { tenantBy: 'clinic_id' } })
  await plain.as('a', async () => plain.host.load([plain.map], plain.host.capture(), { use: 'read' }))
  expect(keyStore.rows.size).toBe(0)
  await as('a', async () => host.load([], host.capture()))
  expect(keyStore.rows.size).toBe(0)
})

it('takes the keyspaces of rows at hand, and does nothing in a system context', async () => {
  const { host, map, as, keyStore, fieldseal } = clinic({}, NOTES)
  await as('a', async () => host.load([map], host.capture(), { keyspaces: ['subject:patient:1'] }))
  expect(keyStore.keks().map(({ keyspace }) => keyspace)).toEqual(['default', 'subject:patient:1'])
  await fieldseal.runAsSystem({ reason: 'x' }, async () =>
    host.load([map], host.capture(), { keyspaces: ['subject:patient:2'] }),
  )
  expect(keyStore.keks()).toHaveLength(2)
})

it('asks for keys again that are purged while they are loaded', async () => {
  const { as, host, map, cmk, fieldseal } = clinic()
  await as('a', async () => host.load([map], host.capture()))
  const load = async () => host.load([map], host.capture(), { use: 'read' })
  for (let turn = 0; turn < 60; turn++) {
    fieldseal.purge('a')
    // Between any two steps of it: once while the key is asked for, once so many steps later.
    const calls = cmk.calls.length
    const loading = as('a', load)
    while (cmk.calls.length === calls) await Promise.resolve()
    fieldseal.purge('a')
    for (let i = 0; i < turn; i++) await Promise.resolve()
    fieldseal.purge('a')
    await loading
  }
})
