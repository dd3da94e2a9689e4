import { rotateKek } from '@fieldseal/core/adapter'
import type { FieldsealEvents } from '@fieldseal/core'
import { Column, Entity, PrimaryGeneratedColumn, UpdateDateColumn, VersionColumn, type QueryRunner } from 'typeorm'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { EncryptedColumn } from '../src/index.ts'
import { startClinic, type Clinic } from './support/clinic.ts'
import { onEachEngine, onPostgres } from './support/engine.ts'

@Entity('people')
class Person {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') name!: string
  @EncryptedColumn({ blindIndex: true }) email!: string
  @EncryptedColumn({ nullable: true }) ssn?: string | null
  @EncryptedColumn({ type: 'bytes', storage: 'binary', nullable: true }) scan?: Uint8Array | null
  @VersionColumn() version!: number
  @UpdateDateColumn() updatedAt!: Date
}

@Entity('visits')
class Visit {
  @PrimaryGeneratedColumn() id!: number
  @EncryptedColumn() note!: string
}

onEachEngine('lazy rewrap', (engine) => {
  let clinic: Clinic<'single'>
  const done: FieldsealEvents['rewrap.done'][] = []
  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: [Person, Visit], tenancy: 'single' })
    clinic.fieldseal.on('rewrap.done', (event) => void done.push(event))
  })
  afterAll(() => clinic?.close())
  beforeEach(async () => {
    await clinic.fieldseal.flush()
    await clinic.dataSource.query('TRUNCATE people, visits')
    await people().save([
      { name: 'Ada', email: 'a@x.org', ssn: '1', scan: new Uint8Array([1, 2]) },
      { name: 'Bob', email: 'b@x.org', ssn: null },
    ])
    done.length = 0
  })
  const people = () => clinic.repository(Person)
  const rows = () =>
    clinic.dataSource.query<
      { name: string; email: string; ssn: string | null; scan: Buffer | null; version: number; updatedAt: Date }[]
    >('SELECT * FROM people ORDER BY name')
  const kekOf = (text: string | null | undefined) =>
    Buffer.from(text?.slice(3) ?? '', 'base64url').toString('hex', 3, 15)
  const body = (text: string | null | undefined) => Buffer.from(text?.slice(3) ?? '', 'base64url').toString('hex', 84)

  it('a read finds what is under an old KEK, and the queue wraps it anew without touching the data', async () => {
    const before = await rows()
    const { kekId } = await rotateKek(clinic.fieldseal)
    expect(await people().find({ order: { name: 'ASC' } })).toMatchObject([{ email: 'a@x.org' }, { email: 'b@x.org' }])
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 2, changed: 0 })
    const after = await rows()
    for (const [index, row] of after.entries()) {
      expect(kekOf(row.email)).toBe(kekId)
      expect(body(row.email)).toBe(body(before[index]?.email))
      expect(row).toMatchObject({ version: before[index]?.version, updatedAt: before[index]?.updatedAt })
    }
    expect(kekOf(after[0]?.ssn)).toBe(kekId)
    expect(after[0]?.scan?.toString('hex', 3, 15)).toBe(kekId)
    expect(await people().findOneByOrFail({ email: 'a@x.org' })).toMatchObject({ ssn: '1', name: 'Ada' })
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 0, changed: 0 })
  })

  it('a write wraps what it writes under the newest KEK, and leaves its neighbours', async () => {
    const { kekId } = await rotateKek(clinic.fieldseal)
    const { id } = await people().findOneByOrFail({ name: 'Ada' })
    await people().update(id, { ssn: '2' })
    const [row] = await rows()
    expect(kekOf(row?.ssn)).toBe(kekId)
  })

  it('a writer in between wins', async () => {
    await rotateKek(clinic.fieldseal)
    const found = await people().find({ order: { name: 'ASC' } })
    await people().update(found[0]?.id ?? '', { email: 'new@x.org', ssn: 'newer' })
    const outcome = await clinic.fieldseal.flush()
    expect(outcome.changed).toBe(1)
    expect(await people().findOneByOrFail({ email: 'new@x.org' })).toMatchObject({ ssn: 'newer' })
  })

  it('rows without a key of their own are found in the same way', async () => {
    await clinic.repository(Visit).save([{ note: 'one' }, { note: 'two' }])
    const { kekId } = await rotateKek(clinic.fieldseal)
    await clinic.repository(Visit).find()
    expect((await clinic.fieldseal.flush()).updated).toBe(2)
    const notes = await clinic.dataSource.query<{ note: string }[]>('SELECT note FROM visits')
    expect(notes.map(({ note }) => kekOf(note))).toEqual([kekId, kekId])
    expect((await clinic.repository(Visit).find()).map(({ note }) => note).toSorted()).toEqual(['one', 'two'])
  })

  it('joins, pages and raw reads: what is opened is offered, raw is not', async () => {
    await rotateKek(clinic.fieldseal)
    await people().createQueryBuilder('p').getRawMany()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 0, changed: 0 })
    await people().find({ take: 1, order: { name: 'ASC' }, select: { ssn: true } })
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 1, changed: 0 })
    const [ada, bob] = await rows()
    expect(kekOf(ada?.ssn)).not.toBe(kekOf(ada?.email))
    expect(kekOf(bob?.email)).toBe(kekOf(ada?.email))
  })

  it('runs without being asked, outside the transaction that read', async () => {
    const { kekId } = await rotateKek(clinic.fieldseal)
    await expect(
      clinic.dataSource.transaction(async (manager) => {
        await manager.getRepository(Person).find()
        throw new Error('undo')
      }),
    ).rejects.toThrow('undo')
    await expect.poll(() => done.length, { timeout: 5_000 }).toBeGreaterThan(0)
    expect((await rows()).map(({ email }) => kekOf(email))).toEqual([kekId, kekId])
  })
})

