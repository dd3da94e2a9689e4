import {
  Column,
  Entity,
  Equal,
  In,
  IsNull,
  Not,
  NotBrackets,
  PrimaryGeneratedColumn,
  PrimaryColumn,
  TableInheritance,
  ChildEntity,
  DeleteDateColumn,
  ManyToOne,
  OneToMany,
} from 'typeorm'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { attach, tokenRows, verifyRows } from '@fieldseal/core/adapter'
import { decryptRaw, EncryptedColumn, EncryptedModel, typeormSource } from '../src/index.ts'
import { type Clinic, startClinic } from './support/clinic.ts'
import { onEachEngine, onPglite, onPostgres } from './support/engine.ts'

@Entity('persons')
@EncryptedModel<Person>({
  tenantBy: 'clinicId',
  compoundIndexes: {
    person: { of: ['lastName', 'born'], normalize: { lastName: 'lower' }, unique: { where: { deletedAt: null } } },
    place: { of: ['city', 'street', 'lastName'] },
  },
})
class Person {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @Column('int', { default: 0 }) visits!: number
  @EncryptedColumn({ name: 'last_name', nullable: true, blindIndex: true }) lastName?: string | null
  @EncryptedColumn({ type: 'day', nullable: true }) born?: string | null
  @EncryptedColumn({ nullable: true }) city?: string | null
  @EncryptedColumn({ nullable: true, storage: 'binary' }) street?: string | null
  @EncryptedColumn({ nullable: true, blindIndex: true }) note?: string | null
  @DeleteDateColumn() deletedAt?: Date | null
  @OneToMany(
    () => Letter,
    (letter) => letter.person,
  )
  letters?: Letter[]
}

@Entity('letters')
@EncryptedModel<Letter>({ tenantBy: 'none' })
class Letter {
  @PrimaryGeneratedColumn() id!: number
  @EncryptedColumn({ nullable: true }) text?: string | null
  @ManyToOne(() => Person) person!: Person
}

const duplicate = { code: '23505' }
const ADA = Object.freeze({ clinicId: 'a', lastName: 'Lovelace', born: '1815-12-10' }) // TypeORM writes keys into what it is given

