import { rotateKek } from '@fieldseal/core/adapter'
import { memoryRecordSource } from '@fieldseal/testkit'
import { expect, it } from 'vitest'
import { createMigrator } from '../src/create-migrator.ts'
import { clinic, NOTES, PATIENTS, range } from './support/clinic.ts'

it('goes on in the second of two sources that keep their checkpoints in one table', async () => {
  const { fieldseal, source, fill, as } = clinic({}, [PATIENTS])
  const second = memoryRecordSource(fieldseal, [NOTES], { rows: new Map(), checkpoints: source.checkpoints })
  await fill('a', range(0, 6))
  for (const id of range(0, 6))
    await as('a', () => second.write('notes', { clinic: 'a', id, patient: '1' }, { text: `note ${id}` }))
  await rotateKek(fieldseal, { tenant: 'a' })
  await rotateKek(fieldseal, { tenant: 'a', keyspace: 'subject:patient:1' })
  const migrator = createMigrator({ fieldseal, sources: [source, second] })
  let batches = 0
  second.beforeUpdate = () => {
    if (++batches === 2) throw new Error('killed')
  }
  const pace = { batchSize: 2, concurrency: 1 }
  await expect(migrator.rewrap(pace)).rejects.toThrow('killed')
  second.beforeUpdate = undefined
  const report = await migrator.rewrap(pace)
  expect(report).toMatchObject({ resumed: true, remaining: 0 })
  expect(report.models).toMatchObject([
    { rows: 6, unchanged: 6 },
    { rows: 6, updated: 6 },
  ])
})

it('takes a source that is given twice once', async () => {
  const { fieldseal, source, fill } = clinic({}, [PATIENTS])
  await fill('a', range(0, 6))
  await rotateKek(fieldseal, { tenant: 'a' })
  const migrator = createMigrator({ fieldseal, sources: [source, { ...source }, source] })
  expect((await migrator.rewrap()).models).toMatchObject([{ rows: 6, updated: 6 }])
})
