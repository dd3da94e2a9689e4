import { inspect } from 'node:util'
import 'reflect-metadata'
import { createFieldseal } from '@fieldseal/core'
import type { FieldState } from '@fieldseal/core/adapter'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import {
  CreateFieldsealTables1764000000000,
  EncryptedColumn,
  encryptColumnMigration,
  EncryptedModel,
  typeormKeyStore,
  typeormSource,
  withFieldseal,
} from '@fieldseal/typeorm'
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createMigrator } from '../src/create-migrator.ts'
import { reportOf } from '../src/report/report.ts'

interface ClientRow {
  id: string
  clinicId: string
  phone: string | null
  fee: number | null
  oldFee?: unknown
}

/** The build that stores plaintext. */
@Entity('clients')
class Before implements ClientRow {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinicId!: string
  @Column('text', { nullable: true }) phone!: string | null
  @Column('numeric', { precision: 6, scale: 2, nullable: true }) fee!: number | null
}

/** One build on the way: `phone` turns in place, `fee` in a column of its own. */
function build(state: FieldState) {
  @Entity('clients')
  @EncryptedModel({ tenantBy: 'clinicId' })
  class Client implements ClientRow {
    @PrimaryGeneratedColumn('uuid') id!: string
    @Column('varchar') clinicId!: string
    @EncryptedColumn({ nullable: true, blindIndex: { normalize: 'digits', unique: true }, state })
    phone!: string | null
    @EncryptedColumn({ name: 'fee_sealed', type: 'number', nullable: true, state, plaintextIn: 'fee' })
    fee!: number | null
    @Column('numeric', { name: 'fee', precision: 6, scale: 2, nullable: true }) oldFee?: unknown
  }
  return Client
}

