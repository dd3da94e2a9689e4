import { rotateKek } from '@fieldseal/core/adapter'
import { expect, it } from 'vitest'
import { reportOf } from '../src/report/report.ts'
import { clinic, range } from './support/clinic.ts'

const SMALL = { batchSize: 4, concurrency: 2 }

it('brings every row under the newest key, and says exactly how many', async () => {
  const { fieldseal, migrator, fill, readAll, source } = clinic()
  await fill('a', range(0, 21))
  await fill('b', range(100, 105))
  const { demoted } = await rotateKek(fieldseal, { tenant: 'a' })
  const report = await migrator.rewrap({ ...SMALL, tenant: 'a' })
  expect(report).toMatchObject({ verb: 'rewrap', tenant: 'a', remaining: 0, resumed: false, dryRun: false })
  expect(report.models).toMatchObject([
    { model: 'patients', rows: 21, updated: 21, unchanged: 0, failed: 0, passes: 1 },
    { model: 'notes', rows: 0, updated: 0 },
  ])
  expect(await readAll('a', range(0, 21))).toBe(true)
  for (const kekId of demoted)
    expect(await source.count(source.models[0] as never, { kekId })).toEqual({ rows: 0, exact: true })
  expect((await migrator.rewrap(SMALL)).models[0]).toMatchObject({ rows: 26, updated: 0, unchanged: 26 })
})

it('shares a table between shards', async () => {
  const { fieldseal, migrator, fill, readAll } = clinic()
  await fill('a', range(0, 30))
  await rotateKek(fieldseal, { tenant: 'a' })
  const reports = await Promise.all([1, 2, 3].map((i) => migrator.rewrap({ ...SMALL, shard: [i, 3] })))
  expect(reports.reduce((sum, { models }) => sum + (models[0]?.updated ?? 0), 0)).toBe(30)
  expect(await readAll('a', range(0, 30))).toBe(true)
})

it('lets a concurrent writer win, and finds its row again', async () => {
  const { fieldseal, migrator, fill, source, as, read } = clinic()
  await fill('a', range(0, 10))
  await rotateKek(fieldseal, { tenant: 'a' })
  let writes = 0
  source.beforeUpdate = async () => {
    if (writes++ < 3) await as('a', () => source.write('patients', { clinic: 'a', id: 1 }, { ssn: `new ${writes}` }))
  }
  const report = await migrator.rewrap({ batchSize: 100 })
  expect(await read('a', 1)).toMatchObject({ ssn: 'new 2', email: 'P1@x.org' })
  expect(report.models[0]).toMatchObject({ updated: 10, changed: 0, remaining: 0 })
})

it('does not take a row for gone because new rows have come before it', async () => {
  const { fieldseal, migrator, fill, source, as } = clinic()
  await fill('a', [500])
  const [row] = source.rows.get('patients')?.values() ?? []
  const before = row?.cells['note'] ?? null
  await as('a', () => source.write('patients', { clinic: 'a', id: 500 }, { note: 'another' }))
  await rotateKek(fieldseal, { tenant: 'a' })
  await fill('a', [100])
  let writes = 0
  source.beforeUpdate = async (patches) => {
    if (writes++ > 0 || patches.length === 0) return
    const [, stored] = [...(source.rows.get('patients') ?? [])].find(([key]) => key === '[500]') ?? []
    if (stored !== undefined) stored.cells['note'] = before // a process that still has the old key
    await fill('a', range(200, 220))
  }
  const report = await migrator.rewrap({ batchSize: 2, concurrency: 1, shard: [1, 1] })
  expect(report.models[0]).toMatchObject({ gone: 0, updated: 1, remaining: 0 })
})

it('says that rows remain as long as somebody is always faster', async () => {
  const { fieldseal, migrator, fill, source, as } = clinic()
  await fill('a', [1])
  const row = () => [...(source.rows.get('patients')?.values() ?? [])][0]
  const versions = [row()?.cells['note'] ?? null]
  await as('a', () => source.write('patients', { clinic: 'a', id: 1 }, { note: 'another' }))
  versions.push(row()?.cells['note'] ?? null)
  await rotateKek(fieldseal, { tenant: 'a' })
  let flip = 0
  source.beforeUpdate = () => {
    const stored = row()
    if (stored !== undefined) stored.cells['note'] = versions[flip++ % 2] ?? null // a process that still has the old key
  }
  const error: unknown = await migrator.rewrap().catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN', kind: 'refused' })
  expect(reportOf(error)?.models[0]).toMatchObject({ changed: 1, remaining: 1 })
  source.beforeUpdate = undefined
  expect((await migrator.rewrap()).remaining).toBe(0)
}, 30_000)

it('goes on past rows that do not open, names them by key, and refuses to have succeeded', async () => {
  const { fieldseal, migrator, fill, source } = clinic()
  await fill('a', range(0, 6))
  await rotateKek(fieldseal, { tenant: 'a' })
  const rows = [...(source.rows.get('patients')?.values() ?? [])]
  const [one, two, three] = rows
  if (one === undefined || two === undefined || three === undefined) return expect.unreachable()
  one.cells['ssn'] = two.cells['ssn'] ?? null
  three.cells['ssn'] = '123-45-6789'
  const error: unknown = await migrator.rewrap({ ...SMALL, tenant: 'a' }).catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  const report = reportOf(error)
  expect(report?.models[0]).toMatchObject({ failed: 2, updated: 4, remaining: 2 })
  expect(report?.models[0]?.failures).toMatchObject([
    { key: '0', tenant: 'a', code: 'ERR_DECRYPT_FAILED' },
    { key: '2', code: 'ERR_PLAINTEXT_FOUND' },
  ])
  expect(JSON.stringify(report)).not.toContain('123-45')
})

