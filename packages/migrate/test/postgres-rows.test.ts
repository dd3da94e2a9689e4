import 'reflect-metadata'
import { rotateKek } from '@fieldseal/core/adapter'
import { hasPostgres, useDatabase } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import { CreateFieldsealTables1764000000000, EncryptedColumn, EncryptedModel, typeormSource } from '@fieldseal/typeorm'
import { Column, Entity, PrimaryColumn, PrimaryGeneratedColumn } from 'typeorm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createMigrator } from '../src/create-migrator.ts'
import { startProcess } from './support/on-postgres.ts'

/** Table and columns are named as parts of the statement that writes rows. */
@Entity('r')
@EncryptedModel({})
class Odd {
  @PrimaryColumn({ type: 'char', length: 6, name: 'at' }) code!: string
  @PrimaryColumn({ type: 'varchar', name: 'p1' }) text!: string
  @PrimaryColumn({ type: 'timestamptz', name: 'Pl ace', precision: 6 }) since!: Date
  @EncryptedColumn({ name: 'v' }) v!: string
  @EncryptedColumn({ name: 't', nullable: true, storage: 'binary' }) t!: string | null
}

@Entity('visits')
@EncryptedModel({})
class Visit {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('int', { default: 0 }) room!: number
  @EncryptedColumn() reason!: string
}

@Entity('numbered')
@EncryptedModel({})
class Numbered {
  @PrimaryColumn('int') id!: number
  @EncryptedColumn() name!: string
}

@Entity('wide')
@EncryptedModel({})
class Wide {
  @PrimaryColumn('int') id!: number
}
const COLUMNS = Array.from({ length: 300 }, (_, i) => `f${i}`)
for (const name of COLUMNS) EncryptedColumn({ nullable: true, type: 'string' })(Wide.prototype as never, name)

/** Whoever waits for the table; the server has other databases. */
const WAITING = `SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database
  WHERE datname = current_database() AND relation = 'visits'::regclass AND NOT granted`

