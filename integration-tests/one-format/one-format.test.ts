import 'reflect-metadata'
import { randomUUID } from 'node:crypto'
import { createFieldseal } from '@fieldseal/core'
import { attach, type AdapterHost, type RecordMap } from '@fieldseal/core/adapter'
import { fieldsealPlugin } from '@fieldseal/mongoose'
import { hasMongo, hasPostgres, useDatabase, useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms, memoryKeyStore } from '@fieldseal/testkit'
import { EncryptedColumn, EncryptedModel, withFieldseal } from '@fieldseal/typeorm'
import mongoose, { Schema } from 'mongoose'
import { Column, DataSource, Entity, PrimaryColumn } from 'typeorm'
import { describe, expect, it } from 'vitest'

@Entity('people')
@EncryptedModel({ tenantBy: 'clinic' })
class Person {
  @PrimaryColumn('uuid') id!: string
  @Column('varchar') clinic!: string
  @EncryptedColumn({ blindIndex: { normalize: 'lower' } }) text!: string
  @EncryptedColumn({ type: 'number' }) number!: number
  @EncryptedColumn({ type: 'boolean' }) flag!: boolean
  @EncryptedColumn({ type: 'bigint' }) big!: bigint
  @EncryptedColumn({ type: 'date' }) instant!: Date
  @EncryptedColumn({ type: 'bytes' }) bytes!: Uint8Array
}

/** The same in Mongoose: the types that both have, tags 1 to 6. */
const personSchema = () =>
  new Schema(
    {
      _id: { type: Schema.Types.UUID, required: true },
      clinic: { type: String, required: true },
      text: { type: String, encrypted: { blindIndex: { normalize: 'lower' } } },
      number: { type: Number, encrypted: true },
      flag: { type: Boolean, encrypted: true },
      big: { type: BigInt, encrypted: true },
      instant: { type: Date, encrypted: true },
      bytes: { type: Buffer, encrypted: true },
    },
    { collection: 'people', encrypted: { tenantBy: 'clinic' } },
  )

const FIELDS = {
  text: 'string',
  number: 'number',
  flag: 'boolean',
  big: 'bigint',
  instant: 'date',
  bytes: 'bytes',
} as const
type FieldName = keyof typeof FIELDS
const VALUES = {
  text: 'Ada Lovelace',
  number: -0.5,
  flag: false,
  big: 2n ** 62n,
  instant: new Date('1815-12-10T00:00:00.001Z'),
  bytes: Buffer.from('00ff', 'hex'),
} satisfies Record<FieldName, unknown>

describe.runIf(hasPostgres() && hasMongo())('one format', () => {
  const postgres = useDatabase()
  const mongo = useMongoDatabase()

  it('opens what TypeORM and Mongoose have written with the same call of core, and gives both the same tokens', async () => {
    const keyStore = memoryKeyStore()
    const kms = fakeKms()
    const open = () =>
      createFieldseal({ app: 'one-format', tenancy: 'multi', keyStore, keys: { cmks: [kms.cmk('shared')] } })
    const id = randomUUID()

    const [ofTypeorm, ofMongoose, ofCore] = [open(), open(), open()]
    const dataSource = new DataSource({ type: 'postgres', url: postgres.url, entities: [Person], synchronize: true })
    await withFieldseal(dataSource, { fieldseal: ofTypeorm }).initialize()
    await ofTypeorm.runAs({ tenant: 'c7' }, () =>
      dataSource.getRepository(Person).save({ id, clinic: 'c7', ...VALUES }),
    )
    const [row]: Record<string, unknown>[] = await dataSource.query('SELECT * FROM people')

    const own = new mongoose.Mongoose()
    const schema = personSchema()
    schema.plugin(fieldsealPlugin, { fieldseal: ofMongoose })
    const PersonModel = own.model('Person', schema)
    await own.connect(mongo.uri, { monitorCommands: true })
    await ofMongoose.runAs({ tenant: 'c7' }, () => PersonModel.create({ _id: id, clinic: 'c7', ...VALUES }))
    const document: Record<string, unknown> = (await own.connection.db?.collection('people').findOne({})) ?? {}
    const leaf = (name: FieldName): Uint8Array => {
      const stored: unknown = document[name]
      const sealed: unknown = name === 'text' ? Reflect.get(Object(stored), 'c') : stored
      return (sealed as mongoose.mongo.Binary).value()
    }

    const host = attach(ofCore, { name: 'test', ormVersion: '0' })
    const map = host.defineModel({
      id: 'people',
      options: { tenantBy: 'clinic' },
      fields: Object.entries(FIELDS).map(([path, type]) => ({ path, type, options: {} })),
      rowKey: [{ path: 'id', kind: 'uuid' }],
    })
    const names = Object.keys(FIELDS) as FieldName[]
    expect(
      await opened(
        host,
        map,
        ofCore,
        id,
        names.map((name) => row?.[name]),
      ),
    ).toEqual(Object.values(VALUES))
    expect(await opened(host, map, ofCore, id, names.map(leaf))).toEqual(Object.values(VALUES))
    const token = (Reflect.get(Object(document['text']), 'b') as mongoose.mongo.Binary).value()
    expect(Buffer.from(token)).toEqual(row?.['text_bidx'])

    await own.disconnect()
    await dataSource.destroy()
    await Promise.all([ofTypeorm, ofMongoose, ofCore].map((each) => each.close()))
  })
})

function opened(
  host: AdapterHost,
  map: RecordMap,
  fieldseal: ReturnType<typeof createFieldseal<'multi'>>,
  id: string,
  stored: readonly unknown[],
): Promise<readonly unknown[]> {
  return fieldseal.runAs({ tenant: 'c7' }, async () => {
    const context = host.capture()
    const cells = map.fields.map((field, at) => ({ field, value: stored[at] }))
    const [result] = await host.cipher.open([{ map, facts: map.facts({ id, clinic: 'c7' }, context), cells }], context)
    return result?.values ?? []
  })
}
