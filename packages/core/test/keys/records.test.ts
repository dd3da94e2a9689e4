import { expect, it } from 'vitest'
import { keyspaceOf, slotOf, type KeyStoreRecord } from '../../src/keys/records.ts'
import { directRecord, indexRecord, kekRecord } from '../support/records.ts'

it('gives one slot to records of which only one may exist', () => {
  expect(slotOf(kekRecord())).toBe(slotOf(kekRecord({ state: 'active', revision: 9 })))
  const distinct: KeyStoreRecord[] = [
    kekRecord(),
    kekRecord({ version: 4 }),
    kekRecord({ purpose: 'index' }),
    kekRecord({ tenant: 'b' }),
    kekRecord({ app: 'b' }),
    kekRecord({ keyspace: 'class:x' }),
    indexRecord(),
    indexRecord({ epoch: 2 }),
    indexRecord({ index: 'x' }),
    directRecord(),
    directRecord({ uri: 'b' }),
    kekRecord({ tenant: 'a","default' }),
    kekRecord({ tenant: 'a', keyspace: 'subject:p:"' }),
  ]
  expect(new Set(distinct.map(slotOf)).size).toBe(distinct.length)
})

it('stays within what a unique index holds, whatever the names', () => {
  const worst = { app: 'a'.repeat(64), tenant: '"'.repeat(256) }
  const slots = [
    slotOf(
      kekRecord({ ...worst, keyspace: `subject:${'x'.repeat(64)}:${'\u0001'.repeat(256)}`, version: 2 ** 32 - 1 }),
    ),
    slotOf(indexRecord({ ...worst, model: '"'.repeat(256), index: '\\'.repeat(256), epoch: 255 })),
  ]
  for (const slot of slots) expect(Buffer.byteLength(slot)).toBeLessThanOrEqual(2_600)
})

it('loads index records with the tenant’s default keyspace', () => {
  expect(keyspaceOf(indexRecord())).toBe('default')
  expect(keyspaceOf(kekRecord({ keyspace: 'class:payment' }))).toBe('class:payment')
})
