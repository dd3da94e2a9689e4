import { setTimeout as sleep } from 'node:timers/promises'
import {
  attach,
  type AdapterHost,
  type BlindIndex,
  changeIndex,
  type IndexChange,
  tokenRows,
  verifyRows,
} from '@fieldseal/core/adapter'
import { fakeClock, fakeKms } from '@fieldseal/testkit'
import { Column, Entity, In, IsNull, Not, PrimaryGeneratedColumn } from 'typeorm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel, typeormSource } from '../src/index.ts'
import { type Clinic, startClinic } from './support/clinic.ts'
import { onEachEngine, onPostgres, type Engine } from './support/engine.ts'

@Entity('members')
@EncryptedModel<Before>({ tenantBy: 'clinicId' })
class Before {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @Column('int') points!: number
  @EncryptedColumn({ nullable: true, blindIndex: { normalize: 'trim', unique: true } }) email!: string | null
}

/** The same table, with what its index is to become. */
@Entity('members')
@EncryptedModel<Member>({ tenantBy: 'clinicId' })
class Member {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @Column('int') points!: number
  @EncryptedColumn({
    nullable: true,
    blindIndex: { normalize: 'trim', unique: true, next: { normalize: 'lower', bits: 192 } },
  })
  email!: string | null
}

type Change = IndexChange | 'fill'

/** What becomes of the index, in order: a change, and in which slots values then have tokens. */
const STAGES: readonly (readonly [Change | undefined, boolean, boolean])[] = [
  [undefined, true, false],
  ['begin', true, true],
  ['fill', true, true],
  ['look-up-new', true, true],
  ['leave-old', false, true],
  ['fill', false, true], // clears
]

/** Processes of one application. Time stands still: a process reads records anew only when it is told to. */
async function startProcesses<E extends typeof Before | typeof Member>(
  engine: Engine,
  app: string,
  entity: E,
  kms = fakeKms(),
) {
  return startClinic(engine, { entities: [entity], tenancy: 'multi', kms, fieldseal: { app, clock: fakeClock() } })
}

type App = Clinic<'multi'>
const as = <R>({ fieldseal }: App, fn: () => R) => fieldseal.runAs({ tenant: 't' }, fn)
const members = (app: App) => app.repository(Member)
const hostOf = ({ fieldseal }: App): AdapterHost => attach(fieldseal, { name: 'test', ormVersion: '0' })
const mapOf = ({ dataSource }: App) => typeormSource(dataSource).models[0] ?? expect.unreachable()
const indexOf = (app: App): BlindIndex => mapOf(app).indexes[0] ?? expect.unreachable()

async function apply(app: App, change: Change | undefined): Promise<void> {
  if (change === undefined) return
  if (change !== 'fill') {
    expect(await changeIndex(app.fieldseal, { index: indexOf(app), tenant: 't' }, change)).toBe('changed')
    return
  }
  const source = typeormSource(app.dataSource)
  const [host, map] = [hostOf(app), mapOf(app)]
  await as(app, async () => {
    const context = host.capture()
    for await (const page of source.pages(map, { size: 2, tokens: true })) {
      const rows = page.map(({ cells, columns, tokens }) => ({
        row: {
          map,
          facts: map.facts(columns, context),
          cells: map.fields.map((field) => ({ field, value: cells[field.path] })),
        },
        tokens,
      }))
      const outcomes = await tokenRows(app.fieldseal, rows, context)
      const patches = outcomes.flatMap((outcome, at) => {
        if ('error' in outcome) throw outcome.error
        return outcome.cells.length === 0 ? [] : [{ key: page[at]?.key, cells: outcome.cells }]
      })
      const written = (await source.convert?.(map, patches)) ?? []
      expect(written).toEqual(patches.map(() => 'updated'))
    }
  })
}

/** Every value opens, and every token that look-ups ask is there. */
async function verify(app: App): Promise<void> {
  const source = typeormSource(app.dataSource)
  const [host, map] = [hostOf(app), mapOf(app)]
  await as(app, async () => {
    const context = host.capture()
    for await (const page of source.pages(map, { size: 50, tokens: true }))
      for (const { problems } of await verifyRows(
        app.fieldseal,
        page.map(({ cells, columns, tokens }) => ({
          row: {
            map,
            facts: map.facts(columns, context),
            cells: map.fields.map((field) => ({ field, value: cells[field.path] })),
          },
          tokens,
        })),
        context,
      ))
        expect(problems).toEqual([])
  })
}

async function slotsOf({ dataSource }: App, id: string): Promise<readonly boolean[]> {
  const [row] = await dataSource.query<{ odd: boolean; even: boolean }[]>(
    'SELECT email_bidx IS NOT NULL AS odd, email_bidx_next IS NOT NULL AS even FROM members WHERE id = $1',
    [id],
  )
  return [row?.odd ?? false, row?.even ?? false]
}

let names = 0

