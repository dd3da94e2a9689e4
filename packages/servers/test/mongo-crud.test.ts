import { Binary, BSONRegExp, Decimal128, Double, Int32, Long, ObjectId, Timestamp, UUID } from 'bson'
import { MongoClient, MongoServerError, type Collection, type Db, type Document } from 'mongodb'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { hasMongo, useMongoDatabase } from '../vitest/index.ts'

// What the adapters rely on, asked through the real driver: the same on MongoDB and on an engine compatible with it.
describe.runIf(hasMongo())('the MongoDB of this run', () => {
  const database = useMongoDatabase()
  let client: MongoClient
  let db: Db
  let c: Collection<Document>
  let collections = 0

  beforeAll(async () => {
    client = await new MongoClient(database.uri).connect()
    db = client.db()
  })
  afterAll(() => client.close())
  beforeEach(() => {
    c = db.collection(`c${++collections}`)
  })

  const refusal = async (action: Promise<unknown>): Promise<MongoServerError> => {
    const error = await action.then(
      () => undefined,
      (reason: unknown) => reason,
    )
    if (!(error instanceof MongoServerError)) throw new Error(`expected a refusal, got ${String(error)}`)
    return error
  }
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => ({ _id: i as never, n: i }))

  it('starts with the database of the connection string', () => {
    expect(db.databaseName).toBe(database.name)
  })

  it('stores every type as it was sent', async () => {
    const stored = {
      binary: new Binary(Buffer.from('fieldseal'), 0),
      user: new Binary(Buffer.from([0, 1, 254, 255]), 0x80),
      encrypted: new Binary(Buffer.from('c'), 6),
      uuid: new UUID('5c1a1b0e-52fb-4bb5-9c0a-3a8c7c7a3a10'),
      long: Long.fromString('9007199254740993'),
      int: new Int32(1),
      double: new Double(1),
      decimal: Decimal128.fromString('1.10'),
      date: new Date(0),
      id: new ObjectId(),
      timestamp: new Timestamp({ t: 1, i: 2 }),
      regexp: new BSONRegExp('^a', 'i'),
      none: null,
      list: [1, [2, { a: 'ä€😀' }]],
    }
    await c.insertOne({ ...stored })
    const found = await c.findOne({}, { promoteValues: false, bsonRegExp: true, projection: { _id: 0 } })
    expect(found).toEqual({
      ...stored,
      list: [new Int32(1), [new Int32(2), { a: 'ä€😀' }]],
      none: null,
      uuid: expect.objectContaining({ sub_type: 4 }) as unknown,
    })
    expect(Object.keys(found ?? {})).toEqual(Object.keys(stored))
  })

  it('keeps fields with numbers for names in their order', async () => {
    await c.insertOne(
      new Map<string, unknown>([
        [
          'b',
          new Map([
            ['9', 1],
            ['1', 2],
          ]),
        ],
      ]) as unknown as Document,
    )
    const found = await c.findOne({}, { raw: true })
    expect((found as unknown as Buffer).toString('latin1')).toMatch(/9\0.*1\0/s)
  })

  it('answers an insert of many documents and reads them in pages', async () => {
    const { insertedCount } = await c.insertMany(numbers(2500))
    expect(insertedCount).toBe(2500)
    const read: number[] = []
    for await (const { n } of c.find({}, { batchSize: 100 })) read.push(n as number)
    expect(new Set(read).size).toBe(2500)
    const sorted = await c.find({}, { batchSize: 100, sort: { n: -1 } }).toArray()
    expect(sorted.map(({ n }) => n as number)).toEqual(numbers(2500).map(({ n }) => 2499 - n))
  })

  it('closes a cursor that is not read to its end', async () => {
    await c.insertMany(numbers(500))
    const cursor = c.find({}, { batchSize: 10, sort: { n: 1 } })
    await cursor.next()
    await cursor.close()
    const { cursorsNotFound } = await db.command({ killCursors: c.collectionName, cursors: [cursor.id ?? Long.ONE] })
    expect(cursorsNotFound).toHaveLength(1)
  })

  it('takes documents of several megabytes', async () => {
    const bytes = Buffer.alloc(8_000_000, 7)
    await c.insertMany([{ bytes }, { bytes }, { bytes }])
    const found = await c.find({}).toArray()
    expect(found.map(({ bytes: read }) => (read as Binary).length())).toEqual([8_000_000, 8_000_000, 8_000_000])
  })

  it('updates with operators, array filters and upserts', async () => {
    await c.insertOne({
      _id: 1 as never,
      items: [
        { k: 'a', n: 1 },
        { k: 'b', n: 2 },
      ],
      tags: ['x'],
    })
    await c.updateOne(
      {},
      { $set: { 'items.$[i].n': 9 }, $push: { tags: 'y' as never } },
      { arrayFilters: [{ 'i.k': 'b' }] },
    )
    await c.updateOne({ 'items.k': 'a' }, { $inc: { 'items.$.n': 5 }, $unset: { none: 1 } })
    expect(await c.findOne()).toEqual({
      _id: 1,
      items: [
        { k: 'a', n: 6 },
        { k: 'b', n: 9 },
      ],
      tags: ['x', 'y'],
    })
    const { upsertedId } = await c.updateOne({ key: 'new' }, { $setOnInsert: { made: true } }, { upsert: true })
    expect(await c.findOne({ _id: upsertedId as never })).toMatchObject({ key: 'new', made: true })
  })

  it('updates by a pipeline and replaces', async () => {
    await c.insertOne({ _id: 1 as never, a: 2 })
    await c.updateOne({}, [{ $set: { b: { $multiply: ['$a', 3] } } }])
    expect(await c.findOne()).toEqual({ _id: 1, a: 2, b: 6 })
    await c.replaceOne({ _id: 1 as never }, { only: 'this' })
    expect(await c.findOne()).toEqual({ _id: 1, only: 'this' })
  })

  it('finds and modifies, before and after', async () => {
    await c.insertOne({ _id: 1 as never, n: 1 })
    expect(await c.findOneAndUpdate({ n: 1 }, { $inc: { n: 1 } })).toMatchObject({ n: 1 })
    expect(await c.findOneAndUpdate({ n: 2 }, { $inc: { n: 1 } }, { returnDocument: 'after' })).toMatchObject({ n: 3 })
    expect(await c.findOneAndReplace({ n: 3 }, { n: 4 }, { returnDocument: 'after' })).toEqual({ _id: 1, n: 4 })
    expect(await c.findOneAndDelete({ n: 4 })).toMatchObject({ n: 4 })
    expect(await c.findOneAndDelete({ n: 4 })).toBeNull()
  })

  it('counts what a bulk of writes did', async () => {
    const result = await c.bulkWrite([
      { insertOne: { document: { _id: 1 as never, n: 1 } } },
      { insertOne: { document: { _id: 2 as never, n: 1 } } },
      { updateMany: { filter: { n: 1 }, update: { $set: { n: 2 } } } },
      { updateOne: { filter: { _id: 3 as never }, update: { $set: { n: 3 } }, upsert: true } },
      { deleteOne: { filter: { _id: 1 as never } } },
    ])
    expect(result).toMatchObject({ insertedCount: 2, modifiedCount: 2, upsertedCount: 1, deletedCount: 1 })
  })

  it('goes on after an error where writes are not ordered, and names each failed one', async () => {
    await c.insertOne({ _id: 1 as never })
    const documents = [{ _id: 2 as never }, { _id: 1 as never }, { _id: 3 as never }]
    const error = await refusal(c.insertMany(documents, { ordered: false }))
    expect(error).toMatchObject({ code: 11000, insertedCount: 2, writeErrors: [{ index: 1, code: 11000 }] })
    expect(await c.countDocuments()).toBe(3)
  })

  it('refuses a second document with a unique value, naming index, key and value', async () => {
    await c.createIndex({ 'email.b': 1 }, { unique: true })
    const token = new Binary(Buffer.from('token'))
    await c.insertOne({ email: { b: token } })
    const error = await refusal(c.insertOne({ email: { b: token } }))
    expect(error).toMatchObject({ code: 11000, keyPattern: { 'email.b': 1 }, keyValue: { 'email.b': token } })
    expect(error.message).toContain(`E11000 duplicate key error collection: ${c.namespace} index: email.b_1 dup key`)
    await c.insertOne({ _id: 'other' as never, email: { b: new Binary(Buffer.from('other')) } })
    const update = { $set: { 'email.b': token } }
    for (const action of [
      () => c.updateOne({ _id: 'other' as never }, update),
      () => c.findOneAndUpdate({ _id: 'other' as never }, update),
    ]) {
      const refused = await refusal(action())
      expect(refused).toMatchObject({ code: 11000, keyPattern: { 'email.b': 1 } })
      expect(refused.message).toContain(`${c.namespace} index: email.b_1`)
    }
  })

  it('lets absent values pass a partial unique index', async () => {
    const partialFilterExpression = { token: { $type: 'binData' } }
    await c.createIndex({ token: 1 }, { unique: true, partialFilterExpression })
    await c.insertMany([{ a: 1 }, { a: 2 }])
    await c.insertOne({ token: new Binary(Buffer.from('t')) })
    expect(await refusal(c.insertOne({ token: new Binary(Buffer.from('t')) }))).toMatchObject({ code: 11000 })
  })

  it('makes, lists and drops indexes', async () => {
    await c.createIndexes([
      { key: { a: 1 } },
      { key: { b: -1, c: 1 }, name: 'two' },
      { key: { at: 1 }, expireAfterSeconds: 60 },
    ])
    const names = async () => (await c.indexes()).map(({ name }) => name)
    expect(await names()).toEqual(['_id_', 'a_1', 'two', 'at_1'])
    await c.dropIndex('two')
    expect(await names()).toEqual(['_id_', 'a_1', 'at_1'])
    expect(await refusal(c.dropIndex('two'))).toMatchObject({ code: 27, codeName: 'IndexNotFound' })
    await c.dropIndexes()
    expect(await names()).toEqual(['_id_'])
  })

  it('makes indexes while documents are written', async () => {
    const keys = ['a', 'b', 'c', 'd'] as const
    const write = (n: number) => c.updateOne({ n }, { $set: { a: n, b: n } }, { upsert: true })
    await Promise.all([...keys.map((key) => c.createIndex({ [key]: 1 })), ...numbers(30).map(({ n }) => write(n))])
    expect(await c.countDocuments()).toBe(30)
    expect(await c.indexes()).toHaveLength(5)
  })

  it('says that a query uses an index', async () => {
    await c.insertMany(numbers(1000))
    await c.createIndex({ n: 1 })
    expect(JSON.stringify(await c.find({ n: 5 }).explain())).toContain('IXSCAN')
    expect(JSON.stringify(await c.find({ other: 5 }).explain())).toContain('COLLSCAN')
  })

  it('aggregates: join, facet, group, unwind, write to another collection', async () => {
    await db.collection('owners').insertMany([{ _id: 'o1' as never, name: 'Ada' }])
    await c.insertMany([
      { owner: 'o1', tags: ['a', 'b'], n: 1 },
      { owner: 'o1', tags: ['b'], n: 2 },
    ])
    const [joined] = await c
      .aggregate([
        { $lookup: { from: 'owners', localField: 'owner', foreignField: '_id', as: 'o' } },
        {
          $facet: {
            tags: [{ $unwind: '$tags' }, { $sortByCount: '$tags' }],
            sum: [{ $group: { _id: '$o.name', n: { $sum: '$n' } } }],
          },
        },
      ])
      .toArray()
    expect(joined).toEqual({
      tags: [
        { _id: 'b', count: 2 },
        { _id: 'a', count: 1 },
      ],
      sum: [{ _id: ['Ada'], n: 3 }],
    })
    await c.aggregate([{ $match: { n: 2 } }, { $merge: { into: 'merged' } }]).toArray()
    await c.aggregate([{ $match: { n: 1 } }, { $out: 'written' }]).toArray()
    expect(await db.collection('merged').countDocuments()).toBe(1)
    expect(await db.collection('written').distinct('n')).toEqual([1])
  })

  it('counts, estimates and lists distinct values', async () => {
    await c.insertMany([{ a: 1 }, { a: 1 }, { a: [2, 3] }])
    expect(await c.countDocuments({ a: 1 })).toBe(2)
    expect(await c.estimatedDocumentCount()).toBe(3)
    expect(new Set(await c.distinct('a'))).toEqual(new Set([1, 2, 3]))
  })

  it('accepts what drivers send along: concerns, comments, read preference, hints, collation', async () => {
    await c.createIndex({ n: 1 }, { name: 'n' })
    const written = db.collection(c.collectionName, { writeConcern: { w: 'majority', wtimeoutMS: 1000 } })
    await written.insertOne({ n: 1, s: 'Ä' }, { comment: 'c' })
    const read = db.collection(c.collectionName, {
      readConcern: { level: 'majority' },
      readPreference: 'primaryPreferred',
    })
    expect(await read.find({ n: 1 }, { hint: 'n', maxTimeMS: 5000, comment: 'c' }).toArray()).toHaveLength(1)
    const collation = { locale: 'de', strength: 1 }
    expect(await read.find({ s: 'ä' }, { collation }).toArray()).toHaveLength(1)
    expect(await c.updateOne({ n: 1 }, { $set: { m: 1 } }, { hint: 'n' })).toMatchObject({ matchedCount: 1 })
  })

  it('takes a write that nobody waits for', async () => {
    await c.insertOne({ n: 1 }, { writeConcern: { w: 0 } })
    await expect.poll(() => c.countDocuments()).toBe(1)
  })

  it('makes, lists, alters, renames and drops collections and databases', async () => {
    await db.createCollection('made', { validator: { a: { $exists: true } } })
    await db.createCollection('seen', { viewOn: 'made', pipeline: [] })
    const options = { nameOnly: true } as const
    const listed = await db.listCollections({ name: /^(made|seen)$/ }, options).toArray()
    expect(Object.fromEntries(listed.map(({ name, type }) => [name, type]))).toEqual({
      made: 'collection',
      seen: 'view',
    })
    expect(await refusal(db.collection('made').insertOne({ b: 1 }))).toMatchObject({ code: 121 })
    await db.command({ collMod: 'made', validationLevel: 'off' })
    await db.collection('made').insertOne({ b: 1 })
    expect(await db.collection('seen').countDocuments()).toBe(1)
    await db.renameCollection('made', 'renamed')
    expect(await db.collection('renamed').drop()).toBe(true)
    const other = client.db(`${database.name}_other`)
    await other.collection('x').insertOne({})
    expect((await client.db().admin().listDatabases()).databases.map(({ name }) => name)).toContain(other.databaseName)
    await other.dropDatabase()
    expect(await other.listCollections().toArray()).toEqual([])
  })

  it('names unknown commands and operators by the codes that MongoDB uses', async () => {
    expect(await refusal(db.command({ noSuchCommand: 1 }))).toMatchObject({ code: 59, codeName: 'CommandNotFound' })
    expect(await refusal(c.find({ a: { $noSuch: 1 } }).toArray())).toMatchObject({ code: 2, codeName: 'BadValue' })
    await c.insertOne({ _id: 1 as never })
    expect(await refusal(c.aggregate([{ $noSuch: {} }]).toArray())).toMatchObject({ code: 40324 })
    expect(await refusal(c.find({}, { projection: { a: 1, b: 0 } }).toArray())).toMatchObject({ code: 31254 })
    expect(await refusal(c.updateOne({}, { $set: { _id: 2 } }))).toMatchObject({ code: 66 })
    expect(await refusal(c.updateOne({}, { $set: { a: 1 }, $inc: { a: 1 } }))).toMatchObject({ code: 40 })
  })
})
