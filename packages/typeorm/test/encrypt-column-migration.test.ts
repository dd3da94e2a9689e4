import { createFieldseal } from '@fieldseal/core'
import { fakeKms } from '@fieldseal/testkit'
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { EncryptedColumn, encryptColumnMigration, typeormKeyStore, withFieldseal } from '../src/index.ts'
import { onEachEngine, type Engine } from './support/engine.ts'
import { Wire } from './support/wire.ts'

const BORN = new Date('1815-12-10T00:00:00.000Z')

/** Annotated without a thought of what is stored. */
@Entity('clients')
class Naive {
  @PrimaryGeneratedColumn('uuid') id!: string
  @EncryptedColumn() email!: string
  @EncryptedColumn({ type: 'date', name: 'born_sealed' }) born!: Date
}

@Entity('clients')
class Renamed {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar', { length: 255 }) email!: string
  @EncryptedColumn({ type: 'date', name: 'born_sealed', nullable: true }) born?: Date | null
}

@Entity('clients')
class Client {
  @PrimaryGeneratedColumn('uuid') id!: string
  @EncryptedColumn({ blindIndex: { unique: true }, state: 'plaintext' }) email!: string
  @EncryptedColumn({ type: 'date', name: 'born_sealed', blindIndex: true, state: 'plaintext', plaintextIn: 'born' })
  born!: Date
  @Column('timestamptz', { name: 'born', nullable: true }) oldBorn?: unknown
}

onEachEngine('a migration for an existing column', (engine: Engine) => {
  let open: DataSource | undefined
  const kms = fakeKms()
  async function start(entity: new () => object) {
    await open?.destroy()
    const dataSource = new DataSource({ ...engine.options(new Wire()), entities: [entity], synchronize: false })
    const keyStore = typeormKeyStore(dataSource.options)
    const fieldseal = createFieldseal({ app: 'ecm', tenancy: 'single', keyStore, keys: { cmks: [kms.cmk('c')] } })
    open = await withFieldseal(dataSource, { fieldseal }).initialize()
    return open
  }
  const rows = (dataSource: DataSource): Promise<unknown> => dataSource.query('SELECT * FROM clients ORDER BY email')
  const generated = async (dataSource: DataSource) =>
    (await dataSource.driver.createSchemaBuilder().log()).upQueries.map(({ query }) => query)
  const run = async (dataSource: DataSource, way: 'up' | 'down', field: string, was?: string) => {
    const runner = dataSource.createQueryRunner()
    try {
      await encryptColumnMigration({ model: 'clients', field, ...(was === undefined ? {} : { was }) })[way](runner)
    } finally {
      await runner.release()
    }
  }

  beforeEach(async () => {
    const dataSource = await start(Renamed)
    await dataSource.query('DROP TABLE IF EXISTS clients')
    await dataSource.query(
      'CREATE TABLE clients (id uuid CONSTRAINT "PK_f1ab7cf3a5714dbc6bb4e1c28a4" PRIMARY KEY DEFAULT gen_random_uuid(), email varchar(255) NOT NULL, born timestamptz NOT NULL)',
    )
    await dataSource.query("INSERT INTO clients (email, born) VALUES ('ada@x.org', $1)", [BORN])
  })
  afterEach(async () => {
    await open?.destroy()
    open = undefined
  })

  it.each([
    ['an annotated column of another type', Naive, /email.*character varying, expected text.*would drop it/],
    ['a column that its annotation has renamed', Renamed, /born.*does not declare.*would drop it/],
  ])('refuses the DROP COLUMN of %s, from migration:generate and synchronize alike', async (_, entity, reason) => {
    const dataSource = await start(entity)
    await expect(generated(dataSource)).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID', message: reason })
    await expect(dataSource.synchronize()).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID', message: reason })
    expect(await rows(dataSource)).toMatchObject([{ email: 'ada@x.org', born: BORN }])
  })

  it('adds what the field needs, drops nothing, and leaves TypeORM nothing to add', async () => {
    const dataSource = await start(Client)
    await run(dataSource, 'up', 'email')
    await run(dataSource, 'up', 'born_sealed')
    await run(dataSource, 'up', 'born') // once more, by its property
    expect(await rows(dataSource)).toMatchObject([
      { email: 'ada@x.org', born: BORN, born_sealed: null, email_bidx: null },
    ])
    expect((await generated(dataSource)).filter((sql) => !sql.includes('fieldseal_'))).toEqual([])
    expect(await dataSource.getRepository(Client).find()).toMatchObject([{ email: 'ada@x.org', born: BORN }])
    await expect(dataSource.query("UPDATE clients SET born_sealed = 'x'")).rejects.toThrow(/check constraint/i)
  })

  it('goes back to the table as it was', async () => {
    const dataSource = await start(Client)
    for (const way of ['up', 'down'] as const)
      for (const field of ['email', 'born_sealed']) await run(dataSource, way, field, 'varchar(255)')
    const columns = (await dataSource.query(
      "SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'clients'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )) as unknown[]
    expect(columns).toEqual([
      { name: 'id', type: 'uuid' },
      { name: 'email', type: 'character varying(255)' },
      { name: 'born', type: 'timestamp with time zone' },
    ])
    expect(await rows(dataSource)).toMatchObject([{ email: 'ada@x.org', born: BORN }])
  })

  it('does not go back while values are encrypted', async () => {
    const dataSource = await start(Client)
    await run(dataSource, 'up', 'born_sealed')
    await dataSource.query("UPDATE clients SET born_sealed = 'fs.-AEB'")
    await expect(run(dataSource, 'down', 'born_sealed')).rejects.toMatchObject({ code: 'ERR_ROWS_REMAIN' })
    expect(await rows(dataSource)).toMatchObject([{ born_sealed: 'fs.-AEB' }])
  })

  it('refuses a table that does not fit, and names that say nothing', async () => {
    const dataSource = await start(Client)
    await dataSource.query('ALTER TABLE clients ALTER COLUMN email TYPE char(300)')
    await expect(run(dataSource, 'up', 'email')).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' })
    await expect(run(dataSource, 'up', 'phone')).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
    for (const was of ['varchar(255); DROP TABLE clients', '', 'VARCHAR"'])
      expect(() => encryptColumnMigration({ model: 'clients', field: 'email', was })).toThrow(/was/)
  })
})
