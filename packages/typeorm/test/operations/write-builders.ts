import { IsNull } from 'typeorm'
import type { Bench } from './repositories.ts'
import type { Seen, Teller } from './told.ts'
import { Notice, Patient, rowsOf, Stay, STORED, WRITTEN } from './ward.ts'

const { email } = STORED
const RETURNED = { seals: true, gives: 'plaintext' } as const

export function writeBuilders({ protects, refuses }: Teller, { clinic, id }: Bench): void {
  const builder = () => clinic().repository(Patient).createQueryBuilder()
  const denies = (through: string, operation: string, what: string, reason: string, run: () => unknown) =>
    refuses(through, operation, what, `ERR_WRITE_UNSUPPORTED ${reason}`, run)

  const insert = () => builder().insert().into(Patient)
  const inserts = (operation: string, what: string, seen: Seen, run: () => unknown) =>
    protects('InsertQueryBuilder', operation, what, seen, run)
  inserts('values', 'several rows', { seals: true }, async () => {
    await insert()
      .values([{ email: WRITTEN.email }, { email: WRITTEN.ssn }])
      .execute()
  })
  denies('InsertQueryBuilder', 'values', 'an SQL expression', 'sql-expression', () =>
    insert()
      .values({ email: () => "'x'" })
      .execute(),
  )
  inserts(
    'returning, output',
    'columns are opened',
    RETURNED,
    async () => (await insert().values({ email: WRITTEN.email }).output(['id', 'email']).execute()).raw,
  )
  inserts('updateEntity', 'the entity that is handed over holds plaintext', RETURNED, async () => {
    const patient = { email: WRITTEN.email }
    await insert().values(patient).updateEntity(true).output(['id', 'email']).execute()
    return patient
  })
  inserts('orIgnore', 'a row that stands there', { seals: true }, async () => {
    await insert().values({ email }).orIgnore().execute()
  })
  inserts('orUpdate', 'the row that stands there, by its token', { seals: true, finds: true }, async () => {
    await insert().values({ email, ssn: WRITTEN.ssn }).orUpdate(['ssn'], ['email']).execute()
  })
  denies('InsertQueryBuilder', 'orUpdate', 'under a condition on an encrypted column', 'upsert-condition', () =>
    insert()
      .values({ email })
      .orUpdate(['email'], ['email'], { overwriteCondition: { where: { email } } })
      .execute(),
  )
  denies('InsertQueryBuilder', 'valuesFromSelect', 'into an encrypted table', 'insert-from-select', () =>
    clinic()
      .dataSource.createQueryBuilder()
      .insert()
      .into(Patient, ['email'])
      .valuesFromSelect((q) => q.select("'x'").from(Notice, 'n'))
      .execute(),
  )
  denies('InsertQueryBuilder', 'valuesFromSelect', 'from an encrypted table', 'derived-table', () =>
    clinic()
      .dataSource.createQueryBuilder()
      .insert()
      .into(Notice, ['text'])
      .valuesFromSelect((q) => q.select('p.email').from(Patient, 'p'))
      .execute(),
  )
  denies('InsertQueryBuilder', 'into', 'a table by a name that TypeORM does not know', 'table-without-entity', () =>
    clinic().dataSource.createQueryBuilder().insert().into('public.patients').values({ email }).execute(),
  )

  const update = () => builder().update(Patient)
  const updates = (operation: string, what: string, seen: Seen, run: () => unknown) =>
    protects('UpdateQueryBuilder', operation, what, seen, run)
  updates('set', 'by a searchable column', { seals: true, finds: true }, () =>
    update().set({ ssn: WRITTEN.ssn }).where({ email }).execute(),
  )
  denies('UpdateQueryBuilder', 'set', 'an SQL expression', 'sql-expression', () =>
    update()
      .set({ email: () => 'name' })
      .execute(),
  )
  denies('UpdateQueryBuilder', 'set', 'a plain column from an encrypted one', 'set', () =>
    update()
      .set({ name: () => 'email' })
      .execute(),
  )
  updates('whereInIds, andWhereInIds, orWhereInIds', 'keys', { seals: true }, () =>
    update().set({ ssn: WRITTEN.ssn }).whereInIds([id()]).andWhereInIds([id()]).orWhereInIds([id()]).execute(),
  )
  updates('whereEntity, updateEntity', 'an entity', { seals: true }, async () => {
    const patient = await Patient.findOneByOrFail({ name: 'Ada' })
    await update().set({ ssn: WRITTEN.ssn }).whereEntity(patient).updateEntity(true).execute()
  })
  updates(
    'returning, output',
    'columns are opened',
    RETURNED,
    async () => (await update().set({ ssn: WRITTEN.ssn }).whereInIds([id()]).output(['id', 'ssn']).execute()).raw,
  )
  denies('UpdateQueryBuilder', 'update', 'a table by a name that TypeORM does not know', 'table-without-entity', () =>
    clinic().dataSource.createQueryBuilder().update('public.patients').set({ email }).execute(),
  )

  for (const [through, start] of [
    ['UpdateQueryBuilder', () => update().set({ name: 'Bo' })],
    ['DeleteQueryBuilder', () => builder().delete().from(Patient)],
    ['SoftDeleteQueryBuilder', () => builder().softDelete()],
  ] as const)
    for (const operation of ['where', 'andWhere', 'orWhere'] as const) {
      protects(through, operation, 'an object', { finds: true }, () => start()[operation]({ email }).execute())
      denies(through, operation, 'text about an encrypted column', 'where', () =>
        start()[operation]('email = :email', { email }).execute(),
      )
    }
  protects('DeleteQueryBuilder', 'whereInIds, andWhereInIds, orWhereInIds', 'keys', {}, () =>
    builder().delete().from(Patient).whereInIds([id()]).andWhereInIds([id()]).orWhereInIds([id()]).execute(),
  )
  protects(
    'DeleteQueryBuilder',
    'returning, output',
    'columns are opened',
    { gives: 'plaintext' },
    async () => (await builder().delete().from(Patient).whereInIds([id()]).output(['id', 'email']).execute()).raw,
  )
  denies('DeleteQueryBuilder', 'from', 'a table by a name that TypeORM does not know', 'table-without-entity', () =>
    clinic().dataSource.createQueryBuilder().delete().from('public.patients').execute(),
  )
  protects('SoftDeleteQueryBuilder', 'whereInIds, andWhereInIds, orWhereInIds', 'keys', {}, () =>
    builder().softDelete().whereInIds([id()]).andWhereInIds([id()]).orWhereInIds([id()]).execute(),
  )
  protects(
    'SoftDeleteQueryBuilder',
    'returning, output',
    'columns are opened',
    { gives: 'plaintext' },
    async () => (await builder().softDelete().whereInIds([id()]).output(['id', 'email']).execute()).raw,
  )
  protects(
    'SoftDeleteQueryBuilder',
    'from, whereEntity, updateEntity',
    'an entity',
    { gives: 'plaintext' },
    async () => {
      const patient = await Patient.findOneByOrFail({ name: 'Ada' })
      await builder().softDelete().from(Patient).whereEntity(patient).updateEntity(true).execute()
      return patient
    },
  )
  protects('SoftDeleteQueryBuilder', 'restore', 'by a searchable column', { finds: true }, () =>
    builder().restore().where({ email }).execute(),
  )

  const relation = () => builder().relation(Patient, 'stays').of(id())
  const relations = (operation: string, what: string, seen: Seen, run: () => unknown) =>
    protects('RelationQueryBuilder', operation, what, seen, run)
  const stay = async () => (await clinic().repository(Stay).findOneByOrFail({})).id
  relations('loadMany', 'related entities', { gives: 'plaintext' }, () => relation().loadMany())
  relations('add', 'a key', { gives: 'plaintext' }, async () => {
    await relation().add(await stay())
    return relation().loadMany()
  })
  relations('remove', 'a key', {}, async () => relation().remove(await stay()))
  relations('addAndRemove', 'keys', {}, async () => relation().addAndRemove([await stay()], []))
  relations('set, loadOne', 'a key', { gives: 'plaintext' }, async () => {
    const patient = builder()
      .relation(Stay, 'patient')
      .of(await stay())
    await patient.set(id())
    return patient.loadOne()
  })
}

