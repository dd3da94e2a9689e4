import { Column, Entity, In, OneToMany, ManyToOne, PrimaryGeneratedColumn, type EntityManager } from 'typeorm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel } from '../src/index.ts'
import { startClinic, type Clinic } from './support/clinic.ts'
import { onOneConnection } from './support/engine.ts'

@Entity('patients')
@EncryptedModel<Patient>({ tenantBy: 'clinicId' })
class Patient {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @EncryptedColumn({ blindIndex: { unique: true } }) email!: string
  @EncryptedColumn({ nullable: true }) ssn?: string | null
  @OneToMany(
    () => Note,
    (note) => note.patient,
    { cascade: true },
  )
  notes?: Note[]
}

@Entity('notes')
@EncryptedModel<Note>({ tenantBy: 'clinicId', keyspace: 'notes' })
class Note {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @EncryptedColumn() text!: string
  @ManyToOne(
    () => Patient,
    (patient) => patient.notes,
  )
  patient?: Patient
}

const WITHIN = { timeout: 5_000 }

onOneConnection('one connection, cold keys: nothing hangs', (engine) => {
  let clinic: Clinic<'multi'>
  let tenants = 0
  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: [Patient, Note], tenancy: 'multi' })
  })
  afterAll(() => clinic?.close())

  /** A tenant that has no keys yet. */
  const fresh = () => `t${++tenants}`
  /** A tenant with one patient, whose keys this process has dropped. */
  const cold = async () => {
    const tenant = fresh()
    await as(tenant, () => clinic.repository(Patient).save({ clinicId: tenant, email: 'a@x.org', ssn: '1' }))
    clinic.fieldseal.purge(tenant)
    return tenant
  }
  const as = <R>(tenant: string, fn: () => R) => clinic.fieldseal.runAs({ tenant }, fn)
  const keks = (tenant: string) =>
    clinic.dataSource.query<{ keyspace: string; kind: string }[]>(
      `SELECT keyspace, kind FROM fieldseal_keys WHERE tenant = $1 AND kind = 'kek'`,
      [tenant],
    )

  it.each<[string, (tenant: string, manager: EntityManager) => Promise<unknown>]>([
    ['save', (tenant, m) => m.save(Patient, { clinicId: tenant, email: 'a@x.org' })],
    [
      'save with cascades into another keyspace',
      (tenant, m) => m.save(Patient, { clinicId: tenant, email: 'a@x.org', notes: [{ clinicId: tenant, text: 'n' }] }),
    ],
    ['insert', (tenant, m) => m.insert(Patient, { clinicId: tenant, email: 'a@x.org' })],
    ['upsert', (tenant, m) => m.upsert(Patient, { clinicId: tenant, email: 'a@x.org' }, ['email'])],
    [
      'a builder in a transaction of its own',
      (tenant, m) =>
        m
          .createQueryBuilder()
          .insert()
          .into(Patient)
          .values({ clinicId: tenant, email: 'a@x.org' })
          .useTransaction(true)
          .execute(),
    ],
    ['find by token', (_tenant, m) => m.findBy(Patient, { email: In(['a@x.org', 'b@x.org']) })],
    ['update', (_tenant, m) => m.update(Patient, { email: 'a@x.org' }, { ssn: '2' })],
    ['delete', (_tenant, m) => m.delete(Patient, { email: 'a@x.org' })],
  ])('the first %s of a tenant', WITHIN, async (_, run) => {
    const tenant = fresh()
    await as(tenant, () => run(tenant, clinic.dataSource.manager))
    await as(tenant, () => clinic.repository(Patient).findBy({ clinicId: tenant }))
  })

  it.each<[string, (tenant: string, manager: EntityManager) => Promise<unknown>]>([
    ['find', (tenant, m) => m.findBy(Patient, { clinicId: tenant })],
    ['find by token', (_tenant, m) => m.findOneByOrFail(Patient, { email: 'a@x.org' })],
    ['count by token', (_tenant, m) => m.countBy(Patient, { email: 'a@x.org' })],
    ['exists by token', (_tenant, m) => m.existsBy(Patient, { email: 'a@x.org' })],
    [
      'find with pages and relations',
      (tenant, m) => m.find(Patient, { where: { clinicId: tenant }, relations: { notes: true }, take: 5 }),
    ],
    [
      'find with relations by query',
      (tenant, m) =>
        m.find(Patient, { where: { clinicId: tenant }, relations: { notes: true }, relationLoadStrategy: 'query' }),
    ],
    [
      'save of a loaded row',
      async (_tenant, m) => m.save(Object.assign(await m.findOneByOrFail(Patient, { email: 'a@x.org' }), { ssn: '3' })),
    ],
    ['update by token', (_tenant, m) => m.update(Patient, { email: 'a@x.org' }, { ssn: '2' })],
    ['soft delete', (tenant, m) => m.delete(Patient, { email: 'nobody', clinicId: tenant })],
  ])('%s with keys that were dropped, outside and inside a transaction', WITHIN, async (_, run) => {
    const tenant = await cold()
    await as(tenant, () => run(tenant, clinic.dataSource.manager))
    clinic.fieldseal.purge(tenant)
    await as(tenant, () => clinic.dataSource.transaction((manager) => run(tenant, manager)))
    clinic.fieldseal.purge(tenant)
    const runner = clinic.dataSource.createQueryRunner()
    try {
      await runner.startTransaction()
      await as(tenant, () => run(tenant, runner.manager))
      await runner.commitTransaction()
    } finally {
      await runner.release()
    }
  })

  it('a transaction has its keys made before it opens, and they outlive its rollback', WITHIN, async () => {
    const tenant = fresh()
    await expect(
      as(tenant, () =>
        clinic.dataSource.transaction(async (manager) => {
          await manager.save(Patient, { clinicId: tenant, email: 'a@x.org', notes: [{ clinicId: tenant, text: 'n' }] })
          throw new Error('undo')
        }),
      ),
    ).rejects.toThrow('undo')
    const made = await keks(tenant)
    expect(made.map(({ keyspace }) => keyspace).toSorted()).toEqual(['class:notes', 'default', 'default'])
    await as(tenant, () => clinic.repository(Patient).save({ clinicId: tenant, email: 'b@x.org' }))
    expect(await keks(tenant)).toHaveLength(3)
    clinic.fieldseal.purge(tenant)
    expect(await as(tenant, () => clinic.repository(Patient).findBy({ clinicId: tenant }))).toMatchObject([
      { email: 'b@x.org' },
    ])
  })

  it('in a transaction opened otherwise a missing key throws, naming prepare()', WITHIN, async () => {
    const tenant = fresh()
    const runner = clinic.dataSource.createQueryRunner()
    try {
      await runner.startTransaction()
      const failure: unknown = await as(tenant, () =>
        runner.manager.save(Patient, { clinicId: tenant, email: 'a@x.org' }),
      ).catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: 'ERR_KEY_MISSING', message: expect.stringMatching(/prepare\(/) })
      await runner.rollbackTransaction()
      await runner.startTransaction()
      await runner.rollbackTransaction()
    } finally {
      await runner.release()
    }
    await clinic.fieldseal.prepare(tenant, { keyspaces: ['class:notes'] })
    const prepared = clinic.dataSource.createQueryRunner()
    await prepared.startTransaction()
    await as(tenant, () => prepared.manager.save(Patient, { clinicId: tenant, email: 'a@x.org' }))
    await prepared.commitTransaction()
    await prepared.release()
  })

  it('twenty first saves at once, of one tenant and of twenty', { timeout: 15_000 }, async () => {
    const one = fresh()
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        as(one, () => clinic.repository(Patient).save({ clinicId: one, email: `${i}` })),
      ),
    )
    expect(await keks(one)).toHaveLength(2)
    const many = Array.from({ length: 20 }, fresh)
    await Promise.all(
      many.map((tenant) => as(tenant, () => clinic.repository(Patient).save({ clinicId: tenant, email: 'x' }))),
    )
  })

  it('a runner that holds the connection is used for its own keys', WITHIN, async () => {
    const tenant = await cold()
    const runner = clinic.dataSource.createQueryRunner()
    await runner.connect()
    try {
      expect(await as(tenant, () => runner.manager.findOneByOrFail(Patient, { email: 'a@x.org' }))).toMatchObject({
        ssn: '1',
      })
      const other = fresh()
      await as(other, () => runner.manager.save(Patient, { clinicId: other, email: 'a@x.org' }))
    } finally {
      await runner.release()
    }
  })

  it('flush() inside a transaction throws instead of waiting for it', WITHIN, async () => {
    const tenant = await cold()
    await as(tenant, () =>
      clinic.dataSource.transaction(async () => {
        await expect(clinic.fieldseal.flush()).rejects.toMatchObject({ details: { reason: 'inside-transaction' } })
      }),
    )
    await clinic.fieldseal.flush()
  })
})
