import { Column, DeleteDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel, typeormSource } from '../src/index.ts'
import { type Clinic, startClinic } from './support/clinic.ts'
import { onEachEngine, onPglite, onPostgres } from './support/engine.ts'

@Entity('accounts')
@EncryptedModel<Account>({ tenantBy: 'clinicId' })
class Account {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @EncryptedColumn({ blindIndex: { normalize: 'email', unique: { where: { deletedAt: null } } } }) email!: string
  @EncryptedColumn({ nullable: true, blindIndex: { unique: { where: { state: "o'pen", rank: 1, active: true } } } })
  badge?: string | null
  @Column('varchar', { name: 'account_state', default: 'new' }) state!: string
  @Column('int', { default: 0 }) rank!: number
  @Column('boolean', { default: true }) active!: boolean
  @DeleteDateColumn({ name: 'deleted_at' }) deletedAt?: Date | null
}

const duplicate = { code: '23505' }

onEachEngine('unique where', (engine) => {
  let app: Clinic<'multi'>
  const accounts = () => app.repository(Account)
  const as = <R>(tenant: string, fn: () => R) => app.fieldseal.runAs({ tenant }, fn)
  const own = (row: Partial<Account>) => as('a', () => accounts().save({ clinicId: 'a', ...row }))

  beforeAll(async () => {
    app = await startClinic(engine, { entities: [Account], tenancy: 'multi' })
  })
  beforeEach(async () => {
    await app.dataSource.query('TRUNCATE accounts')
  })
  afterAll(() => app?.close())

  it('a soft-deleted row gives its value free, and is in the way when it comes back', async () => {
    const first = await own({ email: 'a@x.org' })
    await expect(own({ email: 'A@x.org' })).rejects.toMatchObject(duplicate)
    await as('a', () => accounts().softRemove(first))
    const second = await own({ email: 'A@x.org' })
    await expect(as('a', () => accounts().recover(Object.assign(new Account(), first)))).rejects.toMatchObject(
      duplicate,
    )
    expect(await as('a', () => accounts().findBy({ email: 'a@x.org' }))).toMatchObject([{ id: second.id }])
    const all = await as('a', () => accounts().find({ where: { email: 'a@x.org' }, withDeleted: true }))
    expect(all.map(({ id }) => id).toSorted()).toEqual([first.id, second.id].toSorted())
    await as('b', () => accounts().save({ clinicId: 'b', email: 'a@x.org' }))
  })

  it('texts, numbers and booleans say which rows count', async () => {
    const counted = { state: "o'pen", rank: 1, active: true, badge: '7' }
    await own({ ...counted, email: '1' })
    for (const [at, other] of [{ state: 'open' }, { rank: 2 }, { active: false }, { badge: null }].entries())
      await own({ ...counted, ...other, email: `other ${at}` })
    await expect(own({ ...counted, email: '2' })).rejects.toMatchObject(duplicate)
  })

  it('an upsert meets the row that counts, and leaves the others alone', async () => {
    const gone = await own({ email: 'a@x.org', badge: 'gone' })
    await as('a', () => accounts().softRemove(gone))
    for (const badge of ['1', '2'])
      await as('a', () => accounts().upsert({ clinicId: 'a', email: 'a@x.org', badge }, ['email']))
    const all = await as('a', () => accounts().find({ where: { email: 'a@x.org' }, withDeleted: true }))
    expect(all.map(({ badge }) => String(badge)).toSorted()).toEqual(['2', 'gone'])
  })

  it('look-ups that name no condition have an index of their own', async () => {
    const rows = (await app.dataSource.query(
      `SELECT indexdef FROM pg_indexes WHERE tablename = 'accounts' AND indexdef LIKE '%email_bidx%'`,
    )) as { indexdef: string }[]
    const definitions = rows.map(({ indexdef }) => indexdef.replace(/^.* USING btree /, '')).toSorted()
    expect(definitions).toEqual([
      '(email_bidx)',
      '(email_bidx, "clinicId") WHERE (deleted_at IS NULL)',
      '(email_bidx_next)',
      '(email_bidx_next, "clinicId") WHERE (deleted_at IS NULL)',
    ])
  })

  it('TypeORM finds nothing to change in the schema', async () => {
    const { upQueries } = await app.dataSource.driver.createSchemaBuilder().log()
    expect(upQueries).toEqual([])
  })

  it('pages tell which rows do not count', async () => {
    const gone = await own({ email: 'a@x.org', state: "o'pen", rank: 1 })
    await as('a', () => accounts().softRemove(gone))
    const source = typeormSource(app.dataSource)
    const [map] = source.models
    for await (const [row] of source.pages(map ?? expect.unreachable(), { size: 1 }))
      expect([...(row?.outside ?? [])].map(({ id }) => id)).toEqual(['email'])
    expect.assertions(1)
  })

  it('doctor finds a unique index that is missing, or is unique for all rows', async () => {
    const source = typeormSource(app.dataSource)
    const map = source.models[0] ?? expect.unreachable()
    expect(await source.inspect(map)).toEqual([])
    const rows = (await app.dataSource.query(
      `SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%(email_bidx, %' AND indexdef LIKE '%WHERE%'`,
    )) as { indexname: string }[]
    await app.dataSource.query(`DROP INDEX "${rows[0]?.indexname}"`)
    const finding = [{ problem: expect.stringContaining('email_bidx'), fix: expect.stringContaining('WHERE') }]
    expect(await source.inspect(map)).toMatchObject(finding)
    await app.dataSource.query('CREATE UNIQUE INDEX whole ON accounts (email_bidx, "clinicId")')
    const whole = [{ problem: expect.stringContaining('unique for all rows'), fix: expect.stringContaining('whole') }]
    expect(await source.inspect(map)).toMatchObject([...finding, ...whole])
    await app.dataSource.query('DROP INDEX whole')
    await app.dataSource.synchronize()
    expect(await source.inspect(map)).toEqual([])
  })

  const declared = `account_state = 'o''pen' AND rank = 1 AND active = true`
  const missing = { problem: expect.stringMatching(/^no unique index of badge_bidx, clinicId/) }
  const wide = { problem: expect.stringMatching(/unique for more rows/), fix: expect.stringContaining('probed') }
  it.each([
    [
      'the same in other words',
      `active AND rank::int = 1 AND (account_state = 'o''pen') AND badge_bidx IS NOT NULL`,
      [],
    ],
    ['another value', declared.replace('1', '2'), [missing]],
    ['a further condition', `${declared} AND deleted_at IS NULL`, [missing]],
    ['other columns', 'deleted_at IS NULL', [missing]],
    ['a condition less', `rank = 1 AND active`, [missing, wide]],
    ['another operator', declared.replace('rank =', 'rank >='), [missing, wide]],
  ] as const)('doctor compares what an index says with what is declared: %s', async (_, where, findings) => {
    const source = typeormSource(app.dataSource)
    const map = source.models[0] ?? expect.unreachable()
    const [{ indexname } = expect.unreachable()] = (await app.dataSource.query(
      `SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%(badge_bidx, %' AND indexdef LIKE '%WHERE%'`,
    )) as { indexname: string }[]
    await app.dataSource.query(`DROP INDEX "${indexname}"`)
    await app.dataSource.query(`CREATE UNIQUE INDEX probed ON accounts (badge_bidx, "clinicId") WHERE ${where}`)
    try {
      expect(await source.inspect(map)).toMatchObject(findings)
    } finally {
      await app.dataSource.query('DROP INDEX probed')
      await app.dataSource.synchronize()
    }
  })
})

