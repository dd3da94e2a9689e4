import { Brackets, NotBrackets, type SelectQueryBuilder } from 'typeorm'
import { decryptRaw } from '../../src/index.ts'
import type { Bench } from './repositories.ts'
import { type Seen, type Teller, told } from './told.ts'
import { Notice, Patient, rowsOf, Stay, STORED, WRITTEN } from './ward.ts'

type Query = SelectQueryBuilder<Patient>
const { email, room } = STORED
const OPENED = { gives: 'plaintext' } as const
const FOUND = { finds: true, gives: 'plaintext' } as const
const OF = 'SelectQueryBuilder'

export function selectEnds({ protects }: Teller, { clinic, id }: Bench): void {
  const query = () => clinic().repository(Patient).createQueryBuilder('p')
  const shows = (operation: string, what: string, seen: Seen, run: () => unknown) =>
    protects(OF, operation, what, seen, run)

  shows('getMany', 'entities', FOUND, () => query().where({ email }).getMany())
  shows('getOne', 'an entity', FOUND, () => query().where({ email }).getOne())
  shows('getOneOrFail', 'an entity', FOUND, () => query().where({ email }).getOneOrFail())
  shows('getOneOrFail', 'nothing is found: the error names no value', { finds: true }, async () => {
    const error: unknown = await query()
      .where({ email: WRITTEN.email })
      .getOneOrFail()
      .catch((thrown: unknown) => thrown)
    return told(error)
  })
  shows('getManyAndCount', 'entities and their number', FOUND, () => query().where({ email }).getManyAndCount())
  shows('getCount', 'a number', { finds: true }, () => query().where({ email }).getCount())
  shows('getExists', 'whether there is one', { finds: true }, () => query().where({ email }).getExists())
  shows('getRawMany', 'what is stored', { gives: 'ciphertext' }, () => query().getRawMany())
  shows('getRawMany', 'opened by decryptRaw', OPENED, async () =>
    decryptRaw(clinic().repository(Patient), await query().getRawMany()),
  )
  shows('getRawOne', 'what is stored', { gives: 'ciphertext' }, () => query().getRawOne())
  shows('getRawAndEntities', 'its entities', OPENED, async () => (await query().getRawAndEntities()).entities)
  shows('getRawAndEntities', 'its rows', { gives: 'ciphertext' }, async () => (await query().getRawAndEntities()).raw)
  shows('execute', 'what is stored', { gives: 'ciphertext' }, () => query().execute())
  shows('stream', 'what is stored', { finds: true, gives: 'ciphertext' }, async () =>
    rowsOf(await query().where({ email }).stream()),
  )
  shows('getQuery, getSql, getQueryAndParameters, getParameters', 'no value is printed', { finds: true }, async () => {
    const q = query().where({ email })
    await q.getCount()
    return [q.getQuery(), q.getSql(), q.getQueryAndParameters(), q.getParameters()]
  })
  shows('whereInIds, andWhereInIds, orWhereInIds', 'keys', OPENED, () =>
    query().whereInIds([id()]).andWhereInIds([id()]).orWhereInIds([id()]).getMany(),
  )
  shows('setFindOptions', 'where', FOUND, () => query().setFindOptions({ where: { email } }).getMany())
  shows('clone', 'the same conditions', FOUND, () => query().where({ email }).clone().getMany())
  shows('cache', 'results are kept as they are stored', FOUND, async () => {
    await query().where({ email }).cache(true).getMany()
    return query().where({ email }).cache(true).getMany()
  })
  shows('setLock, setOnLocked', 'rows are locked', FOUND, () =>
    clinic().dataSource.transaction((manager) =>
      manager
        .createQueryBuilder(Patient, 'p')
        .setLock('pessimistic_write')
        .setOnLocked('skip_locked')
        .where({ email })
        .getMany(),
    ),
  )
  shows('withDeleted, callListeners, comment, maxExecutionTime, useTransaction, setOption', 'as without', FOUND, () =>
    query()
      .withDeleted()
      .callListeners(false)
      .comment('by the front desk')
      .maxExecutionTime(10_000)
      .setOption('create-pojo')
      .useTransaction(true)
      .where({ email })
      .getMany(),
  )
  shows('limit, offset', 'a page', FOUND, () => query().where({ email }).orderBy('p.name').limit(1).offset(0).getMany())
  shows('take, skip', 'a page of joined rows', FOUND, () =>
    query().leftJoinAndSelect('p.stays', 's').where({ email }).orderBy('p.name').take(1).skip(0).getMany(),
  )
  shows('loadAllRelationIds', 'keys', OPENED, () => query().loadAllRelationIds().getMany())
  shows('loadRelationIdAndMap', 'keys', OPENED, () => query().loadRelationIdAndMap('p.stayIds', 'p.stays').getMany())
  shows('setQueryRunner', 'a runner of its own', FOUND, async () => {
    const runner = clinic().dataSource.createQueryRunner()
    try {
      return await query().setQueryRunner(runner).where({ email }).getMany()
    } finally {
      await runner.release()
    }
  })
}