onPostgres('lazy rewrap on a server', (engine) => {
  let clinic: Clinic<'single'>
  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: [Person], tenancy: 'single' })
  })
  afterAll(() => clinic?.close())

  it('skips rows that somebody has locked, and waits for nobody', async () => {
    const people = clinic.repository(Person)
    await people.save([
      { name: 'locked', email: 'l@x.org' },
      { name: 'free', email: 'f@x.org' },
    ])
    await rotateKek(clinic.fieldseal)
    const runner: QueryRunner = clinic.dataSource.createQueryRunner()
    await runner.startTransaction()
    try {
      await runner.query(`SELECT 1 FROM people WHERE name = 'locked' FOR UPDATE`)
      await people.find()
      expect(await clinic.fieldseal.flush()).toEqual({ updated: 1, changed: 1 })
    } finally {
      await runner.rollbackTransaction()
      await runner.release()
    }
    await people.find()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 1, changed: 0 })
  })

  it('works for a read-only transaction', async () => {
    const people = clinic.repository(Person)
    await people.save({ name: 'ro', email: 'ro@x.org' })
    await rotateKek(clinic.fieldseal)
    await clinic.dataSource.transaction(async (manager) => {
      await manager.query('SET TRANSACTION READ ONLY')
      await manager.getRepository(Person).findOneByOrFail({ email: 'ro@x.org' })
    })
    expect((await clinic.fieldseal.flush()).updated).toBeGreaterThan(0)
  })

  it('five thousand rows, in batches', { timeout: 30_000 }, async () => {
    const people = clinic.repository(Person)
    await people.clear()
    const rows = Array.from({ length: 5_000 }, (_, i) => ({ name: `${i}`, email: `${i}@x.org`, ssn: `${i}` }))
    await people.save(rows, { chunk: 1_000 })
    const { kekId } = await rotateKek(clinic.fieldseal)
    await people.find()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 5_000, changed: 0 })
    const left = await clinic.dataSource.query<{ email: string }[]>('SELECT email FROM people')
    expect(left.every(({ email }) => Buffer.from(email.slice(3), 'base64url').toString('hex', 3, 15) === kekId)).toBe(
      true,
    )
  })
})