export function sources({ protects, refuses }: Teller, { clinic }: Bench): void {
  const source = () => clinic().dataSource
  const stored = { gives: 'ciphertext' } as const
  protects('DataSource', 'query', 'hand-written SQL gives what is stored', stored, () =>
    source().query('SELECT email FROM patients'),
  )
  protects(
    'DataSource',
    'sql',
    'hand-written SQL gives what is stored',
    stored,
    () => source().sql`SELECT email FROM patients WHERE name = ${'Ada'}`,
  )
  protects('DataSource', 'transaction', 'what is written in it', RETURNED, () =>
    source().transaction((manager) => manager.save(Patient, { email: WRITTEN.email })),
  )
  protects('DataSource', 'createQueryBuilder', 'a builder of ours', { finds: true, gives: 'plaintext' }, () =>
    source().createQueryBuilder(Patient, 'p').where({ email }).getMany(),
  )
  refuses('DataSource', 'createQueryBuilder', 'text about an encrypted column', 'ERR_QUERY_UNSUPPORTED where', () =>
    source().createQueryBuilder(Patient, 'p').where('p.email = :email', { email }).getMany(),
  )
  protects('QueryRunner', 'query, sql', 'hand-written SQL gives what is stored', stored, async () => {
    const runner = source().createQueryRunner()
    try {
      return [await runner.query('SELECT email FROM patients'), await runner.sql`SELECT email FROM patients`]
    } finally {
      await runner.release()
    }
  })
  protects(
    'QueryRunner',
    'startTransaction, commitTransaction, rollbackTransaction',
    'what is written in between',
    RETURNED,
    async () => {
      const runner = source().createQueryRunner()
      try {
        await runner.startTransaction()
        await runner.manager.save(Patient, { email: WRITTEN.ssn })
        await runner.rollbackTransaction()
        await runner.startTransaction()
        await runner.manager.save(Patient, { email: WRITTEN.email })
        await runner.commitTransaction()
        return await runner.manager.findBy(Patient, { name: IsNull() })
      } finally {
        await runner.release()
      }
    },
  )
  protects('QueryRunner', 'stream', 'hand-written SQL gives what is stored', stored, async () => {
    const runner = source().createQueryRunner()
    try {
      return await rowsOf(await runner.stream('SELECT email FROM patients'))
    } finally {
      await runner.release()
    }
  })
}
