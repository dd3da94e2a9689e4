import type { Clinic } from '../support/clinic.ts'
import { DOORS, NOT_ACTIVE_RECORD, type Teller, told } from './told.ts'
import { type Door, Patient, STORED, WRITTEN } from './ward.ts'

/** What the tests of one engine run on. */
export interface Bench {
  clinic(): Clinic<'single'>
  /** The id of the patient that stands there. */
  id(): string
}

const { email, age } = STORED
const PLAIN = { name: 'Ada' }

export function repositoryReads({ protectsBy, refusesBy, protects }: Teller, { clinic }: Bench): void {
  const opened = { finds: true, gives: 'plaintext' } as const
  protectsBy(DOORS, 'find', 'where, relations', opened, (door) =>
    door.find({ where: { email }, relations: { stays: true } }),
  )
  protectsBy(DOORS, 'find', 'some columns', { gives: 'plaintext' }, (door) =>
    door.find({ select: { id: true, ssn: true } }),
  )
  protectsBy(DOORS, 'find', 'relations by queries of their own', opened, (door) =>
    door.find({ where: { email }, relations: { stays: true }, relationLoadStrategy: 'query' }),
  )
  protectsBy(DOORS, 'find', 'a page of joined rows', opened, (door) =>
    door.find({ where: { stays: { room: STORED.room } }, relations: { stays: true }, order: { id: 'ASC' }, take: 1 }),
  )
  protectsBy(DOORS, 'find', 'soft-deleted rows too', opened, (door) =>
    door.find({ where: { email }, withDeleted: true }),
  )
  protectsBy(DOORS, 'find', 'from the cache of results, which holds ciphertext', opened, async (door) => {
    await door.find({ where: { email }, cache: true })
    return door.find({ where: { email }, cache: true })
  })
  refusesBy(DOORS, 'find', 'in the order of an encrypted column', 'ERR_QUERY_UNSUPPORTED order-by', (door) =>
    door.find({ order: { email: 'ASC' } }),
  )
  protectsBy(DOORS, 'findBy', 'a searchable column', opened, (door) => door.findBy({ email }))
  protectsBy(DOORS, 'findBy', 'a plain column', { gives: 'plaintext' }, (door) => door.findBy(PLAIN))
  protectsBy(DOORS, 'findAndCount', 'where', opened, (door) => door.findAndCount({ where: { email } }))
  protectsBy(DOORS, 'findAndCountBy', 'a searchable column', opened, (door) => door.findAndCountBy({ email }))
  protectsBy(DOORS, 'findOne', 'where', opened, (door) => door.findOne({ where: { email } }))
  protectsBy(DOORS, 'findOneBy', 'a searchable column', opened, (door) => door.findOneBy({ email }))
  protectsBy(DOORS, 'findOneOrFail', 'where', opened, (door) => door.findOneOrFail({ where: { email } }))
  protectsBy(DOORS, 'findOneOrFail', 'nothing is found: the error names no value', { finds: true }, async (door) => {
    const error: unknown = await door
      .findOneOrFail({ where: { email: WRITTEN.email } })
      .catch((thrown: unknown) => thrown)
    return told(error)
  })
  protectsBy(DOORS, 'findOneByOrFail', 'a searchable column', opened, (door) => door.findOneByOrFail({ email }))
  protectsBy(DOORS, 'count', 'where', { finds: true }, (door) => door.count({ where: { email } }))
  protectsBy(DOORS, 'countBy', 'a searchable column', { finds: true }, (door) => door.countBy({ age }))
  protectsBy(DOORS, 'exists', 'where', { finds: true }, (door) => door.exists({ where: { email } }))
  protectsBy(DOORS, 'existsBy', 'a searchable column', { finds: true }, (door) => door.existsBy({ email }))
  refusesBy(DOORS, 'count', 'different values of an encrypted column', 'ERR_QUERY_UNSUPPORTED select', (door) =>
    door.count({ select: { email: true } }),
  )
  for (const operation of ['sum', 'average', 'minimum', 'maximum'] as const)
    refusesBy(DOORS, operation, 'an encrypted column', 'ERR_QUERY_UNSUPPORTED select', (door) =>
      door[operation]('age' as never),
    )
  protectsBy(DOORS, 'preload', 'a stored entity with another value', { gives: 'plaintext' }, async (door) => {
    const { id } = await door.findOneByOrFail(PLAIN)
    return door.preload({ id, ssn: WRITTEN.ssn })
  })
  protects('EntityManager', 'query', 'hand-written SQL gives what is stored', { gives: 'ciphertext' }, () =>
    clinic().dataSource.manager.query('SELECT email, ssn FROM patients'),
  )
  protectsBy(
    ['Repository', 'BaseEntity'],
    'query',
    'hand-written SQL gives what is stored',
    { gives: 'ciphertext' },
    (door) => door.query('SELECT email, ssn FROM patients'),
  )
  protectsBy(DOORS, 'createQueryBuilder', 'a builder of ours', { gives: 'plaintext' }, (door) =>
    door.createQueryBuilder('p').getMany(),
  )
  protects('BaseEntity', 'reload', 'a stored entity', { gives: 'plaintext' }, async () => {
    const patient = await Patient.findOneByOrFail(PLAIN)
    patient.email = 'another'
    await patient.reload()
    return patient
  })
  protects('Repository', 'extend', 'methods of its own', opened, () =>
    clinic()
      .repository(Patient)
      .extend({
        byEmail(this: Door, sought: string) {
          return this.findBy({ email: sought })
        },
      })
      .byEmail(email),
  )
  protects('EntityManager', 'withRepository', 'the repository in a transaction', opened, () =>
    clinic().dataSource.transaction((manager) =>
      manager.withRepository(clinic().repository(Patient)).findBy({ email }),
    ),
  )
  protects('EntityManager', 'getRepository', 'a repository', opened, () =>
    clinic().dataSource.manager.getRepository(Patient).findBy({ email }),
  )
  for (const through of ['EntityManager', 'Repository'] as const)
    protects(through, 'sql', 'hand-written SQL gives what is stored', { gives: 'ciphertext' }, () => {
      const { dataSource } = clinic()
      return (through === 'Repository' ? dataSource.getRepository(Patient) : dataSource.manager)
        .sql`SELECT email FROM patients WHERE name = ${'Ada'}`
    })
}