it('stops at once when keys cannot be asked for, and goes on from there', async () => {
  const { fieldseal, migrator, fill, source, keyStore, clock, readAll } = clinic()
  await fill('a', range(0, 20))
  await rotateKek(fieldseal, { tenant: 'a' })
  let batches = 0
  source.beforeUpdate = () => {
    if (++batches !== 3) return
    keyStore.disconnect()
    clock.advance(3_600_000)
  }
  await expect(migrator.rewrap({ ...SMALL, concurrency: 1 })).rejects.toMatchObject({ kind: 'unavailable' })
  keyStore.restore()
  source.beforeUpdate = undefined
  const report = await migrator.rewrap(SMALL)
  expect(report).toMatchObject({ resumed: true, remaining: 0 })
  expect(report.models[0]).toMatchObject({ rows: 20, updated: 20 })
  expect(await readAll('a', range(0, 20))).toBe(true)
})

it('reports rows of a denied tenant as remaining, and those of a shredded keyspace as nothing to be done', async () => {
  const app = clinic({
    keys: async (tenant) => (tenant === 'gone' ? null : { cmks: [app.kms.cmk(`cmk-${tenant}`)] }),
  })
  const { fieldseal, migrator, fill, kms, clock } = app
  await fill('a', range(0, 3))
  await fill('b', range(10, 12))
  await rotateKek(fieldseal, { tenant: 'a' })
  await rotateKek(fieldseal, { tenant: 'b' })
  kms.deny('cmk-b')
  clock.advance(3_600_000)
  const error: unknown = await migrator.rewrap().catch((e: unknown) => e)
  expect(reportOf(error)?.models[0]).toMatchObject({ updated: 3, denied: 2, failed: 0, remaining: 2 })
})

it('counts and estimates without writing in a dry run', async () => {
  const { fieldseal, migrator, fill, source } = clinic()
  await fill('a', range(0, 20))
  await rotateKek(fieldseal, { tenant: 'a' })
  const before = JSON.stringify([...(source.rows.get('patients') ?? [])])
  const report = await migrator.rewrap({ dryRun: true, batchSize: 5 })
  expect(report).toMatchObject({ dryRun: true, remaining: 20 })
  expect(report.estimatedMs).toBeGreaterThanOrEqual(0)
  expect(JSON.stringify([...(source.rows.get('patients') ?? [])])).toBe(before)
})

it('refuses wrong arguments by name', async () => {
  const { migrator, fill } = clinic()
  await fill('a', [1])
  const refused = (field: string) => ({ code: 'ERR_ARGUMENT_INVALID', details: { field } })
  await expect(migrator.rewrap({ model: 'nobody' })).rejects.toMatchObject(refused('model'))
  await expect(migrator.rewrap({ field: 'nothing' })).rejects.toMatchObject(refused('field'))
  await expect(migrator.rewrap({ tenant: 'nobody' })).rejects.toMatchObject(refused('tenant'))
  await expect(migrator.rewrap({ batchSize: 0 })).rejects.toMatchObject(refused('batchSize'))
  await expect(migrator.rewrap({ shard: [3, 2] })).rejects.toMatchObject(refused('shard'))
})

it('keeps to a rate and tells of its progress', async () => {
  const { fieldseal, migrator, fill } = clinic()
  await fill('a', range(0, 30))
  await rotateKek(fieldseal, { tenant: 'a' })
  const told: number[] = []
  const startedAt = performance.now()
  await migrator.rewrap({
    model: 'patients',
    batchSize: 5,
    rowsPerSecond: 100,
    onProgress: ({ rows, total }) => told.push(rows, total ?? -1),
  })
  expect(performance.now() - startedAt).toBeGreaterThan(200)
  expect(told.slice(0, 4)).toEqual([5, 30, 10, 30])
})

it('stops when told to, with its checkpoint kept', async () => {
  const { fieldseal, migrator, fill } = clinic()
  await fill('a', range(0, 20))
  await rotateKek(fieldseal, { tenant: 'a' })
  const stop = new AbortController()
  const run = migrator.rewrap({ ...SMALL, signal: stop.signal, onProgress: () => stop.abort() })
  await expect(run).rejects.toMatchObject({ name: 'AbortError' })
  expect(await migrator.rewrap(SMALL)).toMatchObject({ resumed: true, remaining: 0 })
})

it('goes on from a checkpoint only under the configuration that made it', async () => {
  const { fieldseal, migrator, fill } = clinic()
  await fill('a', range(0, 20))
  await rotateKek(fieldseal, { tenant: 'a' })
  const stop = new AbortController()
  await migrator.rewrap({ ...SMALL, signal: stop.signal, onProgress: () => stop.abort() }).catch(() => undefined)
  await rotateKek(fieldseal, { tenant: 'a' })
  await expect(migrator.rewrap(SMALL)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_MISMATCH', kind: 'refused' })
  expect(await migrator.rewrap({ ...SMALL, restart: true })).toMatchObject({ resumed: false, remaining: 0 })
})

it('stops the process that another one has taken a job over from', async () => {
  const { fieldseal, migrator, fill, source } = clinic()
  await fill('a', range(0, 40))
  await rotateKek(fieldseal, { tenant: 'a' })
  let second: Promise<unknown> | undefined
  source.beforeUpdate = async () => {
    source.beforeUpdate = undefined
    await (second = migrator.rewrap({ batchSize: 4 }))
  }
  await expect(migrator.rewrap({ batchSize: 4 })).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_TAKEN' })
  expect(await second).toMatchObject({ remaining: 0 })
}, 20_000)
