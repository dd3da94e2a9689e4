import { hasMongo, mongoCan } from '@fieldseal/servers/vitest'
import mongoose, { Schema } from 'mongoose'
import { beforeEach, describe, expect, it } from 'vitest'
import { jsonSchemaTripwire } from '../src/index.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'

function without(keyword: string, schema: unknown): unknown {
  return JSON.parse(JSON.stringify(schema, (key, value: unknown) => (key === keyword ? undefined : value)))
}

const SEALED = { bsonType: ['binData', 'null'] }

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

  it('names encrypted paths alone', () => {
    const { properties } = jsonSchemaTripwire(Person).$jsonSchema as { readonly properties: Record<string, unknown> }
    expect(Object.keys(properties).toSorted()).toEqual(
      ['email', 'ssn', 'tags', 'grid', 'history', 'phones', 'address', 'consent'].toSorted(),
    )
    expect(properties).toMatchObject({
      ssn: SEALED,
      consent: SEALED,
      email: { required: ['c'], additionalProperties: false },
      phones: { additionalProperties: SEALED },
      address: { properties: { street: SEALED } },
      history: { bsonType: ['array', 'object', 'null'], items: { properties: { note: SEALED } }, properties: {} },
      grid: {
        bsonType: ['array', 'binData', 'null'],
        items: { bsonType: ['array', 'binData', 'null'], items: SEALED },
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
    const set = async (validator: unknown) => {
      await connection.db?.command({ collMod: Person.collection.collectionName, validator })
      return true
    }
    const whole = jsonSchemaTripwire(Person)
    // Not every engine that knows $jsonSchema knows all of it.
    const knowsMaps = await set(whole).catch(() => false)
    if (!knowsMaps) await set(without('additionalProperties', whole))
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
})
