import type { FieldState } from '@fieldseal/core/adapter'
import { fakeKms, type FakeKms } from '@fieldseal/testkit'
import {
  Column,
  Entity,
  Equal,
  In,
  IsNull,
  Like,
  ManyToOne,
  Not,
  Or,
  PrimaryGeneratedColumn,
  type Repository,
} from 'typeorm'
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { EncryptedColumn, EncryptedModel } from '../src/index.ts'
import { startClinic, type Clinic } from './support/clinic.ts'
import { onEachEngine, onPglite } from './support/engine.ts'

interface StaffRow {
  id: string
  name: string
  email?: string | null
  login?: string | null
  born?: Date | null
  oldBorn?: unknown
}

/** One build of the application: both ways of a field from plaintext, in one state. */
function build(state: FieldState) {
  @Entity('staff')
  class Staff implements StaffRow {
    @PrimaryGeneratedColumn('uuid') id!: string
    @Column('varchar', { default: '' }) name!: string
    @EncryptedColumn({ nullable: true, blindIndex: { normalize: 'email' }, state }) email?: string | null
    @EncryptedColumn({ nullable: true, blindIndex: { unique: true }, state }) login?: string | null
    @EncryptedColumn({
      name: 'born_sealed',
      type: 'date',
      nullable: true,
      blindIndex: true,
      state,
      plaintextIn: 'born',
    })
    born?: Date | null
    @Column('timestamptz', { name: 'born', nullable: true }) oldBorn?: unknown
  }
  @Entity('shifts')
  class Shift {
    @PrimaryGeneratedColumn() id!: number
    @ManyToOne(() => Staff) staff!: Staff
  }
  return { Staff, Shift }
}

const BORN = new Date('1815-12-10T00:00:00.000Z')

