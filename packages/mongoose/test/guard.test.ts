import { hasMongo, mongoCan, useMongoDatabase } from '@fieldseal/servers/vitest'
import mongoose, { Schema } from 'mongoose'
import { afterEach, describe, expect, it } from 'vitest'
import { checkCommand } from '../src/guard/check-command.ts'
import { fieldsealPlugin } from '../src/index.ts'
import { buildGraph } from '../src/path-graph/build-graph.ts'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { envelope, leaf, token } from './support/sealed.ts'

const schema = () =>
  new Schema({
    name: String,
    email: { type: String, encrypted: { blindIndex: true } },
    ssn: { type: String, encrypted: true },
    tags: [{ type: String, encrypted: { blindIndex: true } }],
    grid: [[{ type: String, encrypted: true }]],
    history: [{ _id: false, at: Number, note: { type: String, encrypted: true } }],
    phones: { type: Map, of: { type: String, encrypted: true } },
    address: { street: { type: String, encrypted: true }, city: String },
    consent: { type: new Schema({ text: String }), encrypted: true },
  })

describe('the wire guard as a function', () => {
  const root = buildGraph([schema()])
  const check = (name: string, command: Record<string, unknown>) =>
    checkCommand(name, { [name]: 'people', ...command }, (collection) => (collection === 'people' ? root : undefined))
  const find = (filter: unknown) => check('find', { filter })
  const update = (u: unknown, more: object = {}) => check('update', { updates: [{ q: {}, u, ...more }] })
  const S = 'plaintext'

  it.each([
    [{ ssn: S }, 'ssn'],
    [{ ssn: Buffer.from(S) }, 'ssn'],
    [{ ssn: new mongoose.mongo.Binary(Buffer.from(S)) }, 'ssn'],
    [{ ssn: { c: envelope(), x: S } }, 'ssn'],
    [{ email: { c: envelope(), b: S } }, 'email'],
    [{ email: { c: envelope(), b: new mongoose.mongo.Binary(Buffer.from(S)) } }, 'email'],
    [{ email: { b: token() } }, 'email'],
    [{ tags: [leaf(), S] }, 'tags'],
    [{ tags: S }, 'tags'],
    [{ grid: [[envelope()], [S]] }, 'grid'],
    [{ history: [{ note: envelope() }, { at: 1, note: S }] }, 'history.note'],
    [{ history: { note: S } }, 'history.note'],
    [{ phones: { work: S } }, 'phones.work'],
    [{ phones: new Map([['work', S]]) }, 'phones.work'],
    [{ address: { street: S, city: 'x' } }, 'address.street'],
    [{ 'address.street': S }, 'address.street'],
    [{ consent: { text: S } }, 'consent'],
    [{ ssn: { toBSON: () => S } }, 'ssn'],
    [{ address: { toBSON: () => ({ street: S }) } }, 'address.street'],
    [{ tags: Object.assign([leaf()], { toBSON: () => [S] }) }, 'tags'],
    [{ toBSON: () => ({ ssn: S }) }, 'ssn'],
  ])('finds plaintext in an inserted document: %#', (document, path) => {
    expect(check('insert', { documents: [{ name: 'x' }, document] })).toEqual({ collection: 'people', path })
    expect(check('insert', { documents: { field: 'documents', documents: [document] } })).toBeDefined()
    expect(update(document)).toEqual({ collection: 'people', path })
    expect(check('findAndModify', { query: {}, update: document })).toEqual({ collection: 'people', path })
  })

  it('lets ciphertext, nulls and plain paths of a document pass', () => {
    const document = {
      name: S,
      email: leaf(),
      ssn: envelope(),
      tags: [leaf(), null],
      grid: [[envelope()], []],
      history: [{ at: 1, note: envelope() }, null, {}],
      phones: new Map([['work', envelope()]]),
      address: { street: null, city: S },
      consent: undefined,
      other: { ssn: S },
    }
    expect(check('insert', { documents: [document] })).toBeUndefined()
    expect(update(document)).toBeUndefined()
    expect(check('insert', { insert: 'others', documents: [{ ssn: S }] })).toBeUndefined()
  })

  it.each([
    [{ $set: { ssn: S } }],
    [{ $setOnInsert: { address: { street: S } } }],
    [{ $set: { 'history.0.note': S } }],
    [{ $set: { 'history.$[].note': S } }],
    [{ $set: { 'phones.work': S } }],
    [{ $set: { 'consent.text': S } }],
    [{ $set: { 'email.c': S } }],
    [{ $set: { 'email.b': S } }],
    [{ $push: { tags: S } }],
    [{ $push: { tags: { $each: [leaf(), S] } } }],
    [{ $addToSet: { history: { note: S } } }],
    [{ $pull: { tags: S } }],
    [{ $pull: { tags: { $in: [S] } } }],
    [{ $pull: { history: { note: S } } }],
    [{ $pullAll: { tags: [S] } }],
    [{ $inc: { ssn: 1 } }],
    [{ $min: { ssn: S } }],
    [{ $currentDate: { ssn: true } }],
    [{ $rename: { name: 'ssn' } }],
    [{ $rename: { ssn: 'name' } }],
    [[{ $set: { ssn: S } }]],
    [[{ $set: { address: { street: '$name' } } }]],
    [[{ $replaceWith: { ssn: S } }]],
    [[{ $replaceRoot: { newRoot: { $mergeObjects: ['$$ROOT', { address: { street: S } }] } } }]],
    [[{ $project: { ssn: { $literal: S } } }]],
  ])('finds plaintext in an update: %j', (u) => {
    expect(update(u)).toMatchObject({ collection: 'people' })
    expect(check('findAndModify', { query: {}, update: u })).toMatchObject({ collection: 'people' })
  })

  it.each([
    [{ $set: { ssn: envelope(), name: S, 'history.$[x].at': 2, 'history.$[x].note': envelope() } }],
    [{ $set: { 'email.c': envelope(), 'email.b': token() } }],
    [{ $unset: { ssn: 1, history: 1 }, $pop: { tags: 1 } }],
    [{ $push: { history: { $each: [{ at: 1, note: envelope() }] }, tags: leaf() } }],
    [{ $pull: { tags: { b: { $in: [token()] } }, history: { at: 1 } } }],
    [{ $rename: { name: 'title' }, $inc: { 'history.0.at': 1 } }],
    [[{ $set: { name: S } }, { $unset: ['ssn'] }, { $project: { ssn: 0 } }]],
  ])('lets an update of ciphertext and plain paths pass: %#', (u) => {
    expect(update(u, { arrayFilters: [{ 'x.at': 1, 'x.note': null }] })).toBeUndefined()
  })

  it('looks into the conditions of array filters', () => {
    const u = { $set: { 'history.$[h].at': 1, 'tags.$[t]': leaf() } }
    const refused = { collection: 'people', path: 'note' }
    expect(update(u, { arrayFilters: [{ 'h.note': S }] })).toEqual(refused)
    expect(update(u, { arrayFilters: [{ $or: [{ 'h.at': 1 }, { 'h.note': S }] }] })).toEqual(refused)
    expect(update(u, { arrayFilters: [{ t: S }] })).toMatchObject({ path: 't' })
    expect(update(u, { arrayFilters: [{ 'h.at': 1, 't.b': token() }] })).toBeUndefined()
    expect(check('findAndModify', { query: {}, update: u, arrayFilters: [{ 'h.note': S }] })).toEqual(refused)
  })

  it.each([
    [{ ssn: S }],
    [{ ssn: 1 }],
    [{ ssn: /plain/ }],
    [{ ssn: new Date(0) }],
    [{ ssn: new mongoose.mongo.Binary(Buffer.from(S)) }],
    [{ ssn: { $ne: S } }],
    [{ ssn: { $in: [null, S] } }],
    [{ ssn: { $not: { $eq: S } } }],
    [{ ssn: { $gt: 'a' } }],
    [{ 'email.b': S }],
    [{ 'email.c': S }],
    [{ tags: S }],
    [{ tags: { $all: [S] } }],
    [{ tags: { $elemMatch: { $eq: S } } }],
    [{ 'tags.0': S }],
    [{ grid: { $elemMatch: { $elemMatch: { $eq: S } } } }],
    [{ grid: [[S]] }],
    [{ 'phones.work': S }],
    [{ 'consent.text': S }],
    [{ address: { street: S } }],
    [{ address: { $eq: { street: S } } }],
    [{ address: { $in: [{ city: 'x' }, { street: S }] } }],
    [{ history: [{ note: S }] }],
    [{ history: { $elemMatch: { at: 1, note: S } } }],
    [{ history: { $elemMatch: { $or: [{ at: 1 }, { note: S }] } } }],
    [{ history: { $not: { $elemMatch: { note: S } } } }],
    [{ history: { $all: [{ $elemMatch: { note: S } }] } }],
    [{ history: { $in: [{ note: S }] } }],
    [{ $or: [{ name: S }, { $and: [{ ssn: S }] }] }],
    [{ $nor: [{ ssn: S }] }],
    [{ $expr: { $eq: ['$ssn', S] } }],
    [{ $expr: { $or: [{ $in: ['$address.street', [S]] }] } }],
    [{ $expr: { $regexMatch: { input: '$$ROOT.ssn', regex: /plain/ } } }],
    [{ $expr: { $eq: ['$address', { street: S }] } }],
  ])('finds plaintext in a filter: %j', (filter) => {
    const found = { collection: 'people' }
    expect(find(filter)).toMatchObject(found)
    expect(check('count', { query: filter })).toMatchObject(found)
    expect(check('distinct', { query: filter })).toMatchObject(found)
    expect(check('delete', { deletes: [{ q: {} }, { q: filter }] })).toMatchObject(found)
    expect(check('update', { updates: [{ q: filter, u: {} }] })).toMatchObject(found)
    expect(check('findAndModify', { query: filter, remove: true })).toMatchObject(found)
    expect(check('aggregate', { pipeline: [{ $limit: 1 }, { $match: filter }] })).toMatchObject(found)
    expect(check('aggregate', { pipeline: [{ $facet: { a: [{ $match: filter }] } }] })).toMatchObject(found)
    expect(check('explain', { explain: { find: 'people', filter } })).toMatchObject(found)
    expect(check('createIndexes', { indexes: [{ key: {}, partialFilterExpression: filter }] })).toMatchObject(found)
  })

  it.each([
    [{}],
    [{ name: S, _id: 1 }],
    [{ ssn: null, email: { $exists: true }, tags: { $size: 2 }, phones: { $exists: false } }],
    [{ ssn: { $type: 'binData' } }],
    [{ ssn: envelope() }],
    [{ consent: { $eq: envelope() } }],
    [{ email: { $eq: leaf() } }],
    [{ 'email.b': token() }],
    [{ 'email.b': { $in: [token()] } }],
    [{ 'email.b': { $not: { $eq: token() } } }],
    [{ 'tags.b': { $all: [token(), token()] } }],
    [{ history: { $elemMatch: { at: 1, note: null } } }],
    [{ address: null }],
    [{ 'address.city': S }],
    [{ $or: [{ name: S }, { 'email.b': token() }] }],
    [{ $expr: { $gt: ['$name', S] } }],
    [{ $expr: { $eq: ['$ssn', null] } }],
    [{ $expr: { $eq: ['$ssn', '$consent'] } }],
  ])('lets a filter of tokens, envelopes and plain paths pass: %#', (filter) => {
    expect(find(filter)).toBeUndefined()
    expect(check('aggregate', { pipeline: [{ $match: filter }] })).toBeUndefined()
  })

  it('looks into projections, bounds, joins and unions, and lets nothing be written by a pipeline', () => {
    expect(check('find', { projection: { history: { $elemMatch: { note: S } } } })).toBeDefined()
    expect(check('find', { projection: { history: { $elemMatch: { at: 1 } }, name: 1 } })).toBeUndefined()
    expect(check('find', { min: { ssn: S } })).toBeDefined()
    const others = (pipeline: unknown[]) => check('aggregate', { aggregate: 'others', pipeline })
    expect(others([{ $match: { ssn: S } }])).toBeUndefined()
    expect(others([{ $lookup: { from: 'people', pipeline: [{ $match: { ssn: S } }] } }])).toBeDefined()
    expect(others([{ $unionWith: { coll: 'people', pipeline: [{ $match: { ssn: S } }] } }])).toBeDefined()
    expect(others([{ $graphLookup: { from: 'people', restrictSearchWithMatch: { ssn: S } } }])).toBeDefined()
    for (const stage of [
      { $out: 'people' },
      { $out: { db: 'x', coll: 'people' } },
      { $merge: 'people' },
      { $merge: { into: 'people' } },
      { $merge: { into: { db: 'x', coll: 'people' } } },
    ])
      expect(others([{ $project: { ssn: '$name' } }, stage])).toMatchObject({ collection: 'people' })
    expect(others([{ $merge: { into: 'elsewhere' } }])).toBeUndefined()
    expect(checkCommand('aggregate', { aggregate: 1, pipeline: [{ $merge: 'people' }] }, () => root)).toBeDefined()
  })

  it('looks into a bulk write of the client', () => {
    const bulk = (operation: object) =>
      check('bulkWrite', { bulkWrite: 1, nsInfo: [{ ns: 'db.others' }, { ns: 'db.people' }], ops: [operation] })
    expect(bulk({ insert: 0, document: { ssn: S } })).toBeUndefined()
    expect(bulk({ insert: 1, document: { ssn: S } })).toEqual({ database: 'db', collection: 'people', path: 'ssn' })
    expect(bulk({ insert: 1, document: { ssn: envelope() } })).toBeUndefined()
    expect(bulk({ update: 1, filter: {}, updateMods: { $set: { ssn: S } } })).toBeDefined()
    expect(bulk({ update: 1, filter: { ssn: S }, updateMods: {} })).toBeDefined()
    expect(bulk({ delete: 1, filter: { ssn: S } })).toBeDefined()
  })
})