describe.runIf(hasPostgres())('backfill and decrypt, on PostgreSQL through TypeORM', () => {
  const database = useDatabase()
  const kms = fakeKms()
  let open: (() => Promise<void>) | undefined

  async function start(entity: new () => ClientRow) {
    await open?.()
    const dataSource = new DataSource({ type: 'postgres', url: database.url, entities: [entity], synchronize: false })
    const fieldseal = createFieldseal({
      app: 'clinic',
      tenancy: 'multi',
      keyStore: typeormKeyStore(dataSource.options),
      keys: { cmks: [kms.cmk('cmk-1')] },
    })
    await withFieldseal(dataSource, { fieldseal }).initialize()
    open = async () => {
      await fieldseal.close()
      await dataSource.destroy()
      open = undefined
    }
    const migrator = createMigrator({ fieldseal, sources: [typeormSource(dataSource)] })
    const as = <R>(fn: () => R) => fieldseal.runAs({ tenant: 'a' }, fn)
    const raw = async () =>
      (await dataSource.query('SELECT * FROM clients ORDER BY "clinicId", length(phone), id')) as Record<
        string,
        unknown
      >[]
    const clients = dataSource.getRepository<ClientRow>(entity)
    const values = async () =>
      (await as(() => clients.findBy({ clinicId: 'a' }))).map(({ phone, fee }) => `${phone} ${fee}`).toSorted()
    return { dataSource, migrator, clients, as, raw, values, fieldseal }
  }
  const deploy = (state: FieldState) => start(build(state))
  const run = async (dataSource: DataSource, way: 'up' | 'down') => {
    const runner = dataSource.createQueryRunner()
    for (const field of ['phone', 'fee_sealed']) await encryptColumnMigration({ model: 'clients', field })[way](runner)
    await runner.release()
  }
  const rejected = async (verb: Promise<unknown>) => {
    const error: unknown = await verb.then(
      () => undefined,
      (reason: unknown) => reason,
    )
    return { code: Reflect.get(Object(error), 'code') as unknown, models: reportOf(error)?.models ?? [] }
  }

  beforeEach(async () => {
    const { dataSource, clients } = await start(Before)
    await dataSource.query('DROP TABLE IF EXISTS clients')
    await dataSource.synchronize()
    const runner = dataSource.createQueryRunner()
    await new CreateFieldsealTables1764000000000().up(runner).catch(() => undefined) // there already
    await runner.release()
    await clients.insert(
      Array.from({ length: 60 }, (_, i) => ({
        clinicId: 'a',
        phone: i === 7 ? null : `0${i}`,
        fee: i === 9 ? null : i + 0.5,
      })),
    )
    await run((await deploy('plaintext')).dataSource, 'up')
  })
  afterEach(() => open?.())
  afterAll(() => open?.())

  const expected = Array.from(
    { length: 60 },
    (_, i) => `${i === 7 ? null : `0${i}`} ${i === 9 ? null : i + 0.5}`,
  ).toSorted()

  it('goes from plaintext to encrypted, and every row reads the same at every step', async () => {
    const plaintext = await deploy('plaintext')
    expect(await plaintext.values()).toEqual(expected)
    const tokens = await plaintext.migrator.backfill({ batchSize: 7, concurrency: 2 })
    expect(tokens.models).toMatchObject([
      { model: 'clients', rows: 60, unchanged: 60, updated: 59, passes: 2, remaining: 0 },
    ])
    const migrating = await deploy('migrating')
    expect(await migrating.values()).toEqual(expected)
    const told = (await migrating.migrator.doctor()).map(
      ({ severity, where, problem }) => `${severity} ${where} ${problem}`,
    )
    expect(told).toEqual([
      'warning clients.phone 59 rows are not encrypted: the field is in state migrating',
      'warning clients.fee_sealed 59 rows are not encrypted: the field is in state migrating',
    ])
    const report = await migrating.migrator.backfill({ batchSize: 7, concurrency: 2 })
    expect(report.models).toMatchObject([{ model: 'clients', updated: 60, remaining: 0 }])
    expect(await migrating.migrator.doctor()).toEqual([])
    for (const row of await migrating.raw()) {
      expect(row['fee']).toBeNull()
      for (const cell of [row['phone'], row['fee_sealed']]) expect(cell ?? 'fs.').toMatch(/^fs\./)
    }
    const strict = await deploy('encrypted')
    await strict.dataSource.synchronize()
    expect(await strict.values()).toEqual(expected)
    expect(await strict.as(() => strict.clients.countBy({ clinicId: 'a', phone: '0-11' }))).toBe(1)
    expect((await strict.migrator.verify()).models[0]).toMatchObject({ rows: 60, unchanged: 60, failed: 0 })
    for (const field of ['phone', 'fee_sealed'])
      expect((await strict.migrator.backfill({ model: 'clients', field })).remaining).toBe(0)
    await expect(strict.migrator.backfill()).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
  })

  it('takes the token of a value away that a build without Fieldseal has set to null', async () => {
    const plaintext = await deploy('plaintext')
    await plaintext.migrator.backfill()
    await plaintext.dataSource.query("UPDATE clients SET phone = NULL WHERE phone = '011'")
    const migrating = await deploy('migrating')
    expect(await migrating.migrator.backfill()).toMatchObject({ remaining: 0 })
    const empty = (await migrating.raw()).filter(({ phone }) => phone === null)
    expect(empty.map((row) => row['phone_bidx'])).toEqual([null, null])
    expect(await migrating.migrator.verify()).toMatchObject({ remaining: 0 })
  })

  it('goes back, and leaves the table as it was', async () => {
    const migrating = await deploy('migrating')
    const before = (await migrating.raw()).map(({ id, phone, fee }) => ({ id, phone, fee }))
    await migrating.migrator.backfill()
    const refused = await rejected(migrating.migrator.decrypt({ model: 'clients', field: 'phone' }))
    expect(refused.code).toBe('ERR_ARGUMENT_INVALID') // processes would go on encrypting
    const plaintext = await deploy('plaintext')
    expect(await plaintext.values()).toEqual(expected)
    for (const field of ['phone', 'fee_sealed'])
      await plaintext.migrator.decrypt({ model: 'clients', field, batchSize: 13 })
    const byId = (rows: { id?: unknown }[]) => rows.toSorted((a, b) => (String(a.id) < String(b.id) ? -1 : 1))
    expect(byId((await plaintext.raw()).map(({ id, phone, fee }) => ({ id, phone, fee })))).toEqual(byId(before))
    await run(plaintext.dataSource, 'down')
    const { clients } = await start(Before)
    expect(await clients.countBy({ phone: '011' })).toBe(1)
  })

  it('lists values that the old column cannot hold, and leaves them encrypted and readable', async () => {
    const migrating = await deploy('migrating')
    const row = { clinicId: 'a', phone: '0800\u00001', fee: 1.005 }
    const [first, second, third] = await migrating.as(() =>
      migrating.clients.save([row, { ...row, phone: '0801', fee: 12345.25 }, { ...row, phone: '0802', fee: 2.25 }]),
    )
    const { migrator, raw, values } = await deploy('plaintext')
    for (const [field, keys] of [
      ['phone', [first]],
      ['fee_sealed', [first, second]],
    ] as const) {
      const { code, models } = await rejected(migrator.decrypt({ model: 'clients', field }))
      expect(code).toBe('ERR_ROWS_REMAIN')
      expect(models).toMatchObject([{ failed: keys.length, remaining: keys.length }])
      expect(models[0]?.failures.map(({ key }) => key).toSorted()).toEqual(keys.map((one) => one?.id ?? '').toSorted())
    }
    const stored = (await raw()).find(({ id }) => id === third?.id)
    expect(stored).toMatchObject({ phone: '0802', fee: '2.25', fee_sealed: null })
    expect(await values()).toContain('0800\u00001 1.005')
  })

  it('lists texts that look like envelopes before the field leaves plaintext', async () => {
    const { dataSource, migrator } = await deploy('plaintext')
    const fake = `fs.${Buffer.concat([Buffer.of(0xf8, 1, 1), Buffer.alloc(12, 7), Buffer.of(0, 0, 1), Buffer.alloc(100)]).toString('base64url')}`
    const [row] = (
      await dataSource.query("UPDATE clients SET phone = $1 WHERE phone = '03' RETURNING id", [fake])
    )[0] as {
      id: string
    }[]
    const { code, models } = await rejected(migrator.backfill({ model: 'clients', field: 'phone' }))
    expect(code).toBe('ERR_ROWS_REMAIN')
    expect(models).toMatchObject([
      { failed: 1, remaining: 1, failures: [{ key: row?.id, field: 'phone', code: 'ERR_KEY_NOT_FOUND' }] },
    ])
  })

  it('lists rows that the normaliser makes equal in a unique index', async () => {
    const { dataSource, migrator } = await deploy('plaintext')
    await dataSource.query("INSERT INTO clients (\"clinicId\", phone) VALUES ('a', '0-11'), ('b', '011')")
    const { code, models } = await rejected(migrator.backfill({ model: 'clients', field: 'phone' }))
    expect(code).toBe('ERR_ROWS_REMAIN')
    expect(models).toMatchObject([
      { failed: 1, remaining: 1, failures: [{ code: 'ERR_INDEX_COLLISION', tenant: 'a' }] },
    ])
  })

  it.each(['plaintext', 'migrating'] as const)(
    'cuts nothing off that is finer than the type of the field, in state %s',
    async (state) => {
      const { dataSource, migrator, raw } = await deploy(state)
      await dataSource.query('ALTER TABLE clients ALTER COLUMN fee TYPE numeric')
      await dataSource.query("UPDATE clients SET fee = 0.12345678901234567891 WHERE phone = '03'")
      await dataSource.query("UPDATE clients SET fee = 1.50000000000000000000 WHERE phone = '04'")
      const { code, models } = await rejected(migrator.backfill({ model: 'clients', field: 'fee_sealed' }))
      expect(code).toBe('ERR_ROWS_REMAIN')
      expect(models).toMatchObject([
        { failed: 1, remaining: 1, failures: [{ field: 'fee_sealed', code: 'ERR_VALUE_INVALID' }] },
      ])
      expect((await raw()).map(({ fee }) => fee)).toContain('0.12345678901234567891')
    },
  )

  it('encrypts nothing of a field that is encrypted by now, and counts what remains', async () => {
    const { migrator, raw } = await deploy('encrypted')
    const { code, models } = await rejected(migrator.backfill({ model: 'clients', field: 'phone' }))
    expect(code).toBe('ERR_ROWS_REMAIN')
    expect(models).toMatchObject([{ failed: 59, remaining: 59, updated: 0 }])
    expect(models[0]?.failures[0]).toMatchObject({ field: 'phone', code: 'ERR_PLAINTEXT_FOUND' })
    expect((await rejected(migrator.backfill({ model: 'clients', field: 'fee_sealed' }))).models).toMatchObject([
      { remaining: 59 },
    ])
    expect((await migrator.doctor())[0]).toMatchObject({ severity: 'error', where: 'clients' })
    expect((await raw()).map(({ phone }) => String(phone)).filter((phone) => phone.startsWith('fs.'))).toEqual([])
  })

  it('tells the plan of a shred that plaintext is not reached', async () => {
    const { migrator, as, clients } = await deploy('migrating')
    await as(() => clients.save({ clinicId: 'a', phone: '0900', fee: 1 }))
    const plan = await migrator.plan('shred', { tenant: 'a', keyspace: 'default' })
    expect(JSON.stringify(plan)).toMatch(/clients\.phone may hold plaintext/)
  })

  it('writes nothing in a dry run', async () => {
    const { migrator, raw } = await deploy('migrating')
    const before = await raw()
    expect(await migrator.backfill({ dryRun: true })).toMatchObject({ dryRun: true })
    expect(await raw()).toEqual(before)
  })

  it('seals nothing for a tenant whose row has become another one’s since it was read', async () => {
    const { dataSource, fieldseal, raw } = await deploy('migrating')
    const source = typeormSource(dataSource)
    const [{ id } = expect.unreachable()] = await raw()
    let moved = false
    const convert: NonNullable<typeof source.convert> = async (map, patches) => {
      if (!moved) await dataSource.query(`UPDATE clients SET "clinicId" = 'b' WHERE id = $1`, [id])
      moved = true
      return source.convert?.(map, patches) ?? expect.unreachable()
    }
    const moving = Object.create(source, { convert: { value: convert } }) as typeof source
    await createMigrator({ fieldseal, sources: [moving] }).backfill()
    const verified = await createMigrator({ fieldseal, sources: [source] }).verify()
    expect(verified.models[0]).toMatchObject({ rows: 60, failed: 0 })
  })

  it('tells what the database says, and loggers what it is asked, without the values that it was sent', async () => {
    const { clients, as, migrator } = await deploy('migrating')
    const [{ id } = expect.unreachable()] = await as(() => clients.findBy({ clinicId: 'a' }))
    await as(() => clients.update({ id, clinicId: 'a' }, { phone: '0777 555 333' }))
    await migrator.backfill()
    const back = await deploy('plaintext')
    await back.dataSource.query(
      `CREATE FUNCTION no() RETURNS trigger AS $$ BEGIN RAISE 'not now'; END $$ LANGUAGE plpgsql;
       CREATE TRIGGER no BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION no()`,
    )
    const logged: unknown[] = []
    const log = (...args: unknown[]) => logged.push(args.slice(0, -1))
    const names = ['logQuery', 'logQueryError', 'logQuerySlow', 'logSchemaBuild', 'logMigration', 'log']
    Reflect.set(back.dataSource, 'logger', Object.fromEntries(names.map((name) => [name, log])))
    const decrypted = back.migrator.decrypt({ model: 'clients', field: 'phone' })
    const error: unknown = await decrypted.catch((thrown: unknown) => thrown)
    await back.dataSource.query('DROP FUNCTION no CASCADE')
    expect(String(error)).toContain('not now')
    expect(inspect([error, logged], { depth: 20, showHidden: true, maxArrayLength: null })).not.toContain(
      '0777 555 333',
    )
  })

  it('lets writers win while it runs, old builds and new ones', async () => {
    const { migrator, dataSource, clients, as, values } = await deploy('migrating')
    const rows = await as(() => clients.findBy({ clinicId: 'a' }))
    let writing = true
    const written = new Map<string, string>()
    const writers = [0, 1, 2].map(async (n) => {
      for (let i = n; writing; i += 3) {
        const row = rows[i % rows.length]
        if (row === undefined) continue
        const phone = `9${i}`
        // One writer knows nothing of Fieldseal.
        if (n === 0) await dataSource.query('UPDATE clients SET phone = $1, fee = 77.5 WHERE id = $2', [phone, row.id])
        else await as(() => clients.update({ id: row.id, clinicId: 'a' }, { phone, fee: 77.5 }))
        written.set(row.id, phone)
      }
    })
    const verb = migrator.backfill({ batchSize: 5, concurrency: 3 }).catch((error: unknown) => error)
    await verb
    writing = false
    await Promise.all(writers)
    await migrator.backfill()
    const now = new Map((await as(() => clients.findBy({ clinicId: 'a' }))).map(({ id, phone }) => [id, phone]))
    for (const [id, phone] of written) expect(now.get(id)).toBe(phone)
    expect(await values()).toHaveLength(60)
    const strict = await deploy('encrypted')
    await strict.dataSource.synchronize()
    expect((await strict.migrator.verify()).models[0]).toMatchObject({ rows: 60, unchanged: 60 })
  })
})
