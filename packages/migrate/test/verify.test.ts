import { expect, it } from 'vitest'
import { reportOf } from '../src/report/report.ts'
import { clinic, range } from './support/clinic.ts'

it('opens every value and compares every token', async () => {
  const { migrator, fill, fillNotes } = clinic()
  await fill('a', range(0, 9))
  await fillNotes('a', range(0, 4))
  const report = await migrator.verify({ batchSize: 2 })
  expect(report.models).toMatchObject([
    { model: 'patients', rows: 9, unchanged: 9, counts: { values: 9 * 3 - 3, tokens: 9, outdated: 0 } },
    { model: 'notes', rows: 4, counts: { values: 4, tokens: 4 } },
  ])
})

it('finds swapped values, foreign tokens and plaintext, each by row and field', async () => {
  const { migrator, fill, source } = clinic()
  await fill('a', range(0, 4))
  const rows = [...(source.rows.get('patients')?.values() ?? [])]
  const [one, two, three, four] = rows
  if (one === undefined || two === undefined || three === undefined || four === undefined) return expect.unreachable()
  one.cells['ssn'] = two.cells['ssn'] ?? null
  two.tokens['email'] = one.tokens['email'] ?? []
  three.cells['ssn'] = 'plain'
  const error: unknown = await migrator.verify().catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  expect(reportOf(error)?.models[0]).toMatchObject({
    failed: 3,
    unchanged: 1,
    failures: [
      { key: '0', field: 'ssn', code: 'ERR_DECRYPT_FAILED' },
      { key: '1', field: 'email', code: 'ERR_TOKEN_MISMATCH' },
      { key: '2', field: 'ssn', code: 'ERR_PLAINTEXT_FOUND' },
    ],
  })
  const ofEmail = reportOf(await migrator.verify({ field: 'email' }).catch((e: unknown) => e))
  expect(ofEmail?.models[0]?.failures).toEqual([{ key: '1', tenant: 'a', field: 'email', code: 'ERR_TOKEN_MISMATCH' }])
})

it('has not succeeded when it saw no row of a table that has some', async () => {
  const { migrator, fill } = clinic({
    wrapSource: (source) => Object.create(source, { pages: { value: async function* () {} } }) as typeof source,
  })
  await fill('a', range(0, 4))
  await expect(migrator.verify()).rejects.toMatchObject({ code: 'ERR_ROWS_REMAIN' })
})