export function selectParts({ protects, refuses }: Teller, { clinic }: Bench): void {
  const query = () => clinic().repository(Patient).createQueryBuilder('p')
  const shows = (operation: string, what: string, seen: Seen, build: (q: Query) => Query) =>
    protects(OF, operation, what, seen, () => build(query()).getMany())
  const denies = (operation: string, what: string, reason: string, build: (q: Query) => Query) =>
    refuses(OF, operation, what, `ERR_QUERY_UNSUPPORTED ${reason}`, () => build(query()).getMany())

  for (const operation of ['where', 'andWhere', 'orWhere'] as const) {
    shows(operation, 'an object', FOUND, (q) => q[operation]({ email }))
    denies(operation, 'text about an encrypted column', 'where', (q) => q[operation]('p.email = :email', { email }))
  }
  shows('where', 'text about plain columns, parameters beside it', OPENED, (q) =>
    q.where('p.name = :name').setParameter('name', 'Ada'),
  )
  shows('where', 'brackets', FOUND, (q) => q.where(new Brackets((b) => b.where({ email }).orWhere({ age: 1 }))))
  shows('where', 'negated brackets', FOUND, (q) => q.where(new NotBrackets((b) => b.where({ age: 1 }))))
  denies('where, subQuery', 'a function that writes a sub-query about an encrypted column', 'where', (q) =>
    q.where((qb) => `p.id IN ${qb.subQuery().select('x.id').from(Patient, 'x').where('x.email = :email').getQuery()}`),
  )
  denies('setParameter, setParameters', 'of a condition on an encrypted column', 'where', (q) =>
    q.where('p.email = :email').setParameters({ email }).setParameter('email', email),
  )
  for (const operation of ['whereExists', 'andWhereExists', 'orWhereExists'] as const)
    denies(operation, 'a sub-query about an encrypted column', 'where', (q) =>
      q[operation](q.subQuery().select('1').from(Stay, 's').where('s.room = :room', { room })),
    )
  for (const operation of ['having', 'andHaving', 'orHaving'] as const)
    denies(operation, 'an encrypted column', 'having', (q) =>
      q.select('p.name').groupBy('p.name')[operation]('max(p.email) > :email', { email }),
    )
  for (const operation of ['groupBy', 'addGroupBy'] as const)
    denies(operation, 'an encrypted column', 'group-by', (q) => q.select('count(*)')[operation]('p.email'))
  for (const operation of ['orderBy', 'addOrderBy'] as const) {
    denies(operation, 'an encrypted column', 'order-by', (q) => q[operation]('p.email'))
    shows(operation, 'a plain column', OPENED, (q) => q[operation]('p.name'))
  }
  denies('distinct', 'over encrypted columns', 'distinct', (q) => q.distinct())
  denies('distinctOn', 'an encrypted column', 'distinct', (q) => q.distinctOn(['p.email']))
  shows('select, addSelect', 'columns', OPENED, (q) => q.select('p.id').addSelect('p.email'))
  for (const operation of ['select', 'addSelect'] as const) {
    denies(operation, 'an expression over an encrypted column', 'select', (q) => q[operation]('upper(p.email)', 'u'))
    denies(operation, 'a sub-query over an encrypted column', 'select', (q) =>
      q[operation](
        (s: SelectQueryBuilder<Patient>) => s.select('x.email').from(Patient, 'x') as SelectQueryBuilder<Patient>,
        'e',
      ),
    )
  }
  shows('leftJoinAndSelect', 'relations', FOUND, (q) => q.leftJoinAndSelect('p.stays', 's').where({ stays: { room } }))
  shows('innerJoinAndSelect', 'relations', OPENED, (q) => q.innerJoinAndSelect('p.stays', 's'))
  for (const operation of [
    'leftJoinAndMapOne',
    'leftJoinAndMapMany',
    'innerJoinAndMapOne',
    'innerJoinAndMapMany',
  ] as const) {
    shows(operation, 'joined entities', OPENED, (q) => q[operation]('p.joined', Stay, 's', 's.patientId = p.id'))
    denies(operation, 'by a condition on an encrypted column', 'join', (q) =>
      q[operation]('p.joined', 'p.stays', 's', 's.room = :room', { room }),
    )
  }
  for (const operation of ['leftJoin', 'innerJoin', 'leftJoinAndSelect', 'innerJoinAndSelect'] as const) {
    denies(operation, 'by a condition on an encrypted column', 'join', (q) =>
      q[operation]('p.stays', 's', 's.room = :room', { room }),
    )
    denies(operation, 'a table by an encrypted column', 'join', (q) => q[operation](Notice, 'n', 'n.text = p.email'))
    denies(operation, 'a derived table', 'derived-table', (q) =>
      q[operation](
        (s: SelectQueryBuilder<Patient>) => s.select('x.email', 'mail').from(Patient, 'x'),
        'd',
        'd.mail IS NOT NULL',
      ),
    )
  }
  denies('addCommonTableExpression', 'over an encrypted table', 'cte', (q) =>
    q.addCommonTableExpression('SELECT email FROM patients', 'c'),
  )
  protects(OF, 'from, addFrom', 'entities', OPENED, () =>
    clinic().dataSource.createQueryBuilder().select('p').from(Patient, 'p').addFrom(Notice, 'n').getMany(),
  )
  refuses(
    OF,
    'from',
    'a table by a name that TypeORM does not know',
    'ERR_QUERY_UNSUPPORTED table-without-entity',
    () => clinic().dataSource.createQueryBuilder().select('*').from('public.patients', 'p').getRawMany(),
  )
  refuses(
    OF,
    'addFrom',
    'a table by a name that TypeORM does not know',
    'ERR_QUERY_UNSUPPORTED table-without-entity',
    () =>
      clinic()
        .dataSource.createQueryBuilder()
        .select('p.email')
        .from(Notice, 'n')
        .addFrom('public.patients', 'p')
        .getRawMany(),
  )
}