describe.runIf(hasMongo())('the wire guard', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const people = () => clinic.model(schema(), 'Person')
  const blocked = { code: 'ERR_PLAINTEXT_BLOCKED' }
  afterEach(() => void (clinic.connection.models['Person'] && clinic.connection.deleteModel('Person')))
  const native = (Person = people()) => {
    const { db } = clinic.connection
    if (db === undefined) throw new Error('not connected')
    return db.collection(Person.collection.collectionName)
  }

  refuses(
    'native insertOne',
    'plaintext through the native handle of the driver never reaches the socket',
    { code: 'ERR_PLAINTEXT_BLOCKED' },
    () => native().insertOne({ ssn: clinic.secret('native-insert') }),
  )

  refuses(
    'native insertOne',
    'a Mongoose document handed to the driver is looked at as it is sent',
    { code: 'ERR_PLAINTEXT_BLOCKED' },
    () => {
      const collection = native()
      const Person = clinic.connection.models['Person'] as never as new (values: object) => object
      return collection.insertOne(new Person({ history: [{ note: clinic.secret('hydrated-insert') }] }))
    },
  )

  refuses(
    'native updateOne',
    'plaintext in an update through the native handle',
    { code: 'ERR_PLAINTEXT_BLOCKED' },
    () => native().updateOne({}, { $set: { 'address.street': clinic.secret('native-update') } }),
  )

  refuses('native find', 'plaintext in a filter through the native handle', { code: 'ERR_PLAINTEXT_BLOCKED' }, () =>
    native().findOne({ email: clinic.secret('native-filter@x') }),
  )

  refuses(
    'native bulkWrite',
    'plaintext in a bulk write through the native handle',
    { code: 'ERR_PLAINTEXT_BLOCKED' },
    () => native().bulkWrite([{ insertOne: { document: { ssn: clinic.secret('native-bulk') } } }]),
  )

  refuses(
    'client bulkWrite',
    'plaintext in a bulk write of the client, before anything is sent',
    { code: 'ERR_PLAINTEXT_BLOCKED' },
    async () => {
      const { namespace } = native()
      const document = { ssn: clinic.secret('client-bulk') } as never
      await clinic.connection
        .getClient()
        .bulkWrite([{ namespace, name: 'insertOne', document }])
        .catch((error: { readonly cause?: unknown }) => {
          throw error.cause ?? error
        })
    },
  )

  refuses(
    'aggregate $merge',
    'a pipeline of a native handle that writes into an encrypted collection',
    { code: 'ERR_PLAINTEXT_BLOCKED' },
    () => {
      const into = people().collection.collectionName
      return clinic.connection.db
        ?.collection('plain')
        .aggregate([{ $merge: { into } }])
        .toArray()
    },
  )

  refuses(
    'connection.bulkWrite',
    'operations on an encrypted model, by name or by class',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'conn-bulkwrite' },
    async () => {
      const Person = people()
      const document = { ssn: clinic.secret('connection-bulk') }
      await expect(
        clinic.connection.bulkWrite([{ model: Person, name: 'insertOne', document } as never]),
      ).rejects.toMatchObject({ details: { reason: 'conn-bulkwrite' } })
      return clinic.connection.bulkWrite([{ model: 'Person', name: 'insertOne', document } as never], {
        ordered: false,
      })
    },
  )

  it.runIf(mongoCan('clientBulkWrite'))('connection.bulkWrite of plain models works', async () => {
    const Plain = clinic.model(new Schema({ name: String }))
    await clinic.connection.bulkWrite([{ model: Plain, name: 'insertOne', document: { name: 'x' } } as never])
    expect(await Plain.countDocuments()).toBe(1)
  })

  protects('native find', 'reading past Mongoose gives ciphertext', async () => {
    const collection = native()
    await clinic.connection.models['Person']?.create({ ssn: clinic.secret('read-natively') })
    expect(await collection.findOne({ ssn: { $ne: null } })).toMatchObject({ ssn: { sub_type: 0x80 } })
  })

  it('comes back after all listeners of the client were removed', async () => {
    const Person = people()
    clinic.connection.getClient().removeAllListeners()
    await Person.findOne()
    await expect(native(Person).insertOne({ ssn: clinic.secret('listeners-gone') })).rejects.toMatchObject(blocked)
  })

  it('knows the paths of a model that was deleted and made again', async () => {
    const Deleted = people()
    clinic.connection.deleteModel('Person')
    const again = clinic.model(new Schema({ name: { type: String, encrypted: true } }), 'Person')
    await again.init()
    await Deleted.countDocuments() // late work of the deleted one, such as its indexes
    const collection = clinic.connection.db?.collection(again.collection.collectionName)
    await expect(collection?.insertOne({ name: clinic.secret('made again') })).rejects.toMatchObject(blocked)
    await collection?.insertOne({ ssn: 'plain now' })
  })
})

