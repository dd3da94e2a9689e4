import 'reflect-metadata'
import { createFieldseal, type CompoundIndexOptions, type Fieldseal } from '@fieldseal/core'
import type { RecordSource } from '@fieldseal/core/adapter'
import { createMigrator } from '@fieldseal/migrate'
import { fieldsealPlugin, mongoKeyStore, mongooseSource } from '@fieldseal/mongoose'
import { hasMongo, hasPostgres, useDatabase, useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import {
  EncryptedModel,
  encryptedSchemaColumn,
  typeormKeyStore,
  typeormSource,
  withFieldseal,
} from '@fieldseal/typeorm'
import mongoose, { Schema } from 'mongoose'
import { DataSource, EntitySchema } from 'typeorm'
import { describe, expect, it } from 'vitest'

interface Guest {
  readonly name: string
  readonly room: string
}
/** One build of an application, with or without the indexes. */
interface Build {
  readonly fieldseal: Fieldseal<'single'>
  readonly source: RecordSource
  create(guest: Guest): Promise<void>
  move(name: string, room: string): Promise<void>
  /** Names of those who are found. */
  find(where: Partial<Guest>): Promise<readonly string[]>
  close(): Promise<void>
}
type Start = (hasIndexes: boolean) => Promise<Build>

const KMS = fakeKms()
const keys = { cmks: [KMS.cmk('cmk')] }
const ANNOTATION: Record<string, CompoundIndexOptions<'name' | 'room'>> = { stay: { of: ['name', 'room'] } }
const options = (hasIndexes: boolean) => (hasIndexes ? { compoundIndexes: ANNOTATION } : {})

/** Both builds are at work, as while a deploy rolls. */
async function deploysIndexes(start: Start): Promise<void> {
  const newer = await start(true)
  const older = await start(false)
  await older.create({ name: 'ada', room: '1' })
  for (const name of ['bob', 'cy']) await newer.create({ name, room: '1' })
  await older.move('bob', '2')
  const { fieldseal, source } = newer
  const migrator = createMigrator({ fieldseal, sources: [source] })
  await expect(migrator.verify()).rejects.toMatchObject({ code: 'ERR_ROWS_REMAIN' })
  await expect(newer.find({ name: 'bob', room: '1' })).rejects.toMatchObject({ code: 'ERR_TOKEN_MISMATCH' })
  // Keys go on being rotated before it, and after the index is given up.
  await migrator.rotateKek()
  expect(await migrator.rewrap()).toMatchObject({ remaining: 0 })
  for (const field of ['stay', 'room']) await migrator.reindex({ field, onWait: () => expect.unreachable() })
  for (const [name, room] of [
    ['ada', '1'],
    ['bob', '2'],
    ['cy', '1'],
  ] as const)
    expect(await newer.find({ name, room })).toEqual([name])
  expect(await newer.find({ name: 'bob', room: '1' })).toEqual([])
  expect(await newer.find({ room: '1' })).toEqual(['ada', 'cy'])
  expect(await migrator.verify()).toMatchObject({ remaining: 0 })
  const without = createMigrator({ fieldseal: older.fieldseal, sources: [older.source] })
  await without.rotateKek()
  expect(await without.rewrap()).toMatchObject({ remaining: 0 })
  expect(await newer.find({ name: 'bob', room: '2' })).toEqual(['bob'])
  await older.close()
  await newer.close()
}

describe.runIf(hasPostgres())('first indexes (TypeORM)', () => {
  const database = useDatabase()
  it('find all rows after a reindex, whatever an older build has written meanwhile', () =>
    deploysIndexes(async (hasIndexes) => {
      const schema = new EntitySchema<Guest & { readonly id: string }>({
        name: 'guests',
        columns: {
          id: { type: 'uuid', primary: true, generated: 'uuid' },
          name: encryptedSchemaColumn({ blindIndex: true }),
          room: encryptedSchemaColumn({ blindIndex: hasIndexes }),
        },
      })
      EncryptedModel<Guest>(options(hasIndexes))(schema as never)
      const dataSource = new DataSource({
        type: 'postgres',
        url: database.url,
        entities: [schema],
        synchronize: hasIndexes,
      })
      const fieldseal = createFieldseal<'single'>({
        app: 'inn',
        tenancy: 'single',
        keyStore: typeormKeyStore(dataSource.options),
        keys,
      })
      await withFieldseal(dataSource, { fieldseal }).initialize()
      const guests = dataSource.getRepository(schema)
      return {
        fieldseal,
        source: typeormSource(dataSource),
        async create(guest) {
          await guests.save(guest)
        },
        async move(name, room) {
          await guests.update({ name }, { room })
        },
        find: async (where) => (await guests.findBy(where)).map(({ name }) => name).toSorted(),
        async close() {
          await fieldseal.close()
          await dataSource.destroy()
        },
      }
    }))
})

describe.runIf(hasMongo())('first indexes (Mongoose)', () => {
  const database = useMongoDatabase()
  it('find all documents after a reindex, whatever an older build has written meanwhile', () =>
    deploysIndexes(async (hasIndexes) => {
      const schema = new Schema(
        {
          name: { type: String, encrypted: { blindIndex: true } },
          room: { type: String, encrypted: { blindIndex: hasIndexes } },
        },
        { encrypted: options(hasIndexes) } as never,
      )
      const fieldseal = createFieldseal<'single'>({
        app: 'inn',
        tenancy: 'single',
        keyStore: mongoKeyStore(database.uri),
        keys,
      })
      const connection = mongoose.createConnection(database.uri, { monitorCommands: true })
      connection.plugin(fieldsealPlugin as never, { fieldseal })
      const guests = connection.model<Guest>('guests', schema as never)
      await connection.asPromise()
      return {
        fieldseal,
        source: mongooseSource(connection),
        async create(guest) {
          await guests.create(guest)
        },
        async move(name, room) {
          await guests.updateOne({ name }, { room })
        },
        find: async (where) => (await guests.find(where).lean()).map(({ name }) => name).toSorted(),
        async close() {
          await fieldseal.close()
          await connection.close()
        },
      }
    }))
})