describe.runIf(hasPostgres())('rows on PostgreSQL', () => {
  const database = useDatabase()
  const kms = fakeKms()
  const open: (() => Promise<void>)[] = []

  async function start(options?: string) {
    const started = await startProcess({
      url: database.url,
      entities: [Odd, Visit, Numbered, Wide],
      ...(options === undefined ? {} : { extra: { options } }),
      kms,
      tenancy: 'single',
    })
    open.push(started.stop)
    return started
  }
  let app: Awaited<ReturnType<typeof start>>
  beforeAll(async () => {
    app = await start()
    await app.dataSource.synchronize()
    const runner = app.dataSource.createQueryRunner()
    await new CreateFieldsealTables1764000000000().up(runner)
    await runner.release()
  })
  afterAll(async () => {
    for (const close of open) await close()
  })
  const visits = () => app.dataSource.getRepository(Visit)

  it('are written whatever their names and keys look like', async () => {
    const texts = [
      '',
      ' ',
      'NULL',
      'null',
      '{a}',
      '{}',
      'a,b',
      '"',
      "'",
      '\\',
      'a"b\\c',
      '1',
      '-',
      '.',
      'é😀',
      '(0,1)',
      '\t',
      '\\N',
      '$1',
      'a\nb',
    ]
    const odd = app.dataSource.getRepository(Odd)
    await odd.insert(
      texts.map((text, i) => ({
        code: `c${i}`,
        text,
        since: new Date(1e12 + i),
        v: `v ${i}`,
        t: i % 2 ? null : `t ${i}`,
      })),
    )
    await rotateKek(app.fieldseal)
    const report = await app.migrator.rewrap({ batchSize: 7, model: 'r' })
    expect(report.models).toMatchObject([{ rows: texts.length, updated: texts.length, remaining: 0, passes: 1 }])
    expect((await odd.find()).map(({ v }) => v).toSorted()).toEqual(texts.map((_, i) => `v ${i}`).toSorted())
  })

  it.each(['repeatable read', 'serializable'])(
    'that change while they are written are read again where transactions are %s by default',
    async (level) => {
      await visits().clear()
      await visits().insert([{ reason: 'one' }, { reason: 'two' }, { reason: 'three' }])
      await rotateKek(app.fieldseal)
      const other = await start(`-c default_transaction_isolation=${level.replace(' ', '\\ ')}`)
      const writer = app.dataSource.createQueryRunner()
      await writer.startTransaction()
      await writer.query('LOCK TABLE visits IN SHARE ROW EXCLUSIVE MODE')
      const rewrapped = other.migrator.rewrap({ model: 'visits' })
      await expect.poll(() => app.dataSource.query(WAITING), { timeout: 5_000 }).toHaveLength(1)
      await writer.query('UPDATE visits SET room = 7')
      await writer.commitTransaction()
      await writer.release()
      expect((await rewrapped).models).toMatchObject([{ rows: 3, updated: 3, remaining: 0, passes: 1 }])
      expect((await visits().find()).map(({ room }) => room)).toEqual([7, 7, 7])
    },
  )

  it('that others refer to are written while transactions that refer to them are open', async () => {
    await visits().clear()
    const [{ id } = expect.unreachable()] = (await visits().insert({ reason: 'one' })).identifiers
    await rotateKek(app.fieldseal)
    await app.dataSource.query('CREATE TABLE bills (visit uuid REFERENCES visits (id))')
    const biller = app.dataSource.createQueryRunner()
    await biller.startTransaction()
    await biller.query('INSERT INTO bills VALUES ($1)', [id])
    try {
      expect((await app.migrator.rewrap({ model: 'visits' })).models).toMatchObject([{ updated: 1, passes: 1 }])
    } finally {
      await biller.rollbackTransaction()
      await biller.release()
      await app.dataSource.query('DROP TABLE bills')
    }
  })

  it('that row security hides are not taken for rows that are not there', async () => {
    await visits().clear()
    await visits().insert([{ reason: 'one' }, { reason: 'two' }])
    const { demoted } = await rotateKek(app.fieldseal)
    await app.dataSource.query('CREATE ROLE of_one_tenant')
    await app.dataSource.query('GRANT ALL ON ALL TABLES IN SCHEMA public TO of_one_tenant')
    await app.dataSource.query('ALTER TABLE visits ENABLE ROW LEVEL SECURITY')
    await app.dataSource.query('CREATE POLICY own ON visits USING (room = 1)')
    try {
      const { migrator } = await start('-c role=of_one_tenant')
      const refused = { code: 'ERR_CONFIG_INVALID', details: { model: 'visits' } }
      await expect(migrator.rewrap({ model: 'visits' })).rejects.toMatchObject(refused)
      await expect(migrator.verify()).rejects.toMatchObject(refused)
      await expect(migrator.plan('retire', { kek: demoted[0] ?? '' })).rejects.toMatchObject(refused)
      await expect(migrator.status()).rejects.toMatchObject(refused)
      const findings = await migrator.doctor()
      expect(findings.filter(({ where }) => where === 'visits')).toMatchObject([
        { problem: expect.stringMatching(/row security hides rows/), fix: expect.stringMatching(/BYPASSRLS/) },
      ])
    } finally {
      await app.dataSource.query('DROP OWNED BY of_one_tenant')
      await app.dataSource.query('DROP ROLE of_one_tenant')
      await app.dataSource.query('ALTER TABLE visits DISABLE ROW LEVEL SECURITY')
    }
    expect((await app.migrator.rewrap({ model: 'visits' })).models).toMatchObject([{ rows: 2, updated: 2 }])
  })

  it('that the role may not read, and tables that are not as the model says, are told by doctor and refused by verbs', async () => {
    await app.dataSource.query('CREATE ROLE of_nobody')
    await app.dataSource.query('GRANT ALL ON ALL TABLES IN SCHEMA public TO of_nobody')
    await app.dataSource.query('REVOKE SELECT ON visits FROM of_nobody')
    await app.dataSource.query('ALTER TABLE wide RENAME TO elsewhere')
    await app.dataSource.query('ALTER TABLE numbered RENAME COLUMN name TO title')
    try {
      const { migrator } = await start('-c role=of_nobody')
      const findings = await migrator.doctor()
      expect(
        findings.filter(({ severity }) => severity === 'error').map(({ where, problem }) => `${where}: ${problem}`),
      ).toEqual([
        expect.stringMatching(/^visits: .*permission denied for table visits/),
        expect.stringMatching(/^numbered: .*column name is missing/),
        expect.stringMatching(/^numbered: .*column "name" does not exist/),
        expect.stringMatching(/^wide: .*relation "wide" does not exist/),
      ])
      for (const model of ['visits', 'numbered', 'wide'])
        await expect(migrator.rewrap({ model })).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' })
    } finally {
      await app.dataSource.query('ALTER TABLE elsewhere RENAME TO wide')
      await app.dataSource.query('ALTER TABLE numbered RENAME COLUMN title TO name')
      await app.dataSource.query('DROP OWNED BY of_nobody')
      await app.dataSource.query('DROP ROLE of_nobody')
    }
  })

  it('are written after the type of their key was widened', async () => {
    const numbered = app.dataSource.getRepository(Numbered)
    await numbered.insert({ id: 1, name: 'one' })
    await app.migrator.rewrap({ model: 'numbered' })
    await app.dataSource.query('ALTER TABLE numbered ALTER COLUMN id TYPE bigint')
    await numbered.insert([
      { id: 4_000_000_000, name: 'two' },
      { id: 4_000_000_001, name: 'three' },
    ])
    await rotateKek(app.fieldseal)
    expect((await app.migrator.rewrap({ model: 'numbered', batchSize: 1 })).models).toMatchObject([
      { rows: 3, updated: 3, failed: 0 },
    ])
  })

  it('of hundreds of encrypted columns are written', async () => {
    const wide = app.dataSource.getRepository(Wide)
    await wide.insert(
      [1, 2, 3].map((id) => ({
        id,
        ...Object.fromEntries(COLUMNS.map((name, i) => [name, (i + id) % 2 ? 'x' : null])),
      })),
    )
    await rotateKek(app.fieldseal)
    expect((await app.migrator.rewrap({ model: 'wide' })).models).toMatchObject([{ rows: 3, updated: 3, failed: 0 }])
  })

  it('are written in partitions, and where they were moved to since they were read', async () => {
    await app.dataSource.query('DROP TABLE numbered')
    await app.dataSource.query(
      'CREATE TABLE numbered (id int PRIMARY KEY, name text COLLATE "C") PARTITION BY HASH (id)',
    )
    for (const n of [0, 1, 2])
      await app.dataSource.query(
        `CREATE TABLE numbered_${n} PARTITION OF numbered FOR VALUES WITH (MODULUS 3, REMAINDER ${n})`,
      )
    const numbered = app.dataSource.getRepository(Numbered)
    await numbered.insert(Array.from({ length: 30 }, (_, id) => ({ id, name: `n${id}` })))
    await numbered.delete([0, 1, 2, 3, 4])
    await rotateKek(app.fieldseal)
    const source = typeormSource(app.dataSource)
    const compareAndSet: typeof source.compareAndSet = async (map, patches) => {
      await app.dataSource.query('VACUUM FULL numbered_0, numbered_1')
      return source.compareAndSet(map, patches)
    }
    const moving = Object.create(source, { compareAndSet: { value: compareAndSet } }) as typeof source
    const migrator = createMigrator({ fieldseal: app.fieldseal, sources: [moving] })
    expect((await migrator.rewrap({ model: 'numbered', batchSize: 10 })).models).toMatchObject([
      { rows: 25, updated: 25, passes: 1, failed: 0 },
    ])
    expect((await numbered.find()).every(({ id, name }) => name === `n${id}`)).toBe(true)
  })
})
