import { createFieldseal } from '@fieldseal/core'
import type { AuditSink } from '@fieldseal/core'
import { fakeClock, fakeKms, memoryKeyStore, memoryRecordSource } from '@fieldseal/testkit'
import { expect, it } from 'vitest'
import { createMigrator } from '../src/create-migrator.ts'
import { range } from './support/clinic.ts'

function shop(audit?: AuditSink) {
  const kms = fakeKms()
  const clock = fakeClock()
  const fieldseal = createFieldseal({
    app: 'shop',
    tenancy: 'single',
    keyStore: memoryKeyStore(),
    keys: { cmks: [kms.cmk('cmk-1')] },
    clock,
    ...(audit === undefined ? {} : { audit }),
  })
  const source = memoryRecordSource(fieldseal, [
    {
      id: 'users',
      options: { tenantBy: 'none', keyspace: { per: 'id', of: 'user' } },
      fields: [{ path: 'email', type: 'string', options: { blindIndex: true } }],
      rowKey: [{ path: 'id', kind: 'integer' }],
    },
    {
      id: 'orders',
      options: { tenantBy: 'none' },
      fields: [{ path: 'address', type: 'string', options: {} }],
      rowKey: [{ path: 'id', kind: 'integer' }],
    },
  ])
  const migrator = createMigrator({ fieldseal, sources: [source] })
  async function fill(ids: readonly number[]): Promise<void> {
    for (const id of ids) {
      await source.write('users', { id }, { email: `u${id}@x.org` })
      await source.write('orders', { id }, { address: `street ${id}` })
    }
  }
  return { kms, clock, fieldseal, source, migrator, fill }
}

it('runs every verb of an application without tenants', async () => {
  const { kms, clock, source, migrator, fill } = shop()
  await fill(range(0, 6))
  await migrator.rotateKek()
  expect((await migrator.rewrap()).models).toMatchObject([{ unchanged: 6 }, { updated: 6, remaining: 0 }])
  kms.rotate('cmk-1')
  expect(await migrator.rotateCmk()).toMatchObject({ unchanged: 0 })
  expect((await migrator.verify()).models).toMatchObject([{ counts: { tokens: 6 } }, { counts: { values: 6 } }])
  const { keys } = await migrator.status()
  const [old] = keys.filter(({ purpose }) => purpose === 'wrap')
  expect(old).toMatchObject({ tenant: '$single', version: 1, rows: 0 })
  const retire = await migrator.plan('retire', { kek: old?.id ?? '' })
  clock.advance(3_600_000)
  expect(await migrator.apply(retire)).toMatchObject({ state: 'retired' })
  expect(await migrator.apply(await migrator.plan('move'))).toMatchObject({ rewritten: 0 })
  const shred = await migrator.plan('shred', { keyspace: 'subject:user:3', destroyAfterDays: 0 })
  const confirm = 'subject:user:3'
  expect(await migrator.apply(shred, { confirm })).toMatchObject({ report: { state: 'destroyed', tokensCleared: 1 } })
  await expect(source.read('users', { id: 3 })).rejects.toMatchObject({ kind: 'erased' })
  expect(await source.read('users', { id: 4 })).toEqual({ email: 'u4@x.org' })
  const newest = keys.find(({ version, purpose }) => version === 2 && purpose === 'wrap')
  expect((await migrator.reEncrypt({ kek: newest?.id ?? '', drain: false })).models).toMatchObject([
    { updated: 5 },
    { updated: 6 },
  ])
  expect((await migrator.verify()).models).toMatchObject([{ unchanged: 5, erased: 1 }, { unchanged: 6 }])
  expect(await migrator.doctor()).toEqual([])
  expect(await migrator.plan('shred', {})).toMatchObject({ confirm: 'everything' })
})

it('uses no key before the audit trail has taken its entry', async () => {
  let takes = true
  const entries: string[] = []
  const { migrator, fill } = shop({
    async write(event) {
      await Promise.resolve()
      if (!takes) throw new Error('full')
      entries.push('operation' in event ? event.operation : '')
    },
  })
  await fill([1])
  await migrator.verify()
  expect(entries).toContain('run-as-system')
  takes = false
  await expect(migrator.verify()).rejects.toMatchObject({ code: 'ERR_AUDIT_UNAVAILABLE' })
  await expect(migrator.rotateKek()).rejects.toMatchObject({ code: 'ERR_AUDIT_UNAVAILABLE' })
})