/** What one process writes the other one finds, refuses and overwrites. */
async function together(writer: App, reader: App): Promise<void> {
  const email = `one-${++names}@x.org`
  const other = `two-${names}@x.org`
  const { id } = await as(writer, () => members(writer).save({ clinicId: 't', points: 1, email }))
  await as(reader, async () => {
    const found = members(reader)
    const own = { clinicId: 't' }
    expect(await found.findOneBy({ ...own, email: ` ${email}` })).toMatchObject({ id, email })
    expect(await found.findBy({ ...own, email: In([other, email]) })).toMatchObject([{ id }])
    expect((await found.findBy({ ...own, email: Not(email) })).map((one) => one.id)).not.toContain(id)
    expect(await found.existsBy({ ...own, email: other })).toBe(false)
    await expect(found.save({ clinicId: 't', points: 2, email })).rejects.toMatchObject({
      driverError: { code: '23505' },
    })
    await found.upsert({ clinicId: 't', points: 3, email }, ['email'])
    expect(await found.findBy({ ...own, email })).toMatchObject([{ id, points: 3 }])
    expect(await found.update({ ...own, email }, { points: 4 })).toMatchObject({ affected: 1 })
  })
  await as(writer, async () => {
    await members(writer).upsert({ clinicId: 't', points: 5, email }, ['email'])
    await members(writer).update({ id, clinicId: 't' }, { email: other })
  })
  await as(reader, async () => {
    const found = members(reader)
    expect(await found.findOneBy({ clinicId: 't', email })).toBeNull()
    expect(await found.findOneBy({ clinicId: 't', email: other })).toMatchObject({ id, points: 5 })
    await found.update({ id, clinicId: 't' }, { email: null })
    expect(await found.countBy({ clinicId: 't', id, email: IsNull() })).toBe(1)
  })
  expect(await slotsOf(writer, id)).toEqual([false, false])
  await as(writer, async () => {
    expect(await members(writer).findOneBy({ clinicId: 't', email: other })).toBeNull()
    await members(writer).update({ id, clinicId: 't' }, { email })
  })
  await as(reader, async () =>
    expect(await members(reader).delete({ clinicId: 't', email })).toMatchObject({ affected: 1 }),
  )
}

onEachEngine('an index on its way', (engine) => {
  const app = `moves-${engine.name.toLowerCase()}`
  let clinic: App
  beforeAll(async () => {
    const before = await startProcesses(engine, app, Before)
    await as(before, () =>
      before.repository(Before).save([1, 2, 3].map((n) => ({ clinicId: 't', points: n, email: `Old-${n}` }))),
    )
    const { kms } = before
    await before.close()
    clinic = await startProcesses(engine, app, Member, kms)
  })
  afterAll(() => clinic?.close())

  it('is filled, asked and unique in every stage, by a query that is kept as well', async () => {
    const kept = as(clinic, () => members(clinic).createQueryBuilder('m').where({ clinicId: 't', email: 'Old-1' }))
    expect(await as(clinic, () => kept.getMany())).toHaveLength(1)
    for (const [at, [change, odd, even]] of STAGES.entries()) {
      await apply(clinic, change)
      await together(clinic, clinic)
      await verify(clinic)
      const { id } = await as(clinic, () => members(clinic).save({ clinicId: 't', points: 0, email: `stage-${at}` }))
      expect(await slotsOf(clinic, id)).toEqual([odd, even])
      for (const n of [1, 2, 3])
        expect(await as(clinic, () => members(clinic).findOneBy({ clinicId: 't', email: `Old-${n}` }))).toMatchObject({
          points: n,
        })
      const folded = await as(clinic, () => members(clinic).findOneBy({ clinicId: 't', email: 'OLD-1' }))
      expect(folded === null, `${change}: spellings`).toBe(at < 3)
    }
    await sleep(1_100)
    expect(await as(clinic, () => kept.getMany())).toMatchObject([{ points: 1 }])
    const [row] = await clinic.dataSource.query<{ odd: string }[]>('SELECT count(email_bidx) AS odd FROM members')
    expect(row?.odd).toBe('0')
  }, 60_000)
})

onPostgres('an index on its way between processes', (engine) => {
  const apps: App[] = []
  afterAll(async () => {
    for (const app of apps) await app.close()
  })

  it('is one index for processes of two stages that follow each other', async () => {
    const before = await startProcesses(engine, 'pairs', Before)
    apps.push(before)
    await as(before, () => before.repository(Before).save({ clinicId: 't', points: 1, email: 'Old' }))
    for (let i = 0; i < 2; i++) apps.push(await startProcesses(engine, 'pairs', Member, before.kms))
    const [, behind, ahead] = apps as [App, App, App]
    for (const [change] of STAGES) {
      await as(behind, () => members(behind).findOneBy({ clinicId: 't', email: 'x' })) // has read the stage before
      await apply(ahead, change)
      for (const [writer, reader] of [
        [behind, ahead],
        [ahead, behind],
      ] as const) {
        await together(writer, reader)
        expect(await as(reader, () => members(reader).findOneBy({ clinicId: 't', email: 'Old' }))).not.toBeNull()
        await verify(reader)
      }
      behind.fieldseal.purge('t') // the drain
    }
    before.fieldseal.purge('t')
    await expect(
      as(before, () => before.repository(Before).findOneBy({ clinicId: 't', email: 'Old' })),
    ).rejects.toMatchObject({ code: 'ERR_INDEX_UNKNOWN' })
  }, 60_000)

  it('refuses a row that only one of two spellings makes equal, and overwrites none by mistake', async () => {
    const before = await startProcesses(engine, 'spellings', Before)
    apps.push(before)
    await before.dataSource.query('DELETE FROM members') // those of another application
    await as(before, () => before.repository(Before).save({ clinicId: 't', points: 1, email: 'Spelled' }))
    const app = await startProcesses(engine, 'spellings', Member, before.kms)
    apps.push(app)
    for (const change of ['begin', 'fill', 'look-up-new'] as const) {
      await apply(app, change)
      if (change === 'begin') continue
      const insert = as(app, () => members(app).save({ clinicId: 't', points: 2, email: 'SPELLED' }))
      await expect(insert).rejects.toMatchObject({ driverError: { code: '23505' } })
    }
    await as(app, () => members(app).upsert({ clinicId: 't', points: 3, email: 'SPELLED' }, ['email']))
    const rows = await as(app, () => members(app).findBy({ clinicId: 't', email: 'spelled' }))
    expect(rows).toMatchObject([{ points: 3, email: 'SPELLED' }])
  }, 60_000)
})