onEachEngine('compound indexes', (engine) => {
  let app: Clinic<'multi'>
  const persons = () => app.repository(Person)
  const as = <R>(fn: () => R, tenant = 'a') => app.fieldseal.runAs({ tenant }, fn)
  const save = (row: Partial<Person>) => as(() => persons().save({ clinicId: 'a', ...row }))
  const find = (where: object) => as(() => persons().findBy(where))
  const ids = async (where: object) => (await find(where)).map(({ id }) => id).toSorted()
  const source = () => typeormSource(app.dataSource)
  const mapOf = () => source().models.find(({ id }) => id === 'persons') ?? expect.unreachable()
  const stored = async () =>
    (await app.dataSource.query('SELECT person_bidx, place_bidx, person_bidx_next FROM persons')) as Record<
      string,
      Buffer | null
    >[]

  /** Every token in the table is the one that its values make. */
  async function isConsistent(): Promise<void> {
    const map = mapOf()
    const host = attach(app.fieldseal, { name: 'test', ormVersion: '0' })
    const context = as(() => host.capture())
    for await (const page of source().pages(map, { size: 100, tokens: true, tenant: 'a' })) {
      const rows = page.map((row) => ({
        row: {
          map,
          facts: map.facts(row.columns, context),
          cells: map.fields.map((field) => ({ field, value: row.cells[field.path] ?? null })),
        },
        tokens: row.tokens,
      }))
      for (const { problems } of await verifyRows(app.fieldseal, rows, context)) expect(problems).toEqual([])
    }
  }

  beforeAll(async () => {
    app = await startClinic(engine, { entities: [Person, Letter], tenancy: 'multi' })
  })
  beforeEach(async () => {
    await app.dataSource.query('TRUNCATE persons, letters')
  })
  afterAll(() => app?.close())

  it('finds by all values together, each under its own normaliser', async () => {
    const ada = await save(ADA)
    await save({ ...ADA, born: '1816-01-01' })
    await save({ ...ADA, lastName: 'Byron' })
    expect(await ids({ clinicId: 'a', lastName: 'LOVELACE', born: ADA.born })).toEqual([ada.id])
    expect(await find({ lastName: Equal('lovelace'), born: Equal(ADA.born) })).toMatchObject([ADA])
    expect(await ids({ lastName: 'lovelace' })).toEqual([]) // its own index has no normaliser
    expect(await as(() => persons().countBy({ lastName: 'lovelace', born: ADA.born }))).toBe(1)
    expect(await as(() => persons().existsBy({ lastName: 'lovelace', born: '1815-12-11' }))).toBe(false)
    const [partial] = await as(() =>
      persons().find({ select: { id: true }, where: { lastName: 'lovelace', born: ADA.born } }),
    )
    expect(partial).toEqual({ id: ada.id })
    expect(
      await as(() => persons().findOne({ where: { lastName: 'lovelace', born: ADA.born }, take: 1 } as never)),
    ).toMatchObject(ADA)
    await isConsistent()
  })

  it('asks the index of both, and no other', async () => {
    await save(ADA)
    const before = app.wire.logged().length
    await find({ lastName: 'Lovelace', born: ADA.born })
    const sent = app.wire.logged().slice(before).toString()
    expect(sent).toContain('person_bidx')
    expect(sent).not.toContain('"last_name_bidx" =')
  })

  it('In on one or several is every combination; an empty one finds nothing', async () => {
    const born = ['1815-12-10', '1816-01-01']
    const made: string[] = []
    for (const lastName of ['A', 'B', 'C']) for (const day of born) made.push((await save({ lastName, born: day })).id)
    expect(await ids({ lastName: In(['a', 'B']), born: In(born) })).toEqual(made.slice(0, 4).toSorted())
    expect(await ids({ lastName: In(['a', 'C', 'D']), born: born[1] })).toEqual(
      [made[1], made[5]].map(String).toSorted(),
    )
    expect(await ids({ lastName: In([]), born: born[1] })).toEqual([])
    expect(
      await ids([
        { lastName: 'A', born: born[0] },
        { lastName: 'B', born: born[1] },
      ]),
    ).toEqual([made[0], made[3]].map(String).toSorted())
  })

  it('what it cannot answer goes to the index of one column, or is refused', async () => {
    const ada = await save(ADA)
    const other = await save({ ...ADA, lastName: 'Byron' })
    expect(await ids({ lastName: Not('Byron'), clinicId: 'a' })).toEqual([ada.id])
    expect(await ids({ lastName: 'Byron', born: Not(IsNull()) })).toEqual([other.id])
    expect(await ids({ lastName: 'Byron', born: IsNull() })).toEqual([])
    const refused = { code: 'ERR_QUERY_UNSUPPORTED', details: { reason: 'no-blind-index' } }
    for (const where of [{ born: ADA.born }, { lastName: 'Lovelace', born: Not(ADA.born) }, { city: 'x', street: 'y' }])
      await expect(find(where), JSON.stringify(where)).rejects.toMatchObject(refused)
    await expect(find({ born: ADA.born })).rejects.toThrow(/lastName, born together/)
    const negated = as(async () =>
      persons()
        .createQueryBuilder('p')
        .where(new NotBrackets((q) => q.where({ lastName: 'Lovelace', born: ADA.born })))
        .getMany(),
    )
    await expect(negated).rejects.toMatchObject(refused)
    await expect(find({ lastName: 'x', born: In([ADA.born, null]) })).rejects.toMatchObject({ kind: 'refused' })
    await expect(find({ lastName: 7, born: ADA.born })).rejects.toMatchObject({ code: 'ERR_VALUE_INVALID' })
    const many = Array.from({ length: 40 }, (_, at) => String(at))
    await expect(find({ city: In(many), street: In(many), lastName: 'x' })).rejects.toMatchObject(refused)
  })

  it('works in builders, in joins, in updates and deletes by criteria', async () => {
    const ada = await save(ADA)
    await save({ ...ADA, lastName: 'Byron' })
    const where = { lastName: 'lovelace', born: ADA.born }
    const built = await as(() => persons().createQueryBuilder('p').where(where).andWhere('p.visits < 5').getMany())
    expect(built.map(({ id }) => id)).toEqual([ada.id])
    await as(() => app.repository(Letter).save({ text: 'dear', person: { id: ada.id } as Person }))
    const letters = await as(() =>
      app.repository(Letter).find({ where: { person: where }, relations: { person: true } }),
    )
    expect(letters).toMatchObject([{ text: 'dear', person: { lastName: 'Lovelace' } }])
    await as(() => persons().update({ clinicId: 'a', ...where }, { visits: 3 }))
    expect(await find({ visits: 3 })).toMatchObject([{ id: ada.id }])
    await app.dataSource.query('DELETE FROM letters')
    await as(() => persons().delete({ clinicId: 'a', ...where }))
    expect(await as(() => persons().count())).toBe(1)
  })

  it('is unique for the rows that count, per tenant; null is never in the way', async () => {
    const ada = await save(ADA)
    await expect(save({ ...ADA, lastName: ' LOVELACE' })).rejects.toMatchObject(duplicate)
    await as(() => persons().save({ ...ADA, clinicId: 'b' }), 'b')
    for (const one of [1, 2]) await save({ lastName: 'Lovelace', born: null, visits: one })
    await as(() => persons().softRemove(ada))
    await save(ADA)
    expect(await ids({ lastName: 'Lovelace', born: ADA.born })).toHaveLength(1)
  })

  it('a save that changes one value computes the token of all', async () => {
    const ada = await save({ ...ADA, city: 'London', street: 'St James' })
    ada.born = '1816-01-01'
    await as(() => persons().save(ada))
    expect(await ids({ lastName: 'Lovelace', born: '1816-01-01' })).toEqual([ada.id])
    expect(await ids({ lastName: 'Lovelace', born: ADA.born })).toEqual([])
    expect(await ids({ city: 'London', street: 'St James', lastName: 'Lovelace' })).toEqual([ada.id])
    await as(() => persons().save({ id: ada.id, clinicId: 'a', lastName: 'King' })) // of what it has, it knows one
    expect(await ids({ lastName: 'King', born: '1816-01-01' })).toEqual([ada.id])
    expect(await ids({ city: 'London', street: 'St James', lastName: 'King' })).toEqual([ada.id])
    await isConsistent()
  })

  it('null in one value clears the tokens, and a value instead of it makes them', async () => {
    const ada = await save({ ...ADA, city: 'London', street: 'St James' })
    await as(() => persons().save({ id: ada.id, clinicId: 'a', lastName: null }))
    expect(await stored()).toMatchObject([{ person_bidx: null, place_bidx: null }])
    await as(() => persons().update({ id: ada.id, clinicId: 'a' }, { born: '1816-01-01' }))
    expect(await stored()).toMatchObject([{ person_bidx: null }])
    await as(() => persons().update(ada.id, { lastName: 'King' }))
    expect(await ids({ lastName: 'King', born: '1816-01-01' })).toEqual([ada.id])
    await isConsistent()
  })

  it('an update by the whole key reads what it lacks; one by criteria writes all values or is refused', async () => {
    const ada = await save(ADA)
    for (const [at, key] of [ada.id, { id: ada.id }, { id: Equal(ada.id) }].entries()) {
      const born = `1820-01-0${at + 1}`
      expect(await as(() => persons().update(key, { born }))).toMatchObject({ affected: 1 })
      expect(await ids({ lastName: 'Lovelace', born })).toEqual([ada.id])
    }
    const refused = {
      code: 'ERR_WRITE_UNSUPPORTED',
      details: { model: 'persons', field: 'person', reason: 'compound-index' },
    }
    for (const criteria of [
      { clinicId: 'a' },
      { id: In([ada.id]) },
      { lastName: 'Lovelace' },
      [{ id: ada.id }, { visits: 1 }],
    ])
      await expect(as(() => persons().update(criteria as object, { born: '1830-01-01' }))).rejects.toMatchObject(
        refused,
      )
    const builder = as(() => persons().createQueryBuilder().update().set({ born: '1830-01-01' }).where('visits = 0'))
    await expect(as(() => builder.execute())).rejects.toMatchObject(refused)
    await as(() => persons().update({ visits: 0 }, { lastName: 'King', born: '1830-01-01', city: null }))
    expect(await ids({ lastName: 'King', born: '1830-01-01' })).toEqual([ada.id])
    await as(() => persons().update({ visits: 0 }, { born: null, note: 'x' }))
    expect(await stored()).toMatchObject([{ person_bidx: null }])
    await as(() => persons().update({ visits: 0 }, { note: 'y', visits: 2 })) // no column of an index
    await isConsistent()
  })

  it('a token is not written without its values', async () => {
    const ada = await save({ ...ADA, city: 'London', street: 'St James' })
    for (const set of [{ person_bidx: null }, { lastName_bidx: null, visits: 1 }])
      await expect(as(() => persons().update(ada.id, set as object))).rejects.toMatchObject({
        code: 'ERR_WRITE_UNSUPPORTED',
        details: { reason: 'token-column' },
      })
    const columns = ['visits', 'last_name_bidx', 'person_bidx', 'person_bidx_next']
    const upsert = persons()
      .createQueryBuilder()
      .insert()
      .values({ ...ADA, id: ada.id, lastName: 'King', visits: 3 })
    await as(() => upsert.orUpdate(columns, ['id']).execute())
    expect(await find({ lastName: 'Lovelace', born: ADA.born })).toMatchObject([{ visits: 3 }])
    await isConsistent()
  })

  it('an update of a row of another tenant, or of none, writes nothing', async () => {
    const theirs = await as(() => persons().save({ ...ADA, clinicId: 'b' }), 'b')
    expect(await as(() => persons().update(theirs.id, { born: '1830-01-01' }))).toMatchObject({ affected: 0 })
    const nobody = 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01'
    expect(await as(() => persons().update(nobody, { born: '1830-01-01' }))).toMatchObject({ affected: 0 })
    expect(await as(() => persons().findBy({ lastName: 'lovelace', born: ADA.born }), 'b')).toHaveLength(1)
  })

  it('a transaction of the application sees what it wrote, and undoes it', async () => {
    const ada = await save(ADA)
    const undone = as(() =>
      app.dataSource.transaction(async (manager) => {
        await manager.update(Person, ada.id, { lastName: 'King' })
        await manager.update(Person, ada.id, { born: '1816-01-01' })
        expect(await manager.findBy(Person, { lastName: 'King', born: '1816-01-01' })).toHaveLength(1)
        throw new Error('undone')
      }),
    )
    await expect(undone).rejects.toThrow('undone')
    expect(await ids({ lastName: 'Lovelace', born: ADA.born })).toEqual([ada.id])
    await isConsistent()
  })

  it('upserts by the pair, and is refused where it would leave a token of other values', async () => {
    const all = { ...ADA, city: 'London', street: 'St James' }
    for (const visits of [1, 2]) await as(() => persons().upsert({ ...all, visits }, ['lastName', 'born']))
    expect(await find({ lastName: 'Lovelace', born: ADA.born })).toMatchObject([{ visits: 2 }])
    const partly = as(() => persons().upsert({ ...ADA }, ['lastName', 'born']))
    await expect(partly).rejects.toThrow(/overwrite all of city, street, lastName/)
    const [ada] = await find({ visits: 2 })
    const refused = { code: 'ERR_WRITE_UNSUPPORTED', details: { reason: 'compound-index', field: 'person' } }
    await expect(
      as(() => persons().upsert({ id: ada?.id ?? '', clinicId: 'a', born: '1' }, ['id'])),
    ).rejects.toMatchObject(refused)
    const whole = { id: ada?.id ?? '', clinicId: 'a', lastName: 'King', born: '1820-01-01', city: 'L', street: 'S' }
    await as(() => persons().upsert(whole, ['id']))
    expect(await ids({ lastName: 'King', born: '1820-01-01' })).toEqual([ada?.id])
    expect(await ids({ lastName: 'King', city: 'L', street: 'S' })).toEqual([ada?.id])
    await isConsistent()
  })

  it('inserts many at once, by builders too, with or without all values', async () => {
    const rows = Array.from({ length: 5 }, (_, at) => ({
      ...ADA,
      lastName: `N${at}`,
      born: at === 3 ? null : ADA.born,
    }))
    await as(() => persons().insert(rows))
    await as(() =>
      persons()
        .createQueryBuilder()
        .insert()
        .into(Person, ['clinicId', 'lastName', 'born'])
        .values({ ...ADA, lastName: 'Built', city: 'left out' })
        .execute(),
    )
    await as(() =>
      persons()
        .createQueryBuilder()
        .insert()
        .into(Person, ['clinicId', 'lastName'])
        .values({ ...ADA })
        .execute(),
    )
    expect(await ids({ lastName: In(['n0', 'n3', 'built', 'Lovelace']), born: ADA.born })).toHaveLength(2)
    await isConsistent()
  })

  it('nothing of the tokens reaches entities, raw rows that were decrypted, or what RETURNING brings', async () => {
    const made = await save(ADA)
    expect(Object.keys(made)).not.toContain('person_bidx')
    expect(Object.keys((await find({ id: made.id }))[0] ?? {})).not.toContain('person_bidx')
    const raw = await as(() => app.dataSource.query('SELECT * FROM persons'))
    const [opened] = await as(() => decryptRaw(persons(), raw))
    expect(opened).toMatchObject({ last_name: 'Lovelace' })
    expect(opened).not.toHaveProperty('person_bidx')
    const fragment = as(() => persons().createQueryBuilder('p').where('p.person_bidx IS NULL').getMany())
    await expect(fragment).rejects.toMatchObject({ code: 'ERR_QUERY_UNSUPPORTED' })
  })

  it('a token beside values that do not have it is an error', async () => {
    await save(ADA)
    const other = await save({ ...ADA, lastName: 'Byron' })
    await app.dataSource.query(
      `UPDATE persons SET "deletedAt" = now(), person_bidx = (SELECT person_bidx FROM persons WHERE id <> '${other.id}') WHERE id = '${other.id}'`,
    )
    const look = as(() => persons().find({ where: { lastName: 'lovelace', born: ADA.born }, withDeleted: true }))
    await expect(look).rejects.toMatchObject({ code: 'ERR_TOKEN_MISMATCH', details: { field: 'person' } })
  })

  it('a reindex gives the rows that have none their token, and shredded rows lose theirs', async () => {
    const ada = await save({ ...ADA, city: 'London', street: 'St James' })
    await app.dataSource.query('UPDATE persons SET person_bidx = NULL, place_bidx = NULL')
    expect(await ids({ lastName: 'Lovelace', born: ADA.born })).toEqual([])
    const map = mapOf()
    const host = attach(app.fieldseal, { name: 'test', ormVersion: '0' })
    const context = as(() => host.capture())
    const fill = async (between: () => Promise<unknown>) => {
      for await (const page of source().pages(map, { size: 10, tokens: true })) {
        const rows = page.map((row) => ({
          row: {
            map,
            facts: map.facts(row.columns, context),
            cells: map.fields.map((field) => ({ field, value: row.cells[field.path] ?? null })),
          },
          tokens: row.tokens,
        }))
        const outcomes = await tokenRows(app.fieldseal, rows, context)
        await between()
        return source().convert?.(
          map,
          outcomes.map((outcome, at) => ({ key: page[at]?.key, ...('cells' in outcome ? outcome : { cells: [] }) })),
        )
      }
    }
    // Somebody else wins, also with the value that the walk does not write.
    expect(await fill(() => as(() => persons().update(ada.id, { born: '1816-01-01' })))).toEqual(['changed'])
    expect(await ids({ lastName: 'Lovelace', born: '1816-01-01' })).toEqual([ada.id])
    expect(await fill(() => Promise.resolve())).toEqual(['updated'])
    expect(await ids({ lastName: 'Lovelace', city: 'London', street: 'St James' })).toEqual([ada.id])
    await isConsistent()
    for await (const [row] of source().pages(map, { size: 1 })) await source().clearTokens?.(map, [row?.key])
    expect(await stored()).toEqual([{ person_bidx: null, place_bidx: null, person_bidx_next: null }])
  })

  it('TypeORM finds nothing to change in the schema, and doctor nothing to mend', async () => {
    const { upQueries } = await app.dataSource.driver.createSchemaBuilder().log()
    expect(upQueries).toEqual([])
    expect(await source().inspect(mapOf())).toEqual([])
    const rows = (await app.dataSource.query(
      `SELECT indexdef FROM pg_indexes WHERE tablename = 'persons' AND indexdef LIKE '%(person_bidx%'`,
    )) as { indexdef: string }[]
    expect(rows.map(({ indexdef }) => indexdef.replace(/^.* USING btree /, '')).toSorted()).toEqual([
      '(person_bidx)',
      '(person_bidx, "clinicId") WHERE ("deletedAt" IS NULL)',
      '(person_bidx_next)',
      '(person_bidx_next, "clinicId") WHERE ("deletedAt" IS NULL)',
    ])
  })
})

