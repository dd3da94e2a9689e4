import 'reflect-metadata'
import { createFieldseal, type Fieldseal, type KeyCacheOptions, type ModelOptions } from '@fieldseal/core'
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
import { describe, expect, it } from 'vitest'

const CACHE: KeyCacheOptions = { refreshAfterMs: 100, validForMs: 100, maxStaleMs: 200, callDeadlineMs: 500 }
const PERSON = { person: { of: ['last', 'born'], normalize: { last: 'lower' }, unique: true } } as const

interface Person {
  id: string
  clinic: string
  last: string | null
  born: string
}

interface App {
  readonly fieldseal: Fieldseal<'multi'>
  readonly source: RecordSource
  create(person: Pick<Person, 'last' | 'born'>): Promise<void>
  find(last: string, born: string): Promise<number>
  /** Takes the last name away from those who have one, past Fieldseal. */
  clearLastNames(): Promise<void>
  close(): Promise<void>
}

/** The index is deployed over rows that are there already, filled, and moved to a new key. */
async function addIndex(start: (indexes: ModelOptions['compoundIndexes']) => Promise<App>): Promise<void> {
  const before = await start({})
  for (let i = 0; i < 30; i++) await before.create({ last: i % 10 === 9 ? null : `Name-${i}`, born: '2000-01-01' })
  await before.close()
  const app = await start(PERSON)
  const migrator = createMigrator({ fieldseal: app.fieldseal, sources: [app.source] })
  expect(await app.find('name-3', '2000-01-01')).toBe(0)
  await expect(migrator.verify()).rejects.toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  expect(await migrator.reindex({ tenant: 't', field: 'person', batchSize: 7 })).toMatchObject({ remaining: 0 })
  expect(await app.find('NAME-3', '2000-01-01')).toBe(1)
  expect(await app.find('name-3', '2000-01-02')).toBe(0)
  expect(await migrator.verify()).toMatchObject({ remaining: 0 })
  await expect(app.create({ last: 'name-3', born: '2000-01-01' })).rejects.toThrow()
  const moved = await migrator.reindex({ tenant: 't', newKey: true, batchSize: 7, longestTransactionMs: 50 })
  expect(moved).toMatchObject({ remaining: 0 })
  expect(await app.find('NAME-3', '2000-01-01')).toBe(1)
  await expect(app.create({ last: 'name-3', born: '2000-01-01' })).rejects.toThrow()
  await app.create({ last: 'name-3', born: '2000-01-02' })
  expect(await migrator.verify()).toMatchObject({ remaining: 0 })
  await app.clearLastNames()
  await expect(migrator.verify()).rejects.toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  const mended = await migrator.reindex({ tenant: 't', field: 'person', batchSize: 7 })
  expect(mended).toMatchObject({ remaining: 0, models: [{ updated: 28 }] })
  expect(await migrator.verify()).toMatchObject({ remaining: 0 })
  const findings = await migrator.doctor()
  expect(findings.filter(({ where }) => where.includes('person'))).toEqual([])
  await app.close()
}

describe.runIf(hasPostgres())('a compound index that comes later, through TypeORM', () => {
  const database = useDatabase()
  const kms = fakeKms()

  it('is filled by a reindex, and moves to a new key', { timeout: 60_000 }, async () => {
    await addIndex(async (compoundIndexes = {}) => {
      const People = new EntitySchema<Person>({
        name: 'people',
        columns: {
          id: { type: 'uuid', primary: true, generated: 'uuid' },
          clinic: { type: 'varchar' },
          last: encryptedSchemaColumn({ nullable: true }),
          born: encryptedSchemaColumn({ type: 'day' }),
        },
      })
      EncryptedModel<Person>({ tenantBy: 'clinic', compoundIndexes: compoundIndexes as typeof PERSON })(People)
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
        create: async (person) => void (await as(() => people.insert({ clinic: 't', ...person }))),
        find: (last, born) => as(() => people.countBy({ clinic: 't', last, born })),
        clearLastNames: async () => void (await dataSource.query('UPDATE people SET last = NULL')),
        async close() {
          await fieldseal.close()
          await dataSource.destroy()
        },
      }
    })
  })
})

describe.runIf(hasMongo())('a compound index that comes later, through Mongoose', () => {
  const database = useMongoDatabase()
  const kms = fakeKms()

  it('is filled by a reindex, and moves to a new key', { timeout: 60_000 }, async () => {
    await addIndex(async (compoundIndexes = {}) => {
      const connection = mongoose.createConnection(database.uri, { monitorCommands: true })
      const fieldseal = createFieldseal({
        app: 'clinic',
        tenancy: 'multi',
        keyStore: mongoKeyStore(database.uri),
        keys: { cmks: [kms.cmk('cmk-1')] },
        cache: CACHE,
      })
      const text = { type: String, encrypted: true }
      const schema = new Schema(
        { clinic: String, last: text, born: text },
        { collection: 'people', encrypted: { tenantBy: 'clinic', compoundIndexes } },
      )
      const People = connection.model('Person', schema.plugin(fieldsealPlugin, { fieldseal }))
      await connection.asPromise()
      await People.init()
      const as = <R>(fn: () => R) => fieldseal.runAs({ tenant: 't' }, fn)
      return {
        fieldseal,
        source: mongooseSource(connection),
        create: async (person) => void (await as(() => People.create({ clinic: 't', ...person }))),
        find: (last, born) => as(() => People.countDocuments({ clinic: 't', last, born }).exec()),
        async clearLastNames() {
          const direct = await mongoose.createConnection(database.uri).asPromise()
          await direct.collection('people').updateMany({}, { $unset: { last: 1 } })
          await direct.close()
        },
        async close() {
          await fieldseal.close()
          await connection.close()
        },
      }
    })
  })
})