export function repositoryWrites({ protectsBy, refusesBy, protects }: Teller, { clinic, id }: Bench): void {
  const sealed = { seals: true, gives: 'plaintext' } as const
  const found = (door: Door) => door.findOneByOrFail(PLAIN)
  const fresh = (door: Door) => door.create({ ...WRITTEN, name: 'Bo', stays: [{ room: WRITTEN.room }] })

  protectsBy(DOORS, 'save', 'a new entity and its relations', sealed, (door) => door.save(fresh(door)))
  protectsBy(DOORS, 'save', 'a changed entity: the column and its tokens', sealed, async (door) =>
    door.save(Object.assign(await found(door), { email: WRITTEN.email })),
  )
  protectsBy(DOORS, 'save', 'an unchanged entity: nothing is written', { gives: 'plaintext' }, async (door) =>
    door.save(await found(door)),
  )
  protectsBy(DOORS, 'insert', 'several rows', { seals: true }, async (door) => {
    await door.insert([{ email: WRITTEN.email, ssn: WRITTEN.ssn }, { email: WRITTEN.ssn }])
  })
  refusesBy(DOORS, 'insert', 'an SQL expression as a value', 'ERR_WRITE_UNSUPPORTED sql-expression', (door) =>
    door.insert({ email: () => "lower('x')" }),
  )
  protectsBy(DOORS, 'update', 'by key', { seals: true }, (door) => door.update(id(), { ssn: WRITTEN.ssn }))
  protectsBy(DOORS, 'update', 'by a searchable column', { seals: true, finds: true }, (door) =>
    door.update({ email }, { ssn: WRITTEN.ssn }),
  )
  protectsBy(DOORS, 'update', 'by several searchable columns, to null', { finds: true }, (door) =>
    door.update({ email, age }, { ssn: null }),
  )
  refusesBy(DOORS, 'update', 'an SQL expression as a value', 'ERR_WRITE_UNSUPPORTED sql-expression', (door) =>
    door.update(PLAIN, { ssn: () => 'email' }),
  )
  protectsBy(NOT_ACTIVE_RECORD, 'updateAll', 'one value for all rows', { seals: true }, (door) =>
    door.updateAll({ ssn: WRITTEN.ssn }),
  )
  protectsBy(DOORS, 'upsert', 'a new row', { seals: true, finds: true }, async (door) => {
    await door.upsert({ email: WRITTEN.email, ssn: WRITTEN.ssn }, ['email'])
  })
  protectsBy(DOORS, 'upsert', 'the row that stands there, by its token', { seals: true, finds: true }, async (door) => {
    await door.upsert({ email, ssn: WRITTEN.ssn }, ['email'])
  })
  refusesBy(DOORS, 'upsert', 'where nothing is unique', 'ERR_WRITE_UNSUPPORTED no-blind-index', (door) =>
    door.upsert({ email, ssn: WRITTEN.ssn }, ['ssn']),
  )
  refusesBy(
    DOORS,
    'upsert',
    'that leaves equal rows alone: ciphertexts are never equal',
    'ERR_WRITE_UNSUPPORTED skip-update-if-no-values-changed',
    (door) => door.upsert({ email }, { conflictPaths: ['email'], skipUpdateIfNoValuesChanged: true }),
  )
  for (const operation of ['increment', 'decrement'] as const)
    refusesBy(NOT_ACTIVE_RECORD, operation, 'an encrypted number', 'ERR_WRITE_UNSUPPORTED sql-expression', (door) =>
      door[operation](PLAIN, 'age', 1),
    )
  protectsBy(DOORS, 'delete', 'by a searchable column', { finds: true }, (door) => door.delete({ email }))
  protectsBy(NOT_ACTIVE_RECORD, 'deleteAll', 'all rows', {}, (door) => door.deleteAll())
  protectsBy(DOORS, 'remove', 'a stored entity', { gives: 'plaintext' }, async (door) => door.remove(await found(door)))
  protectsBy(NOT_ACTIVE_RECORD, 'softDelete', 'by a searchable column', { finds: true }, (door) =>
    door.softDelete({ email }),
  )
  protectsBy(NOT_ACTIVE_RECORD, 'restore', 'by a searchable column', { finds: true }, (door) => door.restore({ email }))
  protectsBy(DOORS, 'softRemove', 'a stored entity', { gives: 'plaintext' }, async (door) =>
    (door.softRemove as (one: Patient) => unknown)(await found(door)),
  )
  protectsBy(NOT_ACTIVE_RECORD, 'recover', 'a soft-removed entity', { gives: 'plaintext' }, async (door) => {
    const patient = await found(door)
    await door.softRemove(patient)
    return door.recover(patient)
  })
  protectsBy(DOORS, 'clear', 'the table and what refers to it', {}, (door) => door.clear({ cascade: true }))
  protects('EntityManager', 'transaction', 'what is written in it', sealed, () =>
    clinic().dataSource.manager.transaction((manager) => manager.save(Patient, { email: WRITTEN.email })),
  )
  protects('BaseEntity', 'save', 'an entity saves itself', sealed, () =>
    Patient.create({ email: WRITTEN.email }).save(),
  )
  protects('BaseEntity', 'remove', 'an entity removes itself', { gives: 'plaintext' }, async () =>
    (await Patient.findOneByOrFail(PLAIN)).remove(),
  )
  protects(
    'BaseEntity',
    'softRemove, recover',
    'an entity removes itself softly and comes back',
    { gives: 'plaintext' },
    async () => {
      const patient = await Patient.findOneByOrFail(PLAIN)
      await patient.softRemove()
      return patient.recover()
    },
  )
}
