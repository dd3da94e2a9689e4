import { isUnreadable } from '@fieldseal/core'
import {
  Column,
  Entity,
  In,
  ManyToOne,
  Not,
  OneToMany,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  type QueryRunner,
} from 'typeorm'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel } from '../src/index.ts'
import { startClinic, type Clinic } from './support/clinic.ts'
import { onEachEngine } from './support/engine.ts'

@Entity('patients')
@EncryptedModel<Patient>({ tenantBy: 'clinicId' })
class Patient {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @Column('varchar', { nullable: true, unique: true }) mrn?: string | null
  @Column('varchar', { default: 'basic' }) plan!: string
  @EncryptedColumn({ blindIndex: { normalize: 'email', unique: true } }) email!: string
  @EncryptedColumn({ blindIndex: { unique: true, acrossTenants: true }, nullable: true }) login?: string | null
  @EncryptedColumn({ nullable: true }) ssn?: string | null
  @OneToMany(
    () => Stay,
    (stay) => stay.patient,
    { cascade: true },
  )
  stays?: Stay[]
}

@Entity('stays')
@EncryptedModel<Stay>({ tenantBy: 'clinicId' })
class Stay {
  @PrimaryGeneratedColumn() id!: number
  @Column('varchar') clinicId!: string
  @EncryptedColumn() reason!: string
  @ManyToOne(
    () => Patient,
    (patient) => patient.stays,
  )
  patient?: Patient
}

@Entity('letters')
@EncryptedModel<Letter>({ tenantBy: 'clinicId', keyspace: { per: 'patientId', of: 'patient' } })
class Letter {
  @PrimaryColumn('int') id!: number
  @Column('varchar') clinicId!: string
  @Column('int') patientId!: number
  @EncryptedColumn() text!: string
  @EncryptedColumn({ nullable: true }) answer?: string | null
}

@Entity('parcels')
@EncryptedModel<Parcel>({ tenantBy: 'clinicId', keyspace: { per: 'personId', of: 'person' } })
class Parcel {
  @PrimaryColumn('int') id!: number
  @Column('varchar') clinicId!: string
  @Column('uuid') personId!: string
  @EncryptedColumn() content!: string
}

@Entity('rooms')
class Room {
  @PrimaryGeneratedColumn() id!: number
  @Column('varchar') name!: string
}

