import 'reflect-metadata'
import { createDatabase } from '@fieldseal/servers'
import { hasPostgres } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import { CreateFieldsealTables1764000000000, encryptedSchemaColumn, EncryptedModel } from '@fieldseal/typeorm'
import { EntitySchema } from 'typeorm'
import { describe, expect, inject, it, type TestContext } from 'vitest'
import { startProcess } from './support/on-postgres.ts'

interface Member {
  id: number
  email: string
  note: string | null
  touched?: Date | null
}

type State = 'plaintext' | 'migrating' | 'encrypted'

function schema(state: State, name = 'members') {
  const members = new EntitySchema<Member>({
    name,
    columns: {
      id: { type: 'integer', primary: true },
      email: encryptedSchemaColumn({ blindIndex: { normalize: 'email' }, state }),
      note: encryptedSchemaColumn({ nullable: true, state }),
      touched: { type: 'timestamptz', nullable: true },
    },
  })
  EncryptedModel<Member>({})(members)
  return members
}

const ROWS = 25
const PACE = { batchSize: 10 }

/** A database of its own, and the builds that are deployed on it one after another. */
async function openDatabase({ onTestFinished }: TestContext) {
  const database = await createDatabase(inject('postgres')?.url ?? '')
  const kms = fakeKms()
  const open: (() => Promise<void>)[] = []
  onTestFinished(async () => {
    for (const close of open) await close()
    await database.drop()
  })
  async function deploy(state: State, { synchronize = true, name = 'members', options = '' } = {}) {
    const members = schema(state, name)
    const { dataSource, fieldseal, migrator, stop } = await startProcess({
      url: database.url,
      entities: [members],
      synchronize,
      extra: { options },
      kms,
      tenancy: 'single',
      app: 'club',
    })
    open.push(stop)
    const repository = dataSource.getRepository<Member>(members)
    const query = (sql: string) => dataSource.query<Record<string, unknown>[]>(sql)
    const problems = async () => (await migrator.doctor()).map(({ problem }) => problem)
    return { dataSource, fieldseal, repository, migrator, query, problems }
  }
  /** A table as a build has left it that was in this state; one without Fieldseal in state `plaintext`. */
  async function withRows(state: State) {
    const app = await deploy(state)
    const runner = app.dataSource.createQueryRunner()
    await new CreateFieldsealTables1764000000000().up(runner)
    await runner.release()
    const rows = Array.from({ length: ROWS }, (_, i) => ({ id: i + 1, email: `p${i + 1}@x.org`, note: `n${i + 1}` }))
    await app.repository.save(rows)
    if (state === 'plaintext') await app.query('UPDATE members SET email_bidx = NULL, email_bidx_next = NULL')
    return app
  }
  return { deploy, withRows }
}
type App = Awaited<ReturnType<Awaited<ReturnType<typeof openDatabase>>['deploy']>>

/** @param body of a function in PL/pgSQL */
async function trigger({ query }: App, name: string, when: string, body: string): Promise<void> {
  await query(`CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} RETURN NEW; END $$`)
  await query(`CREATE TRIGGER ${name} ${when} ON members FOR EACH ROW EXECUTE FUNCTION ${name}()`)
}

const storedIn = ({ query }: App) => query('SELECT id, email, note, email_bidx FROM members ORDER BY id')

async function allReadable({ repository }: App): Promise<void> {
  const rows = await repository.find({ order: { id: 'ASC' } })
  expect(rows.map(({ email, note }) => [email, note])).toEqual(
    Array.from({ length: ROWS }, (_, i) => [`p${i + 1}@x.org`, `n${i + 1}`]),
  )
  expect(await repository.countBy({ email: 'P7@x.org' })).toBe(1)
}

const whole = { remaining: 0, models: [{ rows: ROWS, failed: 0 }] }

/** From plaintext to encrypted and through every verb over rows. */
async function goesThroughAll({ deploy }: Awaited<ReturnType<typeof openDatabase>>, app: App, options = {}) {
  expect(await app.migrator.backfill({ ...PACE })).toMatchObject(whole)
  const migrating = await deploy('migrating', options)
  expect(await migrating.migrator.backfill({ ...PACE })).toMatchObject(whole)
  const encrypted = await deploy('encrypted', options)
  await encrypted.migrator.rotateKek()
  expect(await encrypted.migrator.rewrap({ ...PACE })).toMatchObject(whole)
  const [key] = (await encrypted.migrator.status()).keys.filter(
    ({ purpose, state }) => purpose === 'wrap' && state === 'active',
  )
  expect(await encrypted.migrator.reEncrypt({ kek: key?.id ?? '', drain: false, ...PACE })).toMatchObject(whole)
  expect(await encrypted.migrator.reindex({ newKey: true, longestTransactionMs: 0, ...PACE })).toMatchObject({
    remaining: 0,
  })
  expect(await encrypted.migrator.verify({ ...PACE })).toMatchObject(whole)
  await allReadable(encrypted)
  return encrypted
}