onPostgres('compound indexes under concurrency', (engine) => {
  it('writers of different values of one row leave the token of what is stored', async () => {
    const app = await startClinic(engine, { entities: [Person, Letter], tenancy: 'multi' })
    const as = <R>(fn: () => R) => app.fieldseal.runAs({ tenant: 'a' }, fn)
    const persons = app.repository(Person)
    for (let round = 0; round < 10; round++) {
      const { id } = await as(() => persons.save({ ...ADA, lastName: `R${round}` }))
      const [lastName, born] = [`King ${round}`, '1830-01-01']
      await Promise.all([
        as(() => persons.update(id, { lastName })),
        as(() => persons.update(id, { born })),
        as(() => persons.save({ id, clinicId: 'a', city: 'London' })),
      ])
      expect(await as(() => persons.findBy({ lastName, born }))).toMatchObject([{ id, city: 'London' }])
    }
    await app.close()
  })
})

onPglite('compound indexes of other models', (engine) => {
  it('of one tenant, with a composite key, and values of each type', { timeout: 30_000 }, async () => {
    @Entity('parcels')
    @EncryptedModel<Parcel>({
      compoundIndexes: { contents: { of: ['weight', 'sentAt', 'worth', 'fragile', 'seal'], unique: true } },
    })
    class Parcel {
      @PrimaryColumn('int') year!: number
      @PrimaryColumn('varchar') number!: string
      @EncryptedColumn({ type: 'number' }) weight!: number
      @EncryptedColumn({ type: 'date' }) sentAt!: Date
      @EncryptedColumn({ type: 'bigint' }) worth!: bigint
      @EncryptedColumn({ type: 'boolean' }) fragile!: boolean
      @EncryptedColumn({ type: 'bytes', storage: 'binary' }) seal!: Uint8Array
    }
    const app = await startClinic(engine, { entities: [Parcel], tenancy: 'single' })
    const parcels = app.repository(Parcel)
    const contents = { weight: 0, sentAt: new Date(7), worth: 9n, fragile: true, seal: Buffer.from('seal') }
    await parcels.save({ year: 1, number: 'a', ...contents })
    await parcels.save({ year: 1, number: 'b', ...contents, fragile: false })
    expect(await parcels.findBy({ ...contents, weight: -0 })).toMatchObject([{ number: 'a' }])
    await parcels.update({ year: 1, number: 'a' }, { worth: 10n })
    expect(await parcels.findBy({ ...contents, worth: In([9n, 10n]) })).toMatchObject([{ number: 'a' }])
    await expect(parcels.update({ year: 1, number: 'b' }, { fragile: true, worth: 10n })).rejects.toMatchObject(
      duplicate,
    )
    const kept = parcels.createQueryBuilder().update().set({ worth: 12n }).where({ year: 2, number: 'c' })
    expect(await kept.execute()).toMatchObject({ affected: 0 })
    await parcels.save({ year: 2, number: 'c', ...contents })
    expect(await kept.execute()).toMatchObject({ affected: 1 })
    expect(await parcels.findBy({ ...contents, worth: 12n })).toMatchObject([{ number: 'c' }])
    await expect(parcels.update({ year: 1 }, { worth: 11n })).rejects.toMatchObject({
      details: { reason: 'compound-index' },
    })
    await app.close()
  })

  it('that contain each other: an upsert meets the one that has all of its columns', async () => {
    @Entity('seats')
    @EncryptedModel<Seat>({
      compoundIndexes: {
        two: { of: ['hall', 'row'], unique: { where: { open: true } } },
        all: { of: ['hall', 'row', 'nr'], unique: true },
      },
    })
    class Seat {
      @PrimaryGeneratedColumn() id!: number
      @Column('boolean', { default: false }) open!: boolean
      @Column('int', { default: 0 }) visits!: number
      @EncryptedColumn() hall!: string
      @EncryptedColumn() row!: string
      @EncryptedColumn() nr!: string
    }
    const app = await startClinic(engine, { entities: [Seat], tenancy: 'single' })
    const seats = app.repository(Seat)
    for (const visits of [1, 2]) await seats.upsert({ hall: 'h', row: 'r', nr: '1', visits }, ['hall', 'row', 'nr'])
    expect(await seats.find()).toMatchObject([{ visits: 2 }])
    await app.close()
  })

  it('of each patient under an own key, and in work across tenants', { timeout: 30_000 }, async () => {
    @Entity('findings')
    @EncryptedModel<Finding>({
      tenantBy: 'clinicId',
      keyspace: { per: 'patientId', of: 'patient' },
      compoundIndexes: { pair: { of: ['organ', 'code'] } },
    })
    class Finding {
      @PrimaryGeneratedColumn() id!: number
      @Column('varchar') clinicId!: string
      @Column('int') patientId!: number
      @EncryptedColumn() organ!: string
      @EncryptedColumn() code!: string
    }
    const app = await startClinic(engine, { entities: [Finding], tenancy: 'multi' })
    const findings = app.repository(Finding)
    const as = <R>(tenant: string, fn: () => R) => app.fieldseal.runAs({ tenant }, fn)
    for (const [at, clinicId] of ['a', 'b'].entries())
      await as(clinicId, () => findings.save({ clinicId, patientId: at, organ: 'heart', code: 'x' }))
    const [one] = await as('a', () => findings.findBy({ organ: 'heart', code: 'x' }))
    await as('a', () => findings.save(Object.assign(one ?? new Finding(), { code: 'y' })))
    await as('a', () => findings.update({ id: one?.id ?? 0, patientId: 0 }, { organ: 'lung' }))
    expect(await as('a', () => findings.findBy({ organ: 'lung', code: 'y' }))).toHaveLength(1)
    await app.fieldseal.runAsSystem({ reason: 'test' }, async () => {
      for (const finding of await findings.find()) await findings.save(Object.assign(finding, { code: 'system' }))
    })
    expect(await as('a', () => findings.findBy({ organ: 'lung', code: 'system' }))).toMatchObject([{ clinicId: 'a' }])
    expect(await as('b', () => findings.findBy({ organ: 'heart', code: 'system' }))).toMatchObject([{ clinicId: 'b' }])
    await app.close()
  })

  it('of columns with select: false, which stay out of entities that are found by them', async () => {
    @Entity('vaults')
    @EncryptedModel<Vault>({ compoundIndexes: { pair: { of: ['door', 'pin'] } } })
    class Vault {
      @PrimaryGeneratedColumn() id!: number
      @EncryptedColumn() door!: string
      @EncryptedColumn({ select: false }) pin?: string
      @EncryptedColumn({ select: false, blindIndex: true }) owner?: string
    }
    const app = await startClinic(engine, { entities: [Vault], tenancy: 'single' })
    const vaults = app.repository(Vault)
    await vaults.save({ door: 'a', pin: '1', owner: 'o' })
    const hidden = { id: 1, door: 'a', pin: undefined, owner: undefined }
    for (const where of [{ door: 'a', pin: '1' }, { owner: 'o' }]) {
      expect(await vaults.findBy(where)).toEqual([hidden])
      expect(await vaults.createQueryBuilder('v').where(where).getOne()).toEqual(hidden)
      expect(await vaults.createQueryBuilder('v').addSelect('v.pin').where(where).getOne()).toMatchObject({ pin: '1' })
      expect(await vaults.find({ select: { pin: true }, where })).toMatchObject([{ pin: '1', door: undefined }])
    }
    const [vault] = await vaults.findBy({ owner: 'o' })
    await vaults.save(Object.assign(vault ?? new Vault(), { door: 'b' }))
    expect(await vaults.findBy({ door: 'b', pin: '1' })).toEqual([{ ...hidden, door: 'b' }])
    await app.close()
  })

  it('of a table with children, as long as its root has all properties', { timeout: 30_000 }, async () => {
    @Entity('staff')
    @TableInheritance({ column: { type: 'varchar', name: 'kind' } })
    @EncryptedModel<Staff>({ compoundIndexes: { person: { of: ['name', 'born'], unique: true } } })
    class Staff {
      @PrimaryGeneratedColumn('uuid') id!: string
      @EncryptedColumn() name!: string
      @EncryptedColumn({ type: 'day' }) born!: string
    }
    @ChildEntity()
    class Nurse extends Staff {
      @EncryptedColumn({ nullable: true }) ward?: string | null
    }
    const app = await startClinic(engine, { entities: [Staff, Nurse], tenancy: 'single' })
    const nurse = await app.repository(Nurse).save({ name: 'n', born: '2000-01-01', ward: 'A' })
    nurse.born = '2000-01-02'
    await app.repository(Nurse).save(nurse)
    for (const entity of [Staff, Nurse])
      expect(await app.repository<Staff>(entity).findBy({ name: 'n', born: '2000-01-02' })).toMatchObject([
        { id: nurse.id },
      ])
    await expect(app.repository(Staff).save({ name: 'n', born: '2000-01-02' })).rejects.toMatchObject(duplicate)
    await app.close()
  })
})

