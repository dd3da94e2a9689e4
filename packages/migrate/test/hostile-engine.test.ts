import type { KekId } from '@fieldseal/core/adapter'
import { describe, expect, it } from 'vitest'
import { reportOf } from '../src/report/report.ts'
import { clinic, range } from './support/clinic.ts'

const HOUR = 3_600_000
const kekOf = (cell: unknown) => Buffer.from(cell as Uint8Array).toString('hex', 3, 15) as KekId
const ONE_BY_ONE = { batchSize: 1, concurrency: 1 } as const

async function rotated(rows = 6) {
  const app = clinic()
  await app.fill('a', range(0, rows))
  const [row] = app.source.rows.get('patients')?.values() ?? []
  const old = kekOf(row?.cells['ssn'])
  await app.migrator.rotateKek({ tenant: 'a' })
  const isOld = () =>
    [...(app.source.rows.get('patients')?.values() ?? [])].map(({ cells }) => kekOf(cells['ssn']) === old)
  return { ...app, old, isOld }
}

describe('a checkpoint that this version has not written', () => {
  it.for([
    '{"format":2,"digest":"x","models":{},"facts":{}}',
    '{"format":1,"digest":"x","models":null,"facts":{}}',
    '{"format":1,"digest":"x","models":{}}',
    '{"format":1,"models":{},"facts":{}}',
    '[]',
    'null',
    '7',
    '',
    '\u0000',
  ])('is refused, and begun anew on request: %o', async (text) => {
    const { migrator, source } = await rotated()
    const job = 'fieldseal rewrap tenant=a'
    await source.checkpoints.save(job, 1, Buffer.from(text))
    await expect(migrator.rewrap({ tenant: 'a' })).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISMATCH',
      details: { reason: 'it is not readable', hint: expect.stringMatching(/--restart/) as string },
    })
    expect(await migrator.rewrap({ tenant: 'a', restart: true })).toMatchObject({ remaining: 0, resumed: false })
  })

  it('is refused by an apply without advice that apply does not take', async () => {
    const { migrator, source } = await rotated()
    const plan = await migrator.plan('shred', { tenant: 'a' })
    await source.checkpoints.save(`fieldseal apply ${plan.digest}`, 1, Buffer.from('{"format":2}'))
    const error: unknown = await migrator.apply(plan, { confirm: 'a' }).catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 'ERR_CHECKPOINT_MISMATCH' })
    expect(String(error)).not.toMatch(/restart/)
    expect(String(error)).toMatch(/new plan/)
  })
})

it.for([
  { rowsPerSecond: 0 },
  { rowsPerSecond: -1 },
  { rowsPerSecond: Number.NaN },
  { batchSize: 0 },
  { batchSize: 1.5 },
  { batchSize: '5' as never },
  { concurrency: 0 },
  { concurrency: Number.POSITIVE_INFINITY },
  { shard: [0, 2] as const },
  { shard: [1, 0] as const },
  { shard: [1] as never },
])('refuses the pace %o before it writes anything', async (pace) => {
  const { migrator, source } = await rotated()
  await expect(migrator.rewrap(pace)).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
  expect(await source.checkpoints.load('fieldseal rewrap')).toBeUndefined()
})

it('does its work row by row, one after the other, as in batches', async () => {
  const { migrator, isOld, readAll } = await rotated()
  expect(await migrator.rewrap({ ...ONE_BY_ONE, rowsPerSecond: 10_000 })).toMatchObject({
    remaining: 0,
    models: [{ rows: 6, updated: 6 }, {}],
  })
  expect(isOld()).not.toContain(true)
  expect(await readAll('a', range(0, 6))).toBe(true)
  expect(await migrator.verify(ONE_BY_ONE)).toMatchObject({ remaining: 0, models: [{ rows: 6, unchanged: 6 }, {}] })
})