describe.runIf(hasPostgres())('a table with', { timeout: 60_000 }, () => {
  it('a trigger that sets when a row was touched goes through every verb', async (context) => {
    const database = await openDatabase(context)
    const app = await database.withRows('plaintext')
    await trigger(
      app,
      'touch',
      'BEFORE UPDATE',
      "NEW.touched := now(); -- NEW.email := lower(NEW.email)\n IF NEW.note = '' THEN NEW.note := NULL; END IF;",
    )
    const encrypted = await goesThroughAll(database, app)
    expect(await encrypted.query('SELECT 1 FROM members WHERE touched IS NULL')).toEqual([])
    expect(await encrypted.problems()).toEqual([])
  })

  it('a trigger that alters what is stored loses no value: verbs refuse, doctor tells', async (context) => {
    const database = await openDatabase(context)
    const plain = await database.withRows('plaintext')
    await trigger(plain, 'fold', 'BEFORE INSERT OR UPDATE', 'NEW.email = lower(NEW.email);')
    const told = expect.stringMatching(/trigger fold .*email/)
    expect(await plain.problems()).toContainEqual(told)
    await plain.migrator.backfill({ ...PACE })
    const migrating = await database.deploy('migrating')
    expect(await migrating.problems()).toContainEqual(told)
    const before = await storedIn(migrating)
    await expect(migrating.migrator.backfill({ ...PACE })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      details: { reason: expect.stringMatching(/trigger/) },
    })
    expect(await storedIn(migrating)).toEqual(before)
  })

  it('a trigger that cuts what is stored loses no value', async (context) => {
    const database = await openDatabase(context)
    const encrypted = await database.withRows('encrypted')
    await trigger(encrypted, 'cut', 'BEFORE UPDATE', 'NEW.note := left(NEW.note, 60);')
    await encrypted.migrator.rotateKek()
    const before = await storedIn(encrypted)
    await expect(encrypted.migrator.rewrap({ ...PACE })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      details: { reason: expect.stringMatching(/trigger/) },
    })
    expect(await storedIn(encrypted)).toEqual(before)
    expect(await encrypted.problems()).toContainEqual(expect.stringMatching(/trigger cut .*note/))
  })

  it('a trigger that copies old rows elsewhere goes through every verb, and doctor tells as long as rows are plaintext', async (context) => {
    const database = await openDatabase(context)
    const app = await database.withRows('plaintext')
    await app.query('CREATE TABLE history (LIKE members)')
    await trigger(app, 'audit', 'BEFORE UPDATE', 'INSERT INTO history SELECT OLD.*;')
    expect(await app.problems()).toContainEqual(expect.stringMatching(/trigger audit .*copies/))
    const encrypted = await goesThroughAll(database, app)
    expect(await encrypted.problems()).toEqual([])
  })

  it('a generated column and a partitioned table go through every verb', async (context) => {
    const database = await openDatabase(context)
    const app = await database.withRows('plaintext')
    await app.query('CREATE TABLE parts (LIKE members INCLUDING ALL) PARTITION BY RANGE (id)')
    await app.query('CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (10)')
    await app.query('CREATE TABLE parts_2 PARTITION OF parts DEFAULT')
    await app.query('INSERT INTO parts SELECT * FROM members')
    await app.query('DROP TABLE members')
    await app.query('ALTER TABLE parts RENAME TO members')
    await app.query('ALTER TABLE members ADD COLUMN size int GENERATED ALWAYS AS (length(email)) STORED')
    await goesThroughAll(database, app, { synchronize: false })
  })

  it('rows that are seen through a view is to be named itself: verbs refuse, doctor tells', async (context) => {
    const database = await openDatabase(context)
    const app = await database.withRows('encrypted')
    await app.query('CREATE VIEW people AS SELECT * FROM members')
    const view = await database.deploy('encrypted', { synchronize: false, name: 'people' })
    await view.repository.save({ id: 100, email: 'p100@x.org', note: 'n' })
    expect(await view.repository.findOneBy({ email: 'p100@x.org' })).toMatchObject({ id: 100, note: 'n' })
    const refused = {
      code: 'ERR_CONFIG_INVALID',
      details: { model: 'people', reason: expect.stringMatching(/is a view/) },
    }
    await expect(view.migrator.rewrap({ model: 'people' })).rejects.toMatchObject(refused)
    await expect(view.migrator.verify({ model: 'people' })).rejects.toMatchObject(refused)
    expect(await view.problems()).toContainEqual(expect.stringMatching(/is a view/))
  })

  it('row security serves an application that satisfies its policies, and what it rewraps in the background does not fail', async (context) => {
    const database = await openDatabase(context)
    const owner = await database.withRows('encrypted')
    await owner.query('ALTER TABLE members ENABLE ROW LEVEL SECURITY')
    await owner.query("CREATE POLICY own ON members USING (id < current_setting('club.below')::int)")
    const role = `member_${process.pid}`
    await owner.query(`CREATE ROLE ${role}`)
    context.onTestFinished(async () => {
      await owner.query(`DROP OWNED BY ${role}`)
      await owner.query(`DROP ROLE ${role}`)
    })
    await owner.query(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`)
    await owner.migrator.rotateKek()
    const app = await database.deploy('encrypted', { synchronize: false, options: `-c role=${role}` })
    const inside = <R>(work: (members: App['repository']) => Promise<R>) =>
      app.dataSource.transaction(async (manager) => {
        await manager.query("SET LOCAL club.below = '10'")
        return work(manager.getRepository<Member>(app.repository.target))
      })
    expect(await inside((members) => members.find())).toHaveLength(9)
    expect(await inside((members) => members.findOneBy({ email: 'p3@x.org' }))).toMatchObject({ id: 3, note: 'n3' })
    expect(await inside((members) => members.findOneBy({ email: 'p20@x.org' }))).toBeNull()
    expect(await inside((members) => members.update({ id: 3 }, { note: 'new' }))).toMatchObject({ affected: 1 })
    expect(await inside((members) => members.update({ id: 20 }, { note: 'new' }))).toMatchObject({ affected: 0 })
    await app.fieldseal.flush()
    expect(await inside((members) => members.findOneBy({ id: 3 }))).toMatchObject({ note: 'new' })
  })
})