describe.runIf(hasMongo())('the wire guard that only reports', () => {
  const clinic = useClinic({ tenancy: 'single', registration: { guard: 'audit' } })

  it('lets plaintext pass, and says so without the value', async () => {
    const events: unknown[] = []
    clinic.fieldseal.on('plaintext.seen', (event) => void events.push(event))
    const Person = clinic.model(new Schema({ ssn: { type: String, encrypted: true } }))
    const name = Person.collection.collectionName
    await clinic.connection.db?.collection(name).insertOne({ ssn: 'seen' })
    expect(events).toEqual([{ model: name, field: 'ssn', operation: 'insert' }])
    await Person.create({ ssn: clinic.secret('not seen') })
    expect(events).toHaveLength(1)
  })
})

describe.runIf(hasMongo())('a connection that does not report its commands', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const database = useMongoDatabase()
  const fresh = () => {
    const own = new mongoose.Mongoose()
    own.plugin(fieldsealPlugin as never, { fieldseal: clinic.fieldseal })
    return own
  }
  const refused = { code: 'ERR_CONFIG_INVALID', details: { field: 'monitorCommands' } }

  it('is not opened once it has an encrypted model', async () => {
    const own = fresh()
    own.model('Person', schema())
    await expect(own.connect(database.uri)).rejects.toMatchObject(refused)
    expect(own.connection.readyState).toBe(0)
    await own.connect(database.uri, { monitorCommands: true })
    await own.disconnect()
    await expect(own.connect(database.uri)).rejects.toMatchObject(refused)
  })

  it('gets no encrypted model once it is open', async () => {
    const own = fresh()
    await own.connect(database.uri)
    expect(() => own.model('Person', schema())).toThrow(/monitorCommands/)
    expect(() => own.model('Plain', new Schema({ name: String }))).not.toThrow()
    await own.disconnect()
  })

  it('is opened when the connection string says that it reports them', async () => {
    const own = fresh()
    const uri = new URL(database.uri)
    uri.searchParams.set('monitorCommands', 'true')
    own.model('Person', schema())
    await own.connect(uri.href)
    await own.disconnect()
  })

  it('is not opened under a model of another database of its own', async () => {
    const own = fresh()
    own.connection.useDb('another').model('Person', schema())
    await expect(own.connect(database.uri)).rejects.toMatchObject(refused)
    await own.disconnect()
  })

  it("is opened with guard: 'off', and only the guard is missing", async () => {
    const own = new mongoose.Mongoose()
    own.plugin(fieldsealPlugin as never, { fieldseal: clinic.fieldseal, guard: 'off' })
    const Person = own.model('Person', schema())
    await own.connect(database.uri)
    const made = await Person.create({ ssn: 'not guarded' })
    const stored = await own.connection.db?.collection(Person.collection.collectionName).findOne({ _id: made._id })
    expect(stored?.['ssn']).toMatchObject({ sub_type: 0x80 })
    await own.disconnect()
  })

  it('many models make one listener', async () => {
    const own = fresh()
    const warnings: unknown[] = []
    const listen = (warning: unknown) => void warnings.push(warning)
    process.on('warning', listen)
    for (let at = 0; at < 15; at++) own.model(`Person${at}`, schema())
    await own.connect(database.uri, { monitorCommands: true })
    await own.disconnect()
    process.off('warning', listen)
    expect(warnings).toEqual([])
  })
})