onEachEngine('fields on their way from plaintext', (engine) => {
  let kms: FakeKms
  let open: Clinic<'single'> | undefined
  beforeAll(() => {
    kms = fakeKms()
  })
  beforeEach(async () => {
    kms.restore()
    const { clinic } = await deploy('plaintext')
    await clinic.dataSource.query('TRUNCATE staff, shifts')
  })
  afterEach(() => undeploy())

  async function undeploy() {
    await open?.close()
    open = undefined
  }
  async function deploy(state: FieldState) {
    await undeploy()
    const { Staff, Shift } = build(state)
    const clinic = await startClinic(engine, {
      entities: [Staff, Shift],
      tenancy: 'single',
      kms,
      fieldseal: { app: 'states' },
    })
    open = clinic
    const raw = async () =>
      (await clinic.dataSource.query('SELECT * FROM staff ORDER BY name')) as Record<string, unknown>[]
    const names = async (find: Promise<StaffRow[]>) => (await find).map(({ name }) => name).toSorted()
    return { clinic, staff: clinic.repository<StaffRow>(Staff), shifts: clinic.repository(Shift), raw, names }
  }
  const sealed = expect.stringMatching(/^fs\./)
  const token = expect.any(Uint8Array)

  it('writes plaintext with tokens in state plaintext, where the old build finds it', async () => {
    const { staff, raw } = await deploy('plaintext')
    const saved = await staff.save({ name: 'ada', email: 'Ada@x.org', born: BORN })
    const row = { email: 'Ada@x.org', email_bidx: token, born: BORN, born_sealed: null, born_sealed_bidx: token }
    expect(await raw()).toMatchObject([row])
    await staff.update({ id: saved.id }, { email: null, born: null })
    expect(await raw()).toMatchObject([{ email: null, email_bidx: null, born: null, born_sealed_bidx: null }])
    await staff.upsert({ id: saved.id, name: 'ada', email: 'ada@x.org', born: BORN }, ['id'])
    expect(await raw()).toMatchObject([{ ...row, email: 'ada@x.org' }])
    expect(await staff.findOneByOrFail({ id: saved.id })).toEqual({
      id: saved.id,
      login: null,
      name: 'ada',
      email: 'ada@x.org',
      born: BORN,
    })
  })

  it('blocks nothing in state plaintext', async () => {
    const { staff, names } = await deploy('plaintext')
    await staff.insert([
      { name: 'ada', email: 'ada@x.org', born: BORN },
      { name: 'bob', email: 'bob@x.org' },
    ])
    expect(await names(staff.findBy({ email: Like('%@x.org') }))).toEqual(['ada', 'bob'])
    expect(await names(staff.findBy({ email: In(['ada@x.org']) }))).toEqual(['ada'])
    expect(await names(staff.findBy({ email: Not('ada@x.org') }))).toEqual(['bob'])
    expect(await names(staff.findBy({ born: BORN }))).toEqual(['ada'])
    expect(await names(staff.findBy({ born: IsNull() }))).toEqual(['bob'])
    expect((await staff.find({ order: { email: 'DESC' } })).map(({ name }) => name)).toEqual(['bob', 'ada'])
    expect((await staff.find({ order: { born: 'ASC' } })).map(({ name }) => name)).toEqual(['ada', 'bob'])
    const builder = staff.createQueryBuilder('s').where('s.email = :email', { email: 'bob@x.org' })
    expect(await names(builder.orderBy('s.born').getMany())).toEqual(['bob'])
    await staff.update({ name: 'bob' }, { email: () => 'upper(email)' })
    expect(await names(staff.findBy({ email: 'BOB@X.ORG' }))).toEqual(['bob'])
  })

  it('refuses text that would be read back as an envelope in state plaintext', async () => {
    const { staff } = await deploy('migrating')
    await staff.insert({ name: 'ada', email: 'ada@x.org' })
    const { staff: before, raw } = await deploy('plaintext')
    const stolen = (await raw())[0]?.['email'] as string
    await expect(before.insert({ name: 'eve', email: stolen })).rejects.toMatchObject({ code: 'ERR_VALUE_INVALID' })
    await expect(before.update({ name: 'ada' }, { email: stolen })).rejects.toMatchObject({ code: 'ERR_VALUE_INVALID' })
  })

  it('encrypts in state migrating and clears the old column in the same statement', async () => {
    const { staff: before } = await deploy('plaintext')
    const [ada, bob] = await before.save([
      { name: 'ada', email: 'ada@x.org', born: BORN },
      { name: 'bob', email: 'bob@x.org', born: BORN },
    ])
    const { staff, raw, clinic } = await deploy('migrating')
    await staff.insert({ name: 'cy', email: 'cy@x.org', born: BORN })
    await staff.update({ id: ada?.id ?? '' }, { email: 'ada2@x.org', born: BORN })
    await staff.upsert({ id: bob?.id ?? '', name: 'bob', email: 'bob2@x.org', born: BORN }, ['id'])
    const row = { email: sealed, email_bidx: token, born: null, born_sealed: sealed, born_sealed_bidx: token }
    expect(await raw()).toMatchObject([row, row, row])
    for (const email of ['ada2@x.org', 'bob2@x.org', 'cy@x.org']) expect(clinic.wire.find(email)).toEqual([])
  })

  it.each(['plaintext', 'migrating'] as const)('reads plaintext and envelopes in state %s', async (state) => {
    await (await deploy('plaintext')).staff.insert({ name: 'ada', email: 'ada@x.org', born: BORN })
    await (await deploy('migrating')).staff.insert({ name: 'bob', email: 'bob@x.org', born: BORN })
    const { staff } = await deploy(state)
    expect(await staff.find({ order: { name: 'ASC' }, select: { name: true, email: true, born: true } })).toEqual([
      { name: 'ada', email: 'ada@x.org', born: BORN },
      { name: 'bob', email: 'bob@x.org', born: BORN },
    ])
  })

  it.each(['plaintext', 'migrating'] as const)('saves a loaded row without a write in state %s', async (state) => {
    await (await deploy('plaintext')).staff.insert({ name: 'ada', email: 'ada@x.org', born: BORN })
    await (await deploy('migrating')).staff.insert({ name: 'bob', email: 'bob@x.org', born: BORN })
    const { staff, clinic, raw } = await deploy(state)
    const before = await raw()
    const rows = await staff.find()
    clinic.wire.take()
    await staff.save(rows)
    expect(clinic.wire.take()).toEqual([])
    for (const row of rows) row.name += '!'
    await staff.save(rows)
    expect(await raw()).toMatchObject(before.map(({ name, ...others }) => ({ ...others, name: `${String(name)}!` })))
  })

  it('finds by token or by the old plaintext in state migrating, and negates both together', async () => {
    await (await deploy('plaintext')).staff.insert([
      { name: 'old', email: 'ada@x.org', born: BORN },
      { name: 'other', email: 'bob@x.org' },
      { name: 'none' },
    ])
    const { staff, shifts, names } = await deploy('migrating')
    const fresh = await staff.save({ name: 'new', email: 'ada@x.org', born: BORN })
    expect(await names(staff.findBy({ email: 'ada@x.org' }))).toEqual(['new', 'old'])
    expect(await names(staff.findBy({ email: In(['ada@x.org', 'nobody']) }))).toEqual(['new', 'old'])
    expect(await names(staff.findBy({ email: Not('ada@x.org') }))).toEqual(['other'])
    expect(await names(staff.findBy({ born: BORN }))).toEqual(['new', 'old'])
    expect(await names(staff.findBy({ born: Not(BORN) }))).toEqual([])
    expect(await names(staff.findBy({ email: IsNull() }))).toEqual(['none'])
    expect(await names(staff.findBy({ born: Not(IsNull()) }))).toEqual(['new', 'old'])
    await shifts.save({ staff: { id: fresh.id } as never })
    expect(await shifts.countBy({ staff: { email: 'ada@x.org' } as never })).toBe(1)
    expect(await shifts.countBy({ staff: { email: Not('ada@x.org') } as never })).toBe(0)
    for (const condition of [{ email: Like('%') }, { oldBorn: IsNull() }, { oldBorn: BORN }])
      await expect(staff.findBy(condition)).rejects.toMatchObject({ code: 'ERR_QUERY_UNSUPPORTED' })
    await expect(staff.find({ order: { email: 'ASC' } })).rejects.toMatchObject({ code: 'ERR_QUERY_UNSUPPORTED' })
    const builder = staff.createQueryBuilder('s').where('s.born IS NULL')
    await expect(builder.getMany()).rejects.toMatchObject({ code: 'ERR_QUERY_UNSUPPORTED' })
    await staff.delete({ email: 'ada@x.org' }).catch(() => undefined)
  })

  it('finds in state plaintext, by equality, what a newer build has encrypted', async () => {
    await (await deploy('plaintext')).staff.insert([
      { name: 'old', email: 'ada@x.org', born: BORN },
      { name: 'other', email: 'bob@x.org' },
      { name: 'none' },
    ])
    const fresh = await (await deploy('migrating')).staff.save({ name: 'new', email: 'ada@x.org', born: BORN })
    const { staff, shifts, names, raw } = await deploy('plaintext')
    expect(await names(staff.findBy({ email: 'ada@x.org' }))).toEqual(['new', 'old'])
    expect(await names(staff.findBy({ email: 'Ada@X.org' }))).toEqual(['new']) // its token is normalised
    expect(await names(staff.findBy({ email: In(['ada@x.org', 'nobody']) }))).toEqual(['new', 'old'])
    expect(await names(staff.findBy({ email: Not('ada@x.org') }))).toEqual(['other'])
    expect(await names(staff.findBy({ born: BORN }))).toEqual(['new', 'old'])
    expect(await names(staff.findBy({ born: Not(BORN) }))).toEqual([])
    expect(await names(staff.findBy({ born: IsNull() }))).toEqual(['none', 'other'])
    expect(await names(staff.findBy({ born: Not(IsNull()) }))).toEqual(['new', 'old'])
    expect(await names(staff.findBy([{ email: 'bob@x.org' }, { born: BORN }]))).toEqual(['new', 'old', 'other'])
    expect(await staff.countBy({ email: 'ada@x.org' })).toBe(2)
    await shifts.save({ staff: { id: fresh.id } as never })
    expect(await shifts.countBy({ staff: { email: 'ada@x.org' } as never })).toBe(1)
    expect(await shifts.countBy({ staff: { email: Not('ada@x.org') } as never })).toBe(0)
    // Other operators see plaintext alone, as do fragments of SQL.
    expect(await names(staff.findBy({ email: Like('ada%') }))).toEqual(['old'])
    expect(await names(staff.findBy({ email: Or(Equal('ada@x.org'), Like('bob%')) }))).toEqual(['old', 'other'])
    expect(
      await names(staff.createQueryBuilder('s').where('s.email = :email', { email: 'ada@x.org' }).getMany()),
    ).toEqual(['old'])
    await staff.update({ email: 'ada@x.org' }, { born: null })
    expect(await raw()).toMatchObject([{ born: null, born_sealed: null }, {}, { born: null, born_sealed: null }, {}])
    await shifts.clear()
    await staff.delete({ email: 'ada@x.org' })
    expect(await names(staff.find())).toEqual(['none', 'other'])
  })

  it('answers equality in state plaintext from the index of the old column and that of the tokens', async () => {
    const { staff, clinic } = await deploy('plaintext')
    const run = (sql: string, parameters?: unknown[]) =>
      clinic.dataSource.query(sql, parameters) as Promise<Record<string, string>[]>
    await run('CREATE INDEX staff_email ON staff (email)')
    await run('CREATE INDEX staff_born ON staff (born)')
    await run(`INSERT INTO staff (name, email, born, email_bidx, born_sealed_bidx)
      SELECT i, i || '@x.org', to_timestamp(i), decode(md5(i::text), 'hex'), decode(md5(i::text), 'hex')
      FROM generate_series(1, 5000) i`)
    await run('ANALYZE staff')
    await staff.insert({ name: 'ada', email: 'ada@x.org', born: BORN })
    for (const [where, index] of [
      [{ email: 'ada@x.org' }, 'staff_email'],
      [{ born: In([BORN]) }, 'staff_born'],
    ] as const) {
      const [sql, parameters] = staff.createQueryBuilder('s').where(where).getQueryAndParameters()
      const plan = (await run(`EXPLAIN ${sql}`, parameters)).map((line) => line['QUERY PLAN']).join('\n')
      expect(plan).toMatch(/BitmapOr/)
      expect(plan).toContain(`on ${index}`)
      expect(plan).not.toContain('Seq Scan')
    }
    for (const index of ['staff_email', 'staff_born']) await run(`DROP INDEX ${index}`)
  })

  it('takes null for IsNull of both places where the application says so', async () => {
    await (await deploy('plaintext')).staff.insert([{ name: 'old', born: BORN }, { name: 'none' }])
    await (await deploy('migrating')).staff.insert({ name: 'new', born: BORN })
    for (const state of ['plaintext', 'migrating'] as const) {
      const { staff, names, clinic } = await deploy(state)
      await expect(staff.findBy({ born: null } as never)).rejects.toThrow(/Null value/)
      Object.assign(clinic.dataSource.options, { invalidWhereValuesBehavior: { null: 'sql-null' } })
      expect(await names(staff.findBy({ born: null } as never))).toEqual(['none'])
    }
  })

  it('lets plaintext decide in state plaintext too, whatever token stands beside it', async () => {
    const { staff, clinic, names } = await deploy('plaintext')
    await staff.insert({ name: 'ada', email: 'ada@x.org', born: BORN })
    const later = new Date('1852-11-27T00:00:00.000Z')
    await clinic.dataSource.query("UPDATE staff SET email = 'eve@x.org', born = $1", [later])
    expect(await names(staff.findBy({ email: 'ada@x.org' }))).toEqual([])
    expect(await names(staff.findBy({ born: BORN }))).toEqual([])
    expect(await names(staff.findBy({ email: Not('ada@x.org'), born: Not(BORN) }))).toEqual(['ada'])
  })

  it('needs no key for equality in state plaintext before the first token', async () => {
    const { clinic, staff, names } = await deploy('plaintext')
    await clinic.dataSource.query("INSERT INTO staff (name, email) VALUES ('ada', 'ada@x.org')")
    await clinic.dataSource.query('DELETE FROM fieldseal_keys')
    kms.deny('test-key')
    expect(await names(staff.findBy({ email: 'ada@x.org' }))).toEqual(['ada'])
    expect(await names(staff.findBy({ email: Not('bob@x.org') }))).toEqual(['ada'])
    kms.restore()
    await staff.insert({ name: 'bob', email: 'bob@x.org' })
    const { staff: cold, names: namesOf } = await deploy('plaintext')
    kms.deny('test-key')
    await expect(cold.findBy({ email: 'ada@x.org' })).rejects.toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED' })
    expect(await namesOf(cold.findBy({ name: 'ada' }))).toEqual(['ada'])
  })

  it('keeps values unique between a build in state plaintext and a newer one', async () => {
    await (await deploy('migrating')).staff.insert({ name: 'new', login: 'ada' })
    const { staff, clinic } = await deploy('plaintext')
    await expect(staff.insert({ name: 'old', login: 'ada' })).rejects.toThrow(/duplicate key/)
    await clinic.dataSource.query('CREATE UNIQUE INDEX staff_login ON staff (login)')
    await expect(staff.upsert({ name: 'old', login: 'ada' }, ['login'])).rejects.toThrow(/duplicate key/)
    await clinic.dataSource.query('DROP INDEX staff_login')
    await staff.insert({ name: 'old', login: 'bob' })
    await expect((await deploy('migrating')).staff.insert({ name: 'new2', login: 'bob' })).rejects.toThrow(
      /duplicate key/,
    )
  })

  it('lets plaintext decide that a build without Fieldseal wrote beside an older envelope and token', async () => {
    const { staff, clinic, names, raw } = await deploy('migrating')
    await staff.insert({ name: 'ada', email: 'ada@x.org', born: BORN })
    const later = new Date('1852-11-27T00:00:00.000Z')
    await clinic.dataSource.query("UPDATE staff SET email = 'eve@x.org', born = $1", [later])
    expect(await staff.find()).toMatchObject([{ email: 'eve@x.org', born: later }])
    expect(await names(staff.findBy({ email: 'ada@x.org' }))).toEqual([])
    expect(await names(staff.findBy({ born: BORN }))).toEqual([])
    expect(await names(staff.findBy({ email: 'eve@x.org', born: later }))).toEqual(['ada'])
    const [row] = await staff.find()
    await staff.save({ ...row, email: 'eve2@x.org', born: BORN } as StaffRow)
    expect(await raw()).toMatchObject([{ email: sealed, born: null, born_sealed: sealed }])
  })

  it('never writes a value back that could not be opened, in any state', async () => {
    const { staff: before, clinic } = await deploy('migrating')
    await before.insert({ name: 'ada', email: 'ada@x.org', born: BORN })
    await clinic.dataSource.query(
      "UPDATE staff SET email = left(email, -4) || 'AAAA', born_sealed = left(born_sealed, -4) || 'AAAA'",
    )
    for (const state of ['plaintext', 'migrating'] as const) {
      const { staff, raw, clinic: own } = await deploy(state)
      const stored = await raw()
      await expect(staff.find()).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
      await own.fieldseal.runAs({ onUnreadable: 'mark' }, async () => {
        const [row] = await staff.find()
        for (const field of ['email', 'born'] as const) {
          const change = { [field]: row?.[field] }
          await expect(staff.update({ name: 'ada' }, change)).rejects.toMatchObject({ code: 'ERR_UNREADABLE_VALUE' })
          await expect(staff.insert({ name: 'eve', ...change })).rejects.toMatchObject({ code: 'ERR_UNREADABLE_VALUE' })
        }
      })
      expect(await raw()).toEqual(stored)
    }
  })

  it('lets a build without Fieldseal work beside it, as the guide says', async () => {
    const { clinic: before } = await deploy('plaintext')
    const old = (sql: string, ...values: unknown[]) =>
      open?.dataSource.query(sql, values) as Promise<Record<string, unknown>[]>
    expect(before).toBeDefined()
    for (const state of ['plaintext', 'migrating'] as const) {
      const { staff, names } = await deploy(state)
      await old('TRUNCATE staff, shifts')
      await staff.insert({ name: 'ours', email: 'ours@x.org', born: BORN })
      await old("INSERT INTO staff (name, email, born) VALUES ('theirs', 'theirs@x.org', $1)", BORN)
      const [ours] = await old("SELECT email, born FROM staff WHERE name = 'ours'")
      const seen = state === 'plaintext' ? { email: 'ours@x.org', born: BORN } : { email: sealed, born: null }
      expect(ours).toEqual(seen)
      await old("UPDATE staff SET email = $1, born = $2 WHERE name = 'ours'", ours?.['email'], ours?.['born'])
      const both = [
        { name: 'ours', email: 'ours@x.org', born: BORN },
        { name: 'theirs', email: 'theirs@x.org', born: BORN },
      ]
      expect(await staff.find({ order: { name: 'ASC' } })).toMatchObject(both)
      expect(await names(staff.findBy({ email: In(['ours@x.org', 'theirs@x.org']), born: BORN }))).toEqual([
        'ours',
        'theirs',
      ])
      await old("UPDATE staff SET email = $1 WHERE name = 'theirs'", ours?.['email'])
      if (state === 'migrating') await expect(staff.find()).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
    }
  })

  it('writes no plaintext through the property of the old column', async () => {
    for (const state of ['plaintext', 'migrating'] as const) {
      const { staff } = await deploy(state)
      await expect(staff.insert({ name: 'ada', oldBorn: BORN })).rejects.toMatchObject({
        code: 'ERR_WRITE_UNSUPPORTED',
      })
      await expect(staff.update({ name: 'ada' }, { oldBorn: BORN })).rejects.toMatchObject({
        code: 'ERR_WRITE_UNSUPPORTED',
      })
    }
  })

  it('takes plaintext for an error in state encrypted, and lets none in', async () => {
    const { staff: before } = await deploy('plaintext')
    await before.insert({ name: 'ada', email: 'ada@x.org' })
    await expect(deploy('encrypted')).rejects.toThrow(/check constraint/i) // while plaintext remains
    const { clinic } = await deploy('migrating')
    await clinic.dataSource.query('UPDATE staff SET email = NULL')
    const strict = await deploy('encrypted')
    await expect(strict.clinic.dataSource.query("UPDATE staff SET email = 'x'")).rejects.toThrow(/check constraint/i)
    await strict.staff.insert({ name: 'bob', email: 'bob@x.org', born: BORN })
    expect(await strict.staff.findBy({ email: 'bob@x.org' })).toMatchObject([{ name: 'bob', born: BORN }])
    const [check] = (await strict.clinic.dataSource.query(
      "SELECT conname FROM pg_constraint WHERE contype = 'c' AND pg_get_constraintdef(oid) LIKE '%email%' AND conrelid = 'staff'::regclass",
    )) as { conname: string }[]
    await strict.clinic.dataSource.query(`ALTER TABLE staff DROP CONSTRAINT "${check?.conname}"`)
    await strict.clinic.dataSource.query("UPDATE staff SET email = 'x' WHERE name = 'ada'")
    await expect(strict.staff.find()).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_FOUND' })
  })

  it('keeps the result cache and raw rows as they are stored', async () => {
    await (await deploy('plaintext')).staff.insert({ name: 'ada', email: 'ada@x.org', born: BORN })
    const { staff, raw } = await deploy('migrating')
    const rows: Repository<StaffRow> = staff
    const { raw: found, entities } = await rows.createQueryBuilder('s').getRawAndEntities<Record<string, unknown>>()
    expect(entities).toMatchObject([{ email: 'ada@x.org', born: BORN }])
    expect(found).toMatchObject([{ s_email: 'ada@x.org', s_born_sealed: null }])
    expect(await raw()).toMatchObject([{ email: 'ada@x.org' }])
  })
})