it('row by row, counts one that is deleted under it as gone, and lets one that is changed win', async () => {
  const app = await rotated()
  const { migrator, source, as, isOld } = app
  let at = 0
  source.beforeUpdate = async () => {
    at++
    if (at === 2) source.rows.get('patients')?.delete('[1]')
    if (at === 4) await as('a', () => source.write('patients', { clinic: 'a', id: 3 }, { ssn: 'of the application' }))
  }
  const report = await migrator.rewrap({ tenant: 'a', ...ONE_BY_ONE })
  expect(report).toMatchObject({ remaining: 0 })
  expect(isOld()).not.toContain(true)
  expect(await app.read('a', 3)).toMatchObject({ ssn: 'of the application' })
})

it('is done when shards of two runs overlap, at the same time or one after the other', async () => {
  const { migrator, isOld, readAll } = await rotated(40)
  const shards = [...range(1, 3).map((i) => [i, 2] as const), ...range(1, 4).map((i) => [i, 3] as const)]
  const reports = await Promise.all(shards.map((shard) => migrator.rewrap({ batchSize: 3, shard })))
  for (const report of reports) expect(report).toMatchObject({ remaining: 0 })
  expect(isOld()).not.toContain(true)
  expect(await readAll('a', range(0, 40))).toBe(true)
  expect(await migrator.rewrap({ shard: [1, 5] })).toMatchObject({ remaining: 0, models: [{ updated: 0 }, {}] })
})

it('keeps the checkpoints of shards apart from those of another number of shards', async () => {
  const { migrator, isOld } = await rotated(40)
  const stop = new AbortController()
  const stopped = migrator.rewrap({ ...ONE_BY_ONE, shard: [1, 2], signal: stop.signal, onProgress: () => stop.abort() })
  await expect(stopped).rejects.toMatchObject({ name: 'AbortError' })
  for (const i of [1, 2, 3]) expect(await migrator.rewrap({ shard: [i, 3] })).toMatchObject({ resumed: false })
  expect(isOld()).not.toContain(true)
  expect(await migrator.rewrap({ shard: [1, 2] })).toMatchObject({ resumed: true, remaining: 0 })
})

it('keeps the checkpoint of a tenant apart from that of another scope of the same text', async () => {
  const app = clinic()
  const tenant = 'a model=patients'
  await app.fill(tenant, range(0, 4))
  await app.fill('a', range(4, 8))
  const stop = new AbortController()
  const stopped = app.migrator.verify({ tenant, ...ONE_BY_ONE, signal: stop.signal, onProgress: () => stop.abort() })
  await expect(stopped).rejects.toMatchObject({ name: 'AbortError' })
  expect(await app.migrator.verify({ tenant: 'a', model: 'patients' })).toMatchObject({ resumed: false, remaining: 0 })
  expect(await app.migrator.verify({ tenant })).toMatchObject({ resumed: true, remaining: 0 })
})

it('waits as long as caches allow after a leak, whatever the clock of the day does meanwhile', async () => {
  for (const jump of [-48 * HOUR, 48 * HOUR]) {
    const app = await rotated()
    const { migrator, old, clock, fieldseal } = app
    const waits: number[] = []
    const report = await migrator.reEncrypt({
      kek: old,
      onProgress: () => clock.advanceWall(jump),
      onWait: ({ remainingMs }) => waits.push(remainingMs) && clock.advance(remainingMs + 1),
    })
    expect(report).toMatchObject({ remaining: 0 })
    const { reachable } = fieldseal.revocationBoundMs('a')
    expect(waits[0]).toBeGreaterThan(0)
    expect(Math.max(...waits)).toBeLessThanOrEqual(reachable)
  }
})

it('goes on from a checkpoint of tomorrow, and begins what is due by the clock as it is', async () => {
  const { migrator, clock, isOld } = await rotated(20)
  const stop = new AbortController()
  const stopped = migrator.rewrap({ ...ONE_BY_ONE, signal: stop.signal, onProgress: () => stop.abort() })
  await expect(stopped).rejects.toMatchObject({ name: 'AbortError' })
  clock.advanceWall(-24 * HOUR)
  const report = await migrator.rewrap().catch((error: unknown) => reportOf(error) ?? error)
  expect(report).toMatchObject({ resumed: true, remaining: 0 })
  expect(isOld()).not.toContain(true)
})
