import 'reflect-metadata'
import { createFieldseal, type BlindIndexOptions, type Fieldseal } from '@fieldseal/core'
import type { RecordSource } from '@fieldseal/core/adapter'
import { createMigrator } from '@fieldseal/migrate'
import { fieldsealPlugin, mongoKeyStore, mongooseSource } from '@fieldseal/mongoose'
import { hasMongo, hasPostgres, useDatabase, useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import {
  CreateFieldsealTables1764000000000,
  EncryptedModel,
  encryptedSchemaColumn,
  typeormKeyStore,
  typeormSource,
  withFieldseal,
} from '@fieldseal/typeorm'
import mongoose, { Schema } from 'mongoose'
import { DataSource, EntitySchema } from 'typeorm'
import { afterAll, describe, expect, it } from 'vitest'

/** Old enough that a process which the verb does not wait for is noticed. */
const CACHE = { refreshAfterMs: 1_000, validForMs: 1_000, maxStaleMs: 1_200, callDeadlineMs: 500 }
const ROWS = 120
/** Longer than any write of these tests takes. */
const LONGEST_MS = 500

/** One process of an application that writes logins and finds people by them. */
interface App {
  readonly fieldseal: Fieldseal<'multi'>
  readonly source: RecordSource
  create(login: string): Promise<void>
  /** Gives whoever has a login another one. @returns whether somebody had it */
  rename(from: string, to: string): Promise<boolean>
  find(login: string): Promise<number>
  close(): Promise<void>
}
type Start = (index: BlindIndexOptions) => Promise<App>

const BEFORE: BlindIndexOptions = { normalize: 'trim', unique: true }
const MOVING: BlindIndexOptions = { ...BEFORE, next: { normalize: 'lower', bits: 160 } }
const AFTER: BlindIndexOptions = { normalize: 'lower', bits: 160, unique: true }

/** Whatever a writer or a reader notices that should not be. */
async function reindexUnderLoad(start: Start): Promise<void> {
  const first = await start(BEFORE)
  for (let i = 0; i < ROWS; i++) await first.create(`Login-${i}`)
  await first.close()
  const apps = [await start(MOVING), await start(MOVING)]
  const [one] = apps as [App, ...App[]]
  let running = true
  const noticed: string[] = []
  let turns = 0

  /** Renames its own people over and over, and looks for them; tries logins that are taken. */
  async function work(app: App, share: number): Promise<void> {
    const own = Array.from({ length: ROWS }, (_, i) => i).filter((i) => i % (2 * apps.length) === share)
    const logins = new Map(own.map((i) => [i, `Login-${i}`]))
    for (let turn = 0; running; turn++) {
      const i = own[turn % own.length] as number
      const [from, to] = [logins.get(i) ?? '', `Login-${i}-${turn}`]
      if (!(await app.rename(from, to))) noticed.push(`${from} was not found`)
      logins.set(i, to)
      const other = apps[turn % apps.length] as App
      if ((await other.find(to)) !== 1) noticed.push(`${to} was not found by another process`)
      if ((await other.find(from)) !== 0) noticed.push(`${from} was found still`)
      const taken = await other.create(to).then(
        () => true,
        () => false,
      )
      if (taken) noticed.push(`${to} is there twice`)
      turns++
    }
  }

  const migrator = createMigrator({ fieldseal: one.fieldseal, sources: [one.source] })
  const working = apps.flatMap((app, at) => [work(app, 2 * at), work(app, 2 * at + 1)])
  try {
    for (const newKey of [false, true]) {
      const report = await migrator.reindex({ tenant: 't', newKey, batchSize: 20, longestTransactionMs: LONGEST_MS })
      expect(report).toMatchObject({ verb: 'reindex', remaining: 0 })
      expect(report.models[0]).toMatchObject({ rows: ROWS, failed: 0 })
    }
  } finally {
    running = false
    await Promise.all(working)
  }
  expect(noticed).toEqual([])
  expect(turns).toBeGreaterThan(20)
  expect((await migrator.verify({ tenant: 't' })).models[0]).toMatchObject({
    unchanged: ROWS,
    counts: { tokens: ROWS },
  })
  for (const app of apps) await app.close()
  const after = await start(AFTER)
  await after.create('Somebody Else')
  expect(await after.find('SOMEBODY else')).toBe(1)
  const status = await createMigrator({ fieldseal: after.fieldseal, sources: [after.source] }).status({ tenant: 't' })
  expect(status.models[0]?.indexes[0]?.epochs).toEqual({ 3: ROWS + 1 })
  await after.close()
}

describe.runIf(hasPostgres())('a reindex through TypeORM', () => {
  const database = useDatabase()
  const kms = fakeKms()

  it('loses, doubles and hides nothing while processes write and look up', async () => {
    await reindexUnderLoad(async (index) => {
      interface Person {
        id: string
        clinic: string
        login: string
      }
      const People = new EntitySchema<Person>({
        name: 'people',
        columns: {
          id: { type: 'uuid', primary: true, generated: 'uuid' },
          clinic: { type: 'varchar' },
          login: encryptedSchemaColumn({ blindIndex: index }),
        },
      })
      EncryptedModel<Person>({ tenantBy: 'clinic' })(People)
      const dataSource = new DataSource({ type: 'postgres', url: database.url, entities: [People], synchronize: true })
      const fieldseal = createFieldseal({
        app: 'clinic',
        tenancy: 'multi',
        keyStore: typeormKeyStore(dataSource.options),
        keys: { cmks: [kms.cmk('cmk-1')] },
        cache: CACHE,
      })
      await withFieldseal(dataSource, { fieldseal }).initialize()
      const runner = dataSource.createQueryRunner()
      if (!(await runner.hasTable('fieldseal_checkpoints'))) await new CreateFieldsealTables1764000000000().up(runner)
      await runner.release()
      const people = dataSource.getRepository(People)
      const as = <R>(fn: () => R) => fieldseal.runAs({ tenant: 't' }, fn)
      return {
        fieldseal,
        source: typeormSource(dataSource),
        create: async (login) => void (await as(() => people.insert({ clinic: 't', login }))),
        async rename(from, to) {
          const found = await as(() => people.findOneBy({ clinic: 't', login: from }))
          if (found === null) return false
          const { affected } = await as(() => people.update({ id: found.id, clinic: 't' }, { login: to }))
          return affected === 1
        },
        find: (login) => as(() => people.countBy({ clinic: 't', login })),
        async close() {
          await fieldseal.close()
          await dataSource.destroy()
        },
      }
    })
  }, 120_000)
})

describe.runIf(hasMongo())('a reindex through Mongoose', () => {
  const database = useMongoDatabase()
  const kms = fakeKms()
  const opened: (() => Promise<void>)[] = []
  afterAll(async () => {
    for (const close of opened) await close()
  })

  it('loses, doubles and hides nothing while processes write and look up', async () => {
    await reindexUnderLoad(async (index) => {
      const connection = mongoose.createConnection(database.uri, { monitorCommands: true })
      const fieldseal = createFieldseal({
        app: 'clinic',
        tenancy: 'multi',
        keyStore: mongoKeyStore(database.uri),
        keys: { cmks: [kms.cmk('cmk-1')] },
        cache: CACHE,
      })
      const schema = new Schema(
        {
          clinic: { type: String, required: true },
          login: { type: String, encrypted: { blindIndex: index } },
        },
        { collection: 'people', encrypted: { tenantBy: 'clinic' } },
      )
      const Person = connection.model('Person', schema.plugin(fieldsealPlugin, { fieldseal }))
      await connection.asPromise()
      await Person.init()
      const as = <R>(fn: () => R) => fieldseal.runAs({ tenant: 't' }, fn)
      return {
        fieldseal,
        source: mongooseSource(connection),
        create: async (login) => void (await as(() => Person.create({ clinic: 't', login }))),
        async rename(from, to) {
          const found = await as(() => Person.findOne({ clinic: 't', login: from }).lean())
          if (found === null) return false
          const { matchedCount } = await as(() =>
            Person.updateOne({ _id: found._id, clinic: 't' }, { $set: { login: to } }),
          )
          return matchedCount === 1
        },
        find: (login) => as(() => Person.countDocuments({ clinic: 't', login })),
        async close() {
          await fieldseal.close()
          await connection.close()
        },
      }
    })
  }, 120_000)
})