onPglite('fields of many tenants on their way from plaintext', (engine) => {
  function build(state: FieldState) {
    @Entity('members')
    @EncryptedModel({ tenantBy: 'clinicId' })
    class Member {
      @PrimaryGeneratedColumn('uuid') id!: string
      @Column('varchar') clinicId!: string
      @EncryptedColumn({ blindIndex: true, state }) email!: string
      @EncryptedColumn({ blindIndex: { bits: 24 }, state }) city!: string
    }
    return Member
  }

  it('asks the plaintext alone in state plaintext where no token answers: across tenants, and of a truncated index', async () => {
    const kms = fakeKms()
    const found: Record<string, unknown> = {}
    for (const state of ['migrating', 'plaintext'] as const) {
      const Member = build(state)
      const clinic = await startClinic(engine, {
        entities: [Member],
        tenancy: 'multi',
        kms,
        fieldseal: { app: 'members' },
        sendsPlaintext: true,
      })
      const members = clinic.repository(Member)
      const { fieldseal } = clinic
      await fieldseal.runAs({ tenant: 'a' }, () => members.insert({ clinicId: 'a', email: 'x', city: 'rome' }))
      if (state === 'plaintext') {
        const asked = { clinicId: 'a', email: 'x' }
        found['own'] = await fieldseal.runAs({ tenant: 'a' }, () => members.countBy(asked))
        found['truncated'] = await fieldseal.runAs({ tenant: 'a' }, () =>
          members.countBy({ clinicId: 'a', city: 'rome' }),
        )
        found['system'] = await fieldseal.runAsSystem({ reason: 'test' }, () => members.countBy(asked))
      }
      await clinic.close()
    }
    expect(found).toEqual({ own: 2, truncated: 1, system: 1 })
  })
})