onPglite('compound indexes that cannot be', (engine) => {
  const refused = (entity: new () => object) =>
    expect(startClinic(engine, { entities: [entity], tenancy: 'single' })).rejects

  it('are refused at start-up, naming property or index', async () => {
    @Entity('wrong_1')
    @EncryptedModel<Unknown>({ compoundIndexes: { pair: { of: ['a', 'b' as 'a'] } } })
    class Unknown {
      @PrimaryGeneratedColumn('uuid') id!: string
      @EncryptedColumn() a!: string
    }
    await refused(Unknown).toMatchObject({ code: 'ERR_CONFIG_INVALID', details: { field: 'b' } })
    @Entity('wrong_2')
    @EncryptedModel<Plain>({ compoundIndexes: { pair: { of: ['a', 'b'] } } })
    class Plain {
      @PrimaryGeneratedColumn('uuid') id!: string
      @EncryptedColumn() a!: string
      @Column('varchar') b!: string
    }
    await refused(Plain).toMatchObject({ code: 'ERR_CONFIG_INVALID', details: { field: 'pair' } })
    @Entity('wrong_3')
    @EncryptedModel<Taken>({ compoundIndexes: { pair: { of: ['a', 'b'] } } })
    class Taken {
      @PrimaryGeneratedColumn('uuid') id!: string
      @EncryptedColumn() a!: string
      @EncryptedColumn() b!: string
      @Column('varchar') pair_bidx!: string
    }
    await refused(Taken).toMatchObject({ code: 'ERR_CONFIG_INVALID', details: { field: 'pair_bidx' } })
    @Entity('wrong_4')
    @EncryptedModel<Moving>({ compoundIndexes: { pair: { of: ['a', 'b'] } } })
    class Moving {
      @PrimaryGeneratedColumn('uuid') id!: string
      @EncryptedColumn({ state: 'migrating' }) a!: string
      @EncryptedColumn() b!: string
    }
    await refused(Moving).toMatchObject({ code: 'ERR_CONFIG_INVALID', details: { field: 'pair' } })
    class Name {
      @EncryptedColumn() first!: string
    }
    @Entity('wrong_5')
    @EncryptedModel<Embedding>({ compoundIndexes: { pair: { of: ['a', 'name.first' as 'a'] } } })
    class Embedding {
      @PrimaryGeneratedColumn('uuid') id!: string
      @EncryptedColumn() a!: string
      @Column(() => Name) name!: Name
    }
    await refused(Embedding).toMatchObject({ code: 'ERR_CONFIG_INVALID', details: { field: 'name.first' } })
    @Entity('wrong_6')
    @TableInheritance({ column: { type: 'varchar', name: 'kind' } })
    @EncryptedModel<Root>({ compoundIndexes: { pair: { of: ['a', 'b' as 'a'] } } })
    class Root {
      @PrimaryGeneratedColumn('uuid') id!: string
      @EncryptedColumn() a!: string
    }
    @ChildEntity()
    class Child extends Root {
      @EncryptedColumn() b!: string
    }
    @ChildEntity()
    class Sibling extends Root {}
    await expect(startClinic(engine, { entities: [Root, Child, Sibling], tenancy: 'single' })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      details: { field: 'b' },
    })
  })
})