onEachEngine('tenants', (engine) => {
  let clinic: Clinic<'multi'>
  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: [Patient, Stay, Letter, Parcel, Room], tenancy: 'multi' })
  })
  afterAll(() => clinic?.close())
  beforeEach(async () => {
    await clinic.dataSource.query('TRUNCATE patients, stays, letters CASCADE')
    await as('b', () => patients().save({ clinicId: 'b', email: 'b@x.org', ssn: 'b-ssn', mrn: 'B1' }))
    await as('a', () =>
      patients().save({
        clinicId: 'a',
        email: 'a@x.org',
        ssn: 'a-ssn',
        mrn: 'A1',
        login: 'ada',
        stays: [{ clinicId: 'a', reason: 'flu' }],
      }),
    )
    clinic.wire.take(/./)
  })
  const patients = () => clinic.repository(Patient)
  const as = <R>(tenant: string, fn: () => R) => clinic.fieldseal.runAs({ tenant }, fn)
  const system = <R>(fn: () => R) => clinic.fieldseal.runAsSystem({ reason: 'test' }, fn)
  const raw = (sql: string, parameters?: unknown[]) =>
    clinic.dataSource.query<Record<string, string>[]>(sql, parameters)
  const idOf = async (tenant: string) =>
    (await raw('SELECT id FROM patients WHERE "clinicId" = $1', [tenant]))[0]?.['id'] ?? ''
  const mismatch = { code: 'ERR_TENANT_MISMATCH' }

  it('without a tenant every operation on an encrypted model throws before any SQL, and plain models work', async () => {
    const missing = { code: 'ERR_TENANT_MISSING', kind: 'misuse' }
    for (const run of [
      () => patients().find(),
      () => patients().findOneBy({ plan: 'x' }),
      () => patients().findBy({ email: 'a@x.org' }),
      () => patients().count(),
      () => patients().exists(),
      () => patients().createQueryBuilder('p').getRawMany(),
      () => patients().createQueryBuilder('p').stream(),
      () => patients().save({ clinicId: 'a', email: 'z@x.org' }),
      () => patients().insert({ clinicId: 'a', email: 'z@x.org' }),
      () => patients().upsert({ clinicId: 'a', email: 'z@x.org' }, ['email']),
      () => patients().update({ plan: 'x' }, { ssn: '1' }),
      () => patients().delete({ plan: 'x' }),
    ]) {
      await expect((async () => run())()).rejects.toMatchObject(missing)
    }
    expect(clinic.wire.take(/./)).toEqual([])
    await clinic.repository(Room).save({ name: 'r' })
    expect(await clinic.repository(Room).count()).toBeGreaterThan(0)
  })

  it('a tenant reads its own rows, and a foreign row in the result is an error before anything is handed out', async () => {
    expect(await as('a', () => patients().findBy({ clinicId: 'a' }))).toMatchObject([
      { email: 'a@x.org', ssn: 'a-ssn' },
    ])
    await expect(as('a', () => patients().find())).rejects.toMatchObject(mismatch)
    await expect(as('a', () => patients().find({ select: { plan: true } }))).rejects.toMatchObject(mismatch)
    expect(await as('a', () => patients().findOneBy({ email: 'b@x.org' }))).toBeNull()
    const bId = await idOf('b')
    await expect(as('a', () => patients().findOneBy({ id: bId }))).rejects.toMatchObject(mismatch)
    await expect(
      as('a', () =>
        clinic.repository(Room).createQueryBuilder('r').innerJoinAndMapOne('r.p', Patient, 'p', '1=1').getMany(),
      ),
    ).rejects.toMatchObject(mismatch)
  })

  it('the same e-mail may stand once in each tenant, an index across tenants once in all', async () => {
    await as('b', () => patients().save({ clinicId: 'b', email: 'a@x.org' }))
    await expect(as('b', () => patients().save({ clinicId: 'b', email: 'A@x.org' }))).rejects.toMatchObject({
      code: '23505',
    })
    await expect(
      as('b', () => patients().save({ clinicId: 'b', email: 'q@x.org', login: 'ada' })),
    ).rejects.toMatchObject({ code: '23505' })
    expect(await system(() => patients().findOneBy({ login: 'ada' }))).toMatchObject({
      email: 'a@x.org',
      clinicId: 'a',
    })
  })

  it('a row must name its own tenant', async () => {
    for (const write of [
      () => patients().save({ clinicId: 'b', email: 'z@x.org' }),
      () => patients().insert({ clinicId: 'b', email: 'z@x.org' }),
      () => patients().upsert({ clinicId: 'b', email: 'z@x.org' }, ['email']),
      () =>
        patients().save([
          { clinicId: 'a', email: 'y@x.org' },
          { clinicId: 'b', email: 'z@x.org' },
        ]),
      () => patients().save({ clinicId: 'a', email: 'y@x.org', stays: [{ clinicId: 'b', reason: 'x' }] }),
    ]) {
      await expect(as<Promise<unknown>>('a', write)).rejects.toMatchObject(mismatch)
    }
    await expect(as('a', () => patients().insert({ email: 'z@x.org' }))).rejects.toMatchObject({
      code: 'ERR_WRITE_UNSUPPORTED',
      details: { reason: 'tenant-unknown' },
    })
    expect(await raw('SELECT * FROM patients')).toHaveLength(2)
  })

  it('updates, deletes and soft deletes by criteria meet the own tenant only', async () => {
    const before = await raw(`SELECT * FROM patients WHERE "clinicId" = 'b'`)
    await as('a', () => patients().update({ plan: 'basic' }, { ssn: 'new', plan: 'basic' }))
    await as('a', () => patients().updateAll({ ssn: 'newer' }))
    await as('a', async () => patients().update(await idOf('b'), { ssn: 'stolen' }))
    await as('a', async () =>
      patients()
        .createQueryBuilder()
        .update()
        .set({ ssn: 'x' })
        .where('plan = :p OR plan = :q', { p: 'basic', q: 'x' })
        .execute(),
    )
    await as('a', () => patients().delete({ plan: 'basic', email: 'b@x.org' }))
    await as('a', async () => patients().delete(await idOf('b')))
    expect(await raw(`SELECT * FROM patients WHERE "clinicId" = 'b'`)).toEqual(before)
    expect(await as('a', () => patients().findBy({ clinicId: 'a' }))).toMatchObject([{ ssn: 'x' }])
    await as('a', () => clinic.dataSource.createQueryBuilder().delete().from(Stay).execute())
    await as('a', () => clinic.dataSource.createQueryBuilder().delete().from(Patient).execute())
    expect(await raw('SELECT "clinicId" FROM patients')).toEqual([{ clinicId: 'b' }])
  })

  it('an upsert that meets a row of another tenant is undone, in a transaction too', async () => {
    const before = await raw('SELECT * FROM patients ORDER BY id')
    const rows = () => [
      { clinicId: 'a', email: 'new@x.org', mrn: 'N1' },
      { clinicId: 'a', email: 'evil@x.org', mrn: 'B1' },
    ]
    await expect(as('a', () => patients().upsert(rows(), ['mrn']))).rejects.toMatchObject(mismatch)
    await as('a', () =>
      clinic.dataSource.transaction(async (manager) => {
        await manager.getRepository(Patient).upsert({ clinicId: 'a', email: 'a@x.org', ssn: 'kept' }, ['email'])
        await expect(manager.getRepository(Patient).upsert(rows(), ['mrn'])).rejects.toMatchObject(mismatch)
      }),
    )
    const bId = await idOf('b')
    await expect(
      as('a', () => patients().upsert({ id: bId, clinicId: 'a', email: 'evil@x.org' }, ['id'])),
    ).rejects.toMatchObject(mismatch)
    const after = await raw('SELECT * FROM patients ORDER BY id')
    expect(after.filter(({ clinicId }) => clinicId === 'b')).toEqual(before.filter(({ clinicId }) => clinicId === 'b'))
    expect(await as('a', () => patients().findBy({ clinicId: 'a' }))).toMatchObject([
      { email: 'a@x.org', ssn: 'kept', mrn: 'A1' },
    ])
  })

  it('an upsert of objects that have their keys keeps them, and one that would change a key is undone', async () => {
    const rows = [{ clinicId: 'a', email: 'up@x.org', mrn: 'U1', ssn: '1' }]
    await as('a', () => patients().upsert(rows, ['mrn']))
    await as('a', () =>
      patients().upsert(
        rows.map((row) => ({ ...row, ssn: '2' })),
        ['mrn'],
      ),
    )
    const found = await as('a', () => patients().findOneByOrFail({ email: 'up@x.org' }))
    expect(found).toMatchObject({
      ssn: '2',
      ...('id' in (rows[0] ?? {}) ? { id: Reflect.get(Object(rows[0]), 'id') } : {}),
    })
    await expect(
      as('a', () =>
        patients().upsert({ id: otherThan(found.id), clinicId: 'a', email: 'up@x.org', mrn: 'U1' }, ['mrn']),
      ),
    ).rejects.toMatchObject({ details: { reason: expect.stringMatching(/key/) } })
    expect(await as('a', () => patients().findOneByOrFail({ email: 'up@x.org' }))).toMatchObject({
      id: found.id,
      ssn: '2',
    })
  })

  it('upserts of own rows update and insert', async () => {
    await as('a', () =>
      patients().upsert(
        [
          { clinicId: 'a', email: 'A@x.org', ssn: '1' },
          { clinicId: 'a', email: 'n@x.org', ssn: '2' },
        ],
        ['email'],
      ),
    )
    expect(await as('a', () => patients().find({ where: { clinicId: 'a' }, order: { mrn: 'ASC' } }))).toMatchObject([
      { email: 'A@x.org', ssn: '1', mrn: 'A1', login: 'ada' },
      { email: 'n@x.org', ssn: '2' },
    ])
    await expect(
      as('a', async () =>
        patients()
          .createQueryBuilder()
          .insert()
          .values({ clinicId: 'a', email: 'a@x.org' })
          .orUpdate(['ssn'], ['email'], { overwriteCondition: { where: { plan: 'basic' } } })
          .execute(),
      ),
    ).rejects.toMatchObject({ details: { reason: 'upsert-condition' } })
    await as('a', () => patients().upsert({ clinicId: 'a', email: 'x@x.org', login: 'ada' }, ['login']))
    expect(await as('a', () => patients().findOneByOrFail({ login: 'ada' }))).toMatchObject({
      email: 'x@x.org',
      mrn: 'A1',
    })
  })

  it.each([
    [
      'a cell of another tenant',
      `UPDATE patients SET ssn = (SELECT ssn FROM patients WHERE "clinicId" = 'b') WHERE "clinicId" = 'a'`,
    ],
    ['a whole row of another tenant', `UPDATE patients SET "clinicId" = 'a', mrn = 'X' WHERE "clinicId" = 'b'`],
    [
      'a token of another tenant',
      `UPDATE patients SET email_bidx = (SELECT email_bidx FROM patients WHERE "clinicId" = 'b'), "clinicId" = 'a' WHERE "clinicId" = 'a'`,
    ],
  ])('%s brings nobody plaintext', async (what, attack) => {
    await raw(attack)
    const read = as('a', () => patients().findBy({ clinicId: 'a' }))
    if (what.includes('token')) expect(await as('a', () => patients().findBy({ email: 'b@x.org' }))).toEqual([])
    else await expect(read).rejects.toMatchObject({ kind: 'corrupt' })
    await read.catch(() => undefined)
  })

  it('SET of tenant or key throws, unless it says what the criteria say', async () => {
    const id = await idOf('a')
    await expect(as('a', () => patients().update(id, { clinicId: 'b' }))).rejects.toMatchObject({
      details: { reason: 'tenant-change' },
    })
    await expect(as('a', () => patients().update(id, { id: otherThan(id) }))).rejects.toMatchObject({
      details: { reason: 'key-change' },
    })
    await as('a', () => patients().update(id, { id, clinicId: 'a', ssn: 'same' }))
    expect(await as('a', () => patients().findOneByOrFail({ id }))).toMatchObject({ ssn: 'same' })
    const entity = await as('a', () => patients().findOneByOrFail({ id }))
    entity.clinicId = 'b'
    await expect(as('a', () => patients().save(entity))).rejects.toMatchObject({
      code: expect.stringMatching(/ERR_TENANT_MISMATCH|ERR_WRITE_UNSUPPORTED/),
    })
  })

  it('a system context reads and saves each row under its own keys, and refuses what needs one tenant', async () => {
    const all = await system(() => patients().find({ order: { clinicId: 'ASC' } }))
    expect(all).toMatchObject([{ ssn: 'a-ssn' }, { ssn: 'b-ssn' }])
    for (const one of all) one.ssn = `${one.clinicId}-scored`
    await system(() => patients().save(all))
    await system(() => patients().save({ clinicId: 'c', email: 'c@x.org' }))
    expect(await as('b', () => patients().findOneByOrFail({ email: 'b@x.org' }))).toMatchObject({ ssn: 'b-scored' })
    expect(await as('c', () => patients().findOneByOrFail({ email: 'c@x.org' }))).toMatchObject({ clinicId: 'c' })
    await system(async () => {
      for (const one of await patients().find())
        await as(one.clinicId, () => patients().update(one.id, { ssn: 'loop' }))
    })
    expect((await system(() => patients().find())).map(({ ssn }) => ssn)).toEqual(['loop', 'loop', 'loop'])
    await expect(system(() => patients().findBy({ email: 'a@x.org' }))).rejects.toMatchObject({
      code: 'ERR_QUERY_UNSUPPORTED',
    })
    await expect(system(() => patients().update({ plan: 'basic' }, { ssn: 'x' }))).rejects.toMatchObject({
      code: 'ERR_WRITE_UNSUPPORTED',
    })
    await expect(system(() => patients().upsert({ clinicId: 'a', email: 'a@x.org' }, ['email']))).rejects.toMatchObject(
      { code: 'ERR_WRITE_UNSUPPORTED' },
    )
    await system(() => patients().remove(all.slice(1)))
    expect(await raw('SELECT 1 FROM patients')).toHaveLength(2)
  })

  it('the context is the one in which a query was created, not the one in which it runs', async () => {
    const builder = as('a', () =>
      patients().createQueryBuilder('p').where({ email: 'a@x.org' }).leftJoinAndSelect('p.stays', 's'),
    )
    expect(await builder.getMany()).toMatchObject([{ ssn: 'a-ssn', stays: [{ reason: 'flu' }] }])
    expect(await as('b', () => builder.getOne())).toMatchObject({ ssn: 'a-ssn' })
    const insert = as('a', () =>
      patients().createQueryBuilder().insert().values({ clinicId: 'a', email: 'later@x.org' }),
    )
    await insert.execute()
    expect(await as('a', () => patients().existsBy({ email: 'later@x.org' }))).toBe(true)
    const related = as('a', () =>
      patients()
        .createQueryBuilder('p')
        .setFindOptions({ where: { email: 'a@x.org' }, relations: { stays: true }, relationLoadStrategy: 'query' }),
    )
    expect(await related.getMany()).toMatchObject([{ stays: [{ reason: 'flu' }] }])
  })

  it('fifty tenants at once stay apart', async () => {
    const tenants = Array.from({ length: 50 }, (_, i) => `t${i}`)
    await Promise.all(
      tenants.map((tenant) =>
        as(tenant, () => patients().save({ clinicId: tenant, email: 'same@x.org', ssn: tenant })),
      ),
    )
    const found = await Promise.all(
      tenants.map((tenant) => as(tenant, () => patients().findOneByOrFail({ email: 'same@x.org' }))),
    )
    expect(found.map(({ ssn }) => ssn)).toEqual(tenants)
    expect(await as('t1', () => patients().findBy({ clinicId: 't1', email: In(['same@x.org']) }))).toHaveLength(1)
    expect(await as('t1', () => patients().findBy({ clinicId: 't1', email: Not('other') }))).toHaveLength(1)
  })

  it('keyspaces per data subject: saves know them, criteria must', async () => {
    const letters = () => clinic.repository(Letter)
    await as('a', () => letters().save({ id: 1, clinicId: 'a', patientId: 7, text: 'hello' }))
    const letter = await as('a', () => letters().findOneByOrFail({ id: 1 }))
    letter.answer = 'hi'
    await as('a', () => letters().save(letter))
    await as('a', () => letters().update({ id: 1, patientId: 7 }, { text: 'again' }))
    expect(await as('a', () => letters().findBy({ clinicId: 'a' }))).toMatchObject([{ text: 'again', answer: 'hi' }])
    await expect(as('a', () => letters().update({ id: 1 }, { text: 'x' }))).rejects.toMatchObject({
      details: { reason: 'keyspace-unknown' },
    })
    await expect(as('a', () => letters().update({ id: 1, patientId: 7 }, { patientId: 8 }))).rejects.toMatchObject({
      details: { reason: 'keyspace-change' },
    })
    await expect(
      as('a', () => letters().upsert({ id: 1, clinicId: 'a', patientId: 7, text: 'x' }, ['id'])),
    ).rejects.toMatchObject({ details: { reason: 'keyspace-unknown' } })
  })

  it('a data subject is the same person however its uuid is spelled', async () => {
    const personId = 'B5A1F6DE-3F7C-4AC3-9A2E-4F0A8B0B5F01'
    const parcels = () => clinic.repository(Parcel)
    await as('a', () => parcels().save({ id: 1, clinicId: 'a', personId, content: 'books' }))
    await as('a', () => parcels().update({ id: 1, personId }, { content: 'more books' }))
    expect(await as('a', () => parcels().findBy({ clinicId: 'a' }))).toMatchObject([
      { personId: personId.toLowerCase(), content: 'more books' },
    ])
  })

  it('marks what cannot be opened, never writes the mark back, and lets it be replaced', async () => {
    await raw(`UPDATE patients SET ssn = substr(ssn, 1, length(ssn) - 4) || 'AAAA' WHERE "clinicId" = 'a'`)
    await expect(as('a', () => patients().findBy({ clinicId: 'a' }))).rejects.toMatchObject({ kind: 'corrupt' })
    const marking = <R>(fn: () => R) => clinic.fieldseal.runAs({ tenant: 'a', onUnreadable: 'mark' }, fn)
    const [one] = await marking(() => patients().findBy({ clinicId: 'a' }))
    if (one === undefined) return expect.unreachable()
    expect(isUnreadable(one.ssn)).toBe(true)
    expect(one.email).toBe('a@x.org')
    one.plan = 'gold'
    await marking(() => patients().save(one))
    expect(await raw(`SELECT plan FROM patients WHERE "clinicId" = 'a'`)).toEqual([{ plan: 'gold' }])
    await expect(
      as('a', () => patients().insert({ clinicId: 'a', email: 'copy@x.org', ssn: one.ssn ?? null })),
    ).rejects.toMatchObject({ code: 'ERR_UNREADABLE_VALUE' })
    one.ssn = 'new'
    await marking(() => patients().save(one))
    expect(await as('a', () => patients().findBy({ clinicId: 'a' }))).toMatchObject([{ ssn: 'new', plan: 'gold' }])
  })

  it('statements of one runner keep their order', async () => {
    const id = await idOf('a')
    const runner: QueryRunner = clinic.dataSource.createQueryRunner()
    try {
      clinic.fieldseal.purge('a')
      await as('a', async () => {
        const builder = runner.manager.getRepository(Patient).createQueryBuilder()
        const update = builder.update().set({ ssn: 'ordered' }).where({ id }).getQueryAndParameters()
        await Promise.all([
          runner.query(...update),
          runner.query(`UPDATE patients SET ssn = NULL WHERE id = $1`, [id]),
          runner.query(`UPDATE patients SET plan = coalesce(ssn, 'last') WHERE id = $1`, [id]),
        ])
      })
      expect(await runner.query('SELECT ssn, plan FROM patients WHERE id = $1', [id])).toEqual([
        { ssn: null, plan: 'last' },
      ])
    } finally {
      await runner.release()
    }
  })
})

function otherThan(id: string): string {
  return id.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'))
}