onPostgres('unique where, asked of a server that takes no writes', (engine) => {
  it('is not compared, and no finding', async () => {
    const app = await startClinic(engine, { entities: [Account], tenancy: 'multi' })
    const options = engine.options(app.wire)
    const extra = { ...(options.extra as object), options: '-c default_transaction_read_only=on' }
    const reader = await startClinic(engine, {
      entities: [Account],
      tenancy: 'multi',
      dataSource: { ...options, synchronize: false, extra },
    })
    const source = typeormSource(reader.dataSource)
    expect(await source.inspect(source.models[0] ?? expect.unreachable())).toEqual([])
    await reader.close()
    await app.close()
  })
})

onPglite('unique where that cannot be', (engine) => {
  const refused = (entity: new () => object) =>
    expect(startClinic(engine, { entities: [entity], tenancy: 'single' })).rejects

  it('is refused at start-up, naming the column', async () => {
    @Entity('wrong_1')
    class Unknown {
      @PrimaryGeneratedColumn('uuid') id!: string
      @EncryptedColumn({ blindIndex: { unique: { where: { gone: null } } } }) email!: string
    }
    @Entity('wrong_2')
    class Encrypted {
      @PrimaryGeneratedColumn('uuid') id!: string
      @EncryptedColumn({ nullable: true }) gone!: string | null
      @EncryptedColumn({ blindIndex: { unique: { where: { gone: null } } } }) email!: string
    }
    @Entity('wrong_3')
    class Structured {
      @PrimaryGeneratedColumn('uuid') id!: string
      @Column('jsonb') gone!: object
      @EncryptedColumn({ blindIndex: { unique: { where: { gone: 1 } } } }) email!: string
    }
    for (const entity of [Unknown, Encrypted, Structured])
      await refused(entity).toMatchObject({ code: 'ERR_CONFIG_INVALID', details: { field: 'gone' } })
    @Entity('wrong_4')
    class Truncated {
      @PrimaryGeneratedColumn('uuid') id!: string
      @Column('int') rank!: number
      @EncryptedColumn({ blindIndex: { bits: 64, unique: { where: { rank: 1 } } } }) email!: string
    }
    await refused(Truncated).toMatchObject({ code: 'ERR_CONFIG_INVALID', details: { operation: 'blindIndex.unique' } })
  })
})
