import {
  And,
  Any,
  Between,
  Equal,
  ILike,
  In,
  JsonContains,
  LessThan,
  Like,
  MoreThan,
  Not,
  Or,
  Raw,
  type SelectQueryBuilder,
} from 'typeorm'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { startClinic, type Clinic } from './support/clinic.ts'
import { onPglite } from './support/engine.ts'
import { Document, ENTITIES, Notice, Person, Visit } from './support/entities.ts'

const CANARY = 'refused-canary@example.org'

onPglite('what cannot be protected throws before any SQL', (engine) => {
  let clinic: Clinic<'single'>
  beforeAll(async () => {
    clinic = await startClinic(engine, { entities: ENTITIES, tenancy: 'single' })
    await people().save({ email: 'a@x.org', nick: 'n', contact: {} })
  })
  afterAll(() => clinic?.close())
  beforeEach(() => clinic.wire.take(/./))
  const people = () => clinic.repository(Person)
  const query = () => people().createQueryBuilder('p')

  async function refuses(run: () => unknown, expected: object): Promise<void> {
    const failure: unknown = await (async () => run())().catch((error: unknown) => error)
    expect(failure).toMatchObject({ kind: 'refused', ...expected })
    expect(clinic.wire.take(/^(SELECT|INSERT|UPDATE|DELETE|WITH)/)).toEqual([])
    expect(clinic.wire.find(CANARY)).toEqual([])
    expect(String(failure)).not.toContain(CANARY)
  }
  const unanswerable = (reason: string) => ({ code: 'ERR_QUERY_UNSUPPORTED', details: { reason } })

  it.each([
    ['Like', Like('%canary%'), 'like'],
    ['ILike', ILike('%canary%'), 'ilike'],
    ['MoreThan', MoreThan(CANARY), 'more-than'],
    ['LessThan', LessThan(CANARY), 'less-than'],
    ['Between', Between('a', 'b'), 'between'],
    ['Raw', Raw((alias) => `${alias} = '${CANARY}'`), 'raw'],
    ['Any', Any([CANARY]), 'any'],
    ['JsonContains', JsonContains({ a: CANARY }), 'json-contains'],
    ['Not(Like)', Not(Like(CANARY)), 'like'],
    ['And(Like)', And(Equal('a'), Like(CANARY)), 'like'],
    ['Or(MoreThan)', Or(Equal('a'), MoreThan(CANARY)), 'more-than'],
    ['Equal(null)', Equal(null as never), 'null-in-condition'],
    ['In with null', In(['a', null as never]), 'null-in-condition'],
  ])('%s', async (_, operator, reason) => {
    await refuses(() => people().findBy({ email: operator as never }), unanswerable(reason))
    await refuses(() => query().where({ email: operator }).getMany(), unanswerable(reason))
    await refuses(() => people().delete({ email: operator as never }), unanswerable(reason))
    await refuses(() => people().update({ email: operator as never }, { name: 'x' }), unanswerable(reason))
  })

  it.each([
    ['a column without blind index', { ssn: CANARY }],
    ['Not without blind index', { ssn: Not(CANARY) }],
    ['an embedded relation path without index', { visits: { note: CANARY } }],
  ])('%s', (_, where) => refuses(() => people().findBy(where), unanswerable('no-blind-index')))

  it('null of a column whose nulls are encrypted', () =>
    refuses(() => people().findBy({ veiled: Not(Equal('x')) }), unanswerable('no-blind-index')))

  it.each<[string, (q: SelectQueryBuilder<Person>) => SelectQueryBuilder<Person>]>([
    ['a string condition', (q) => q.where('p.email = :e', { e: CANARY })],
    ['… quoted', (q) => q.where('"p"."email" = :e', { e: CANARY })],
    ['… in capitals', (q) => q.where('P.EMAIL = :e', { e: CANARY })],
    ['… without alias', (q) => q.where('email = :e', { e: CANARY })],
    ['… of an embedded', (q) => q.where('p.contact.phone = :e', { e: CANARY })],
    ['… by column name', (q) => q.where('p.contactPhone = :e', { e: CANARY })],
    ['… on a token column', (q) => q.where('p.email_bidx = :e', { e: CANARY })],
    ['… on the reserved token column', (q) => q.where('p.email_bidx_next = :e', { e: CANARY })],
    ['… in a function', (q) => q.where('lower(p.email) = :e', { e: CANARY })],
    ['… on the whole row', (q) => q.where('p::text LIKE :e', { e: CANARY })],
    ['… behind comments', (q) => q.where('p /* x */ . -- y\n email = :e', { e: CANARY })],
    ['… with escapes', (q) => q.where('p.U&"em\\0061il" = :e', { e: CANARY })],
    ['andWhere', (q) => q.where('p.name = :n', { n: 'x' }).andWhere('p.ssn = :e', { e: CANARY })],
    ['orWhere in a sub-query', (q) => q.where('EXISTS (SELECT 1 FROM people x WHERE x.email = :e)', { e: CANARY })],
    [
      'a function as condition',
      (q) =>
        q
          .where((qb) => `p.id IN ${qb.subQuery().select('x.id').from(Person, 'x').where('x.email = :e').getQuery()}`)
          .setParameter('e', CANARY),
    ],
    [
      'a sub-query that selects ciphertext',
      (q) => q.where((qb) => `p.name IN ${qb.subQuery().select('x.email').from(Person, 'x').getQuery()}`),
    ],
    ['a Raw on a plain column', (q) => q.where({ name: Raw(() => `"p"."email" = 'x'`) })],
  ])('%s', (_, build) => refuses(() => build(query()).getMany(), unanswerable('where')))

  it.each<[string, string, (q: SelectQueryBuilder<Person>) => SelectQueryBuilder<Person>]>([
    ['order by', 'order-by', (q) => q.orderBy('p.email')],
    ['order by in an expression', 'order-by', (q) => q.orderBy('lower(p.email)')],
    [
      'order by the alias of a selected column',
      'order-by',
      (q) => q.select('p.id').addSelect('p.email', 'mail').orderBy('mail'),
    ],
    ['order by an embedded', 'order-by', (q) => q.orderBy('p.contact.phone')],
    ['group by', 'group-by', (q) => q.select('COUNT(*)').groupBy('p.email')],
    ['having', 'having', (q) => q.select('p.name').groupBy('p.name').having('max(p.email) > :e', { e: CANARY })],
    ['distinct on', 'distinct', (q) => q.distinctOn(['p.email'])],
    ['distinct', 'distinct', (q) => q.select('p.email').distinct()],
    ['distinct over the entity', 'distinct', (q) => q.distinct()],
    ['an aggregate', 'select', (q) => q.select('MAX(p.email)', 'm')],
    ['a select expression', 'select', (q) => q.select('p.id').addSelect('upper("p"."email")', 'u')],
    ['a select of a sub-query', 'select', (q) => q.addSelect((s) => s.select('x.email').from(Person, 'x'), 'e')],
    ['a join condition', 'join', (q) => q.leftJoin('p.visits', 'v', 'v.code = :e', { e: CANARY })],
    ['a join with a plain table', 'join', (q) => q.leftJoin(Notice, 'n', 'n.email = p.email')],
    [
      'a derived table',
      'derived-table',
      (q) => q.innerJoin((s) => s.select('x.email', 'mail').from(Person, 'x'), 'd', 'd.mail = :e', { e: CANARY }),
    ],
    [
      'a derived table in text',
      'derived-table',
      (q) => q.innerJoin('(SELECT email AS mail FROM people)', 'd', 'd.mail = :e', { e: CANARY }),
    ],
    ['a common table expression', 'cte', (q) => q.addCommonTableExpression('SELECT email AS mail FROM people', 'c')],
    [
      'a common table expression of a builder',
      'cte',
      (q) => q.addCommonTableExpression(query().select('p.email', 'mail'), 'c'),
    ],
  ])('%s', async (_, reason, build) => {
    await refuses(() => build(query()).getMany(), unanswerable(reason))
    await refuses(() => build(query()).getRawMany(), unanswerable(reason))
  })

  it('order and pagination of find', async () => {
    await refuses(() => people().find({ order: { email: 'ASC' } }), unanswerable('order-by'))
    await refuses(
      () => people().find({ order: { visits: { code: 'ASC' } }, relations: { visits: true }, take: 1 }),
      unanswerable('order-by'),
    )
    await refuses(() => people().count({ select: { email: true } }), unanswerable('select'))
  })

  it.each([
    ['sum', () => people().sum('salary' as never)],
    ['average', () => people().average('salary' as never)],
    ['minimum', () => people().minimum('salary' as never)],
    ['maximum', () => people().maximum('salary' as never)],
  ])('%s', (_, run) => refuses(run, unanswerable('select')))

  it.each([
    [
      'a select',
      () =>
        clinic.dataSource
          .createQueryBuilder()
          .select('*')
          .from('public.people', 'x')
          .where('x.email = :e', { e: CANARY })
          .getRawMany(),
      'ERR_QUERY_UNSUPPORTED',
    ],
    [
      'an insert',
      () => clinic.dataSource.createQueryBuilder().insert().into('public.people').values({ email: CANARY }).execute(),
      'ERR_WRITE_UNSUPPORTED',
    ],
    [
      'an update',
      () => clinic.dataSource.createQueryBuilder().update('public.people').set({ email: CANARY }).execute(),
      'ERR_WRITE_UNSUPPORTED',
    ],
    [
      'a delete',
      () =>
        clinic.dataSource
          .createQueryBuilder()
          .delete()
          .from('public.people')
          .where('email = :e', { e: CANARY })
          .execute(),
      'ERR_WRITE_UNSUPPORTED',
    ],
  ])('%s that names a table TypeORM does not know', (_, run, code) =>
    refuses(run, { code, details: { reason: 'table-without-entity' } }),
  )

  it('a sub-query on a plain entity that reads an encrypted table', () =>
    refuses(
      () =>
        clinic
          .repository(Notice)
          .createQueryBuilder('n')
          .where('EXISTS (SELECT 1 FROM people WHERE people.email = :e)', { e: CANARY })
          .getMany(),
      unanswerable('where'),
    ))

  const unwritable = (reason: string) => ({ code: 'ERR_WRITE_UNSUPPORTED', details: { reason } })
  it.each<[string, string, () => unknown]>([
    [
      'an SQL expression in insert',
      'sql-expression',
      () => people().insert({ email: () => `'${CANARY}'`, contact: {} }),
    ],
    [
      'an SQL expression in update',
      'sql-expression',
      () => people().update({ name: 'x' }, { ssn: () => `'${CANARY}'` }),
    ],
    [
      'an SQL expression that copies ciphertext',
      'set',
      () => people().update({ name: 'x' }, { name: () => '"email"' }),
    ],
    [
      'an SQL expression that reads an encrypted table',
      'set',
      () => clinic.repository(Notice).insert({ email: () => '(SELECT email FROM people LIMIT 1)' }),
    ],
    ['increment', 'sql-expression', () => people().increment({ name: 'x' }, 'salary', 1)],
    ['decrement', 'sql-expression', () => people().decrement({ name: 'x' }, 'salary', 1)],
    [
      'a find operator as value',
      'find-operator',
      () => people().insert({ email: Equal(CANARY) as never, contact: {} }),
    ],
    [
      'INSERT … SELECT',
      'insert-from-select',
      () =>
        clinic.dataSource
          .createQueryBuilder()
          .insert()
          .into(Document, ['year', 'number', 'title'])
          .valuesFromSelect((q) => q.select(['1', "'n'", `'t'`]).from(Notice, 'n'))
          .execute(),
    ],
    [
      'INSERT … SELECT of ciphertext',
      'derived-table',
      () =>
        clinic.dataSource
          .createQueryBuilder()
          .insert()
          .into(Notice, ['email'])
          .valuesFromSelect((q) => q.select('p.email').from(Person, 'p'))
          .execute(),
    ],
    [
      'upsert skipping unchanged rows',
      'skip-update-if-no-values-changed',
      () =>
        people().upsert(
          { email: CANARY, contact: {} },
          { conflictPaths: ['email'], skipUpdateIfNoValuesChanged: true },
        ),
    ],
    [
      'upsert on a column without unique index',
      'no-blind-index',
      () => people().upsert({ email: CANARY, nick: 'n', contact: {} }, ['nick']),
    ],
    [
      'upsert on a column without index',
      'no-blind-index',
      () => people().upsert({ email: CANARY, ssn: 's', contact: {} }, ['ssn']),
    ],
    [
      'upsert with a condition on an encrypted column',
      'upsert-condition',
      () =>
        people()
          .createQueryBuilder()
          .insert()
          .values({ email: CANARY, contact: {} })
          .orUpdate(['email'], ['email'], { overwriteCondition: { where: { nick: 'n' } } })
          .execute(),
    ],
    [
      'upsert with a hand-written condition',
      'on-conflict',
      () =>
        people()
          .createQueryBuilder()
          .insert()
          .values({ email: CANARY, contact: {} })
          .orUpdate(['email'], ['email'], { overwriteCondition: { where: 'people.email = 1' } })
          .execute(),
    ],
    [
      'a changed key',
      'key-change',
      () => people().update({ email: 'a@x.org' }, { id: '6b1a4ee2-6f2b-4f7e-9f0e-0d3c1f4b8a11' }),
    ],
    [
      'more parameters than a statement can have',
      'too-many-parameters',
      () =>
        people()
          .createQueryBuilder()
          .insert()
          .values(Array.from({ length: 8_000 }, (_, i) => ({ email: `${i}`, nick: 'n', ssn: 's', contact: {} })))
          .execute(),
    ],
    [
      'a string condition in update',
      'where',
      () => people().createQueryBuilder().update().set({ name: 'x' }).where('email = :e', { e: CANARY }).execute(),
    ],
    [
      'a string condition in delete',
      'where',
      () => people().createQueryBuilder().delete().where('email = :e', { e: CANARY }).execute(),
    ],
    [
      'a string condition in softDelete',
      'where',
      () => people().createQueryBuilder().softDelete().where('email = :e', { e: CANARY }).execute(),
    ],
  ])('%s', (_, reason, run) => refuses(run, unwritable(reason)))

  it.each<[string, () => unknown]>([
    ['a number for a string', () => people().insert({ email: 5 as never, contact: {} })],
    ['a string for a number', () => people().insert({ email: 'q@x.org', salary: CANARY as never, contact: {} })],
    ['an invalid date', () => people().insert({ email: 'q@x.org', seenAt: new Date(Number.NaN), contact: {} })],
    ['a date in condition of a string', () => people().findBy({ email: new Date() as never })],
  ])('%s', async (_, run) => {
    const failure: unknown = await (async () => run())().catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'ERR_VALUE_INVALID' })
    expect(String(failure)).not.toContain(CANARY)
    expect(clinic.wire.take(/^(SELECT|INSERT)/)).toEqual([])
  })

  it('a builder of a plain relation is not in the way', async () => {
    const [person] = await people().find()
    const visit = await clinic.repository(Visit).save({ note: 'n' })
    await people().createQueryBuilder().relation('visits').of(person).add(visit)
    expect(await clinic.repository(Visit).countBy({ person: { email: 'a@x.org' } })).toBe(1)
  })
})
