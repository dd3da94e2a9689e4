import { hasMongo, mongoCan } from '@fieldseal/servers/vitest'
import mongoose, { Schema } from 'mongoose'
import { beforeEach, describe, expect, it } from 'vitest'
import { jsonSchemaTripwire, mongooseSource } from '../src/index.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'

function without(keyword: string, schema: unknown): unknown {
  return JSON.parse(JSON.stringify(schema, (key, value: unknown) => (key === keyword ? undefined : value)))
}

const SEALED = { bsonType: ['binData', 'object', 'null'], required: ['c'], additionalProperties: false }

describe.runIf(hasMongo())('the tripwire', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Person: LooseModel
  beforeEach(() => {
    Person = clinic.model(
      new Schema({
        name: String,
        email: { type: String, encrypted: { blindIndex: true } },
        ssn: { type: String, encrypted: true },
        tags: [{ type: String, encrypted: { blindIndex: true } }],
        grid: [[{ type: String, encrypted: true }]],
        history: [{ at: Date, note: { type: String, encrypted: true } }],
        phones: { type: Map, of: { type: String, encrypted: true } },
        address: { street: { type: String, encrypted: true }, city: String },
        consent: { type: new Schema({ text: String }), encrypted: true },
      }),
    )
  })

  /** Not every engine that knows $jsonSchema knows all of it. */
  async function put({ collection }: LooseModel, validator: object): Promise<boolean> {
    const set = (given: unknown) =>
      clinic.connection.db?.command({ collMod: collection.collectionName, validator: given })
    const isWhole = await Promise.resolve(set(validator)).then(
      () => true,
      () => false,
    )
    if (!isWhole) await set(without('additionalProperties', validator))
    return isWhole
  }

  it('names encrypted paths alone', () => {
    const { properties } = jsonSchemaTripwire(Person).$jsonSchema as { readonly properties: Record<string, unknown> }
    expect(Object.keys(properties).toSorted()).toEqual(
      ['email', 'ssn', 'tags', 'grid', 'history', 'phones', 'address', 'consent'].toSorted(),
    )
    expect(properties).toMatchObject({
      ssn: SEALED,
      consent: SEALED,
      email: SEALED,
      phones: { additionalProperties: SEALED },
      address: { properties: { street: SEALED } },
      history: { bsonType: ['array', 'object', 'null'], items: { properties: { note: SEALED } }, properties: {} },
      grid: {
        bsonType: ['array', 'binData', 'object', 'null'],
        items: { bsonType: ['array', 'binData', 'object', 'null'], items: SEALED },
      },
    })
    expect(JSON.stringify(properties)).not.toContain('city')
  })

  it('is refused for a model that has none', () => {
    const Plain = clinic.model(new Schema({ name: String }))
    expect(() => jsonSchemaTripwire(Plain)).toThrow(/no encrypted path/)
  })

  it.runIf(mongoCan('jsonSchema'))('refuses plaintext of other writers, and lets ours pass', async () => {
    await Person.createCollection()
    const { connection } = clinic
    const knowsMaps = await put(Person, jsonSchemaTripwire(Person))
    const document = await Person.create({
      name: 'plain',
      email: clinic.secret('tripwire@example.org'),
      ssn: clinic.secret('tripwire-ssn'),
      tags: [clinic.secret('tripwire-tag')],
      grid: [[clinic.secret('tripwire-cell')], []],
      history: [{ note: clinic.secret('tripwire-note') }, {}],
      phones: { work: clinic.secret('tripwire-phone'), none: null },
      address: { street: clinic.secret('tripwire-street'), city: 'x' },
      consent: { text: clinic.secret('tripwire-consent') },
    })
    await Person.create([{}, { email: null, address: null, history: null }])
    await Person.updateOne(
      { _id: document._id },
      { $push: { tags: clinic.secret('tripwire-more') }, $set: { 'phones.home': clinic.secret('tripwire-home') } },
    )
    const { hosts } = connection.getClient().options
    const past = await new mongoose.mongo.MongoClient(`mongodb://${hosts.map(String).join(',')}/`).connect()
    const collection = past.db(connection.name).collection(Person.collection.collectionName)
    await collection.insertOne({ name: 'an import', other: { ssn: 'not encrypted' } })
    for (const plaintext of [
      { email: 'x' },
      { email: { c: 'x' } },
      { ssn: 5 },
      { tags: ['x'] },
      { tags: 'x' },
      { grid: [['x']] },
      { history: [{}, { note: 'x' }] },
      { address: { street: 'x' } },
      { consent: { text: 'x' } },
      ...(knowsMaps
        ? [{ phones: { work: 'x' } }, { email: { c: new mongoose.mongo.Binary(Buffer.of(1)), plain: 'x' } }]
        : []),
    ])
      await expect(collection.insertOne(plaintext), JSON.stringify(plaintext)).rejects.toMatchObject({ code: 121 })
    await past.close()
  })

  describe.runIf(mongoCan('jsonSchema'))('of an earlier build', () => {
    const secret = { type: String, encrypted: true } as const
    const searchable = { type: String, encrypted: { blindIndex: true } } as const
    const SHAPES = {
      plain: [{ ssn: secret, tags: [secret], born: secret }, {}],
      searchable: [{ ssn: searchable, tags: [searchable], born: secret }, {}],
      compound: [{ ssn: secret, tags: [secret], born: secret }, { compoundIndexes: { one: { of: ['ssn', 'born'] } } }],
      more: [{ ssn: secret, tags: [secret], born: secret, name: secret }, {}],
      migrating: [{ ssn: secret, tags: [secret], born: { type: String, encrypted: { state: 'migrating' } } }, {}],
    } as const
    const modelOf = async (shape: keyof typeof SHAPES) => {
      const [paths, encrypted] = SHAPES[shape]
      const Model = clinic.model(new Schema(paths as never, { encrypted } as never))
      await Model.createCollection()
      return Model
    }
    const inspected = async ({ collection }: LooseModel) => {
      const source = mongooseSource(clinic.connection)
      const map = source.models.find(({ id }) => id === collection.collectionName) ?? expect.unreachable()
      return (await source.inspect(map)).filter(({ problem }) => problem.includes('validator'))
    }

    it.each<[keyof typeof SHAPES, keyof typeof SHAPES]>([
      ['plain', 'searchable'],
      ['searchable', 'plain'],
      ['plain', 'compound'],
      ['compound', 'plain'],
      ['plain', 'more'],
    ])('lets the writes of a later one pass, and refuses plaintext: from %s to %s', async (before, after) => {
      const [Before, After] = [await modelOf(before), await modelOf(after)]
      await put(After, jsonSchemaTripwire(Before))
      const document = await After.create({ ssn: 'first', tags: ['one', 'two'], born: 'then', name: 'Ada' })
      await After.updateOne({ _id: document._id }, { ssn: 'second', born: 'later' })
      expect(await After.findById(document._id).lean()).toMatchObject({ ssn: 'second', tags: ['one', 'two'] })
      const past = clinic.direct(After)
      for (const plaintext of [{ ssn: 'x' }, { ssn: { b: 'x' } }, { tags: ['x'] }, { born: {} }])
        await expect(past.insertOne(plaintext), JSON.stringify(plaintext)).rejects.toMatchObject({ code: 121 })
    })

    it('is told by doctor where the model wants another, with the command that mends it', async () => {
      const models = { plain: await modelOf('plain'), searchable: await modelOf('searchable') }
      const others = [await modelOf('compound'), await modelOf('more'), await modelOf('migrating')]
      const whole = jsonSchemaTripwire(models.plain)
      for (const Model of [...Object.values(models), ...others]) expect(await inspected(Model)).toEqual([])
      const own = { $jsonSchema: { required: ['tags'], properties: { tags: { bsonType: 'array' } } } }
      for (const Model of [...Object.values(models), ...others]) {
        for (const validator of [own, jsonSchemaTripwire(Model), { $and: [own, jsonSchemaTripwire(Model)] }]) {
          await put(Model, validator)
          expect(await inspected(Model)).toEqual([])
        }
        await put(Model, whole)
        const { collectionName } = Model.collection
        const told = [
          {
            problem: 'its validator is not what jsonSchemaTripwire makes of the model',
            fix: `db.command({ collMod: '${collectionName}', validator: jsonSchemaTripwire(Model) })`,
          },
        ]
        expect(await inspected(Model)).toEqual(others.includes(Model) ? told : [])
      }
    })
  })
})
