import { createFieldseal } from '@fieldseal/core'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { memoryKeyStore } from '@fieldseal/testkit'
import mongoose, { Schema, type Connection } from 'mongoose'
import { afterEach, describe, expect, it } from 'vitest'
import { stateOf } from '../src/install/intercept.ts'
import { fieldsealPlugin } from '../src/index.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects } from './support/operation.ts'

const schema = () =>
  new Schema({
    name: String,
    email: { type: String, encrypted: { blindIndex: true } },
    age: { type: Number, encrypted: true },
  })

describe.runIf(hasMongo())('models and connections', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const database = useMongoDatabase()
  const opened: mongoose.Mongoose[] = []
  const fresh = () => {
    const own = new mongoose.Mongoose()
    own.plugin(fieldsealPlugin as never, { fieldseal: clinic.fieldseal })
    opened.push(own)
    return own
  }
  afterEach(async () => {
    for (const own of opened.splice(0)) await own.disconnect()
  })
  const monitored = { monitorCommands: true } as const

  /** Writes and reads in most ways, and looks at what the driver finds. */
  async function works(given: unknown): Promise<void> {
    const Model = given as LooseModel
    const email = `${new mongoose.Types.ObjectId().toHexString()}@example.org`
    const made = await Model.create({ name: 'plain', email, age: 30 })
    await Model.updateOne({ email }, { $inc: { age: 1 } })
    await Model.insertMany([{ name: 'other', email: `x${email}`, age: 1 }])
    expect(await Model.findOne({ email }).lean()).toMatchObject({ email, age: 31 })
    const found = await Model.findById(made._id)
    found.age = 32
    await found.save()
    const [stored] = (await nativeOf(Model)
      .find({ _id: made._id } as never)
      .toArray()) as Record<string, unknown>[]
    expect(stored).toMatchObject({ name: 'plain', email: { c: { sub_type: 128 } }, age: { sub_type: 128 } })
    expect(stored?.['__fieldseal']).toBeDefined()
    await expect(nativeOf(Model).insertOne({ email } as never)).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_BLOCKED' })
    await Model.deleteMany({})
  }
  function nativeOf({ db, collection }: LooseModel) {
    if (db.db === undefined) throw new Error('not connected')
    return db.db.collection(collection.collectionName)
  }

  protects('useDb', 'a model on another database of the same client, made before or after', async () => {
    const other = clinic.connection.useDb(`${database.name}_other`, { useCache: true })
    const Other = other.model('Shared', schema())
    await works(Other)
    await works(clinic.model(schema(), 'Shared'))
    await works(Other)
    await other.dropDatabase()
  })

  protects('useDb', 'before the connection is open', async () => {
    const own = fresh()
    const other = own.connection.useDb(`${database.name}_early`)
    const Early = other.model('Early', schema())
    const pending = Early.create({ email: 'early@example.org' })
    await own.connect(database.uri, monitored)
    await pending
    await works(Early)
    await other.dropDatabase()
  })

  protects('createConnection', 'two connections with the same schema, each guarded by itself', async () => {
    const own = fresh()
    const shared = schema()
    const [one, two] = [1, 2].map(() => own.createConnection(database.uri, monitored)) as [Connection, Connection]
    const [First, Second] = [one.model('Twice', shared), two.model('Twice', shared)]
    await works(First)
    await works(Second)
    expect(stateOf(First.collection)).not.toBe(stateOf(Second.collection))
  })

  protects('createConnection', 'a schema on two connections has its indexes once', async () => {
    const own = fresh()
    const shared = schema()
    const [one, two] = [1, 2].map(() => own.createConnection(database.uri, monitored)) as [Connection, Connection]
    one.model('Indexed', shared)
    const count = shared.indexes().length
    two.model('Indexed', shared)
    expect(shared.indexes()).toHaveLength(count)
  })

  protects('model', 'a schema of another copy of Mongoose keeps its protection when it is copied', async () => {
    const own = new mongoose.Mongoose()
    opened.push(own)
    await own.connect(database.uri, monitored)
    const elsewhere = schema()
    elsewhere.plugin(fieldsealPlugin, { fieldseal: clinic.fieldseal })
    expect(elsewhere).not.toBeInstanceOf(own.Schema)
    await works(own.model('Copied', elsewhere))
    await works(own.connection.model('CopiedToo', elsewhere))
    await works(own.createConnection(database.uri, monitored).model('CopiedThrice', elsewhere.clone()))
  })

  protects('connection.model', 'a model class passed on to another connection by its schema', async () => {
    const own = fresh()
    await own.connect(database.uri, monitored)
    const Model = own.model('Handed', schema())
    const another = own.createConnection(database.uri, monitored)
    await another.asPromise()
    await works(another.model('Handed', Model.schema))
    await works(Model)
  })

  protects('model', 'the same model on another collection is protected there too', async () => {
    const own = fresh()
    await own.connect(database.uri, monitored)
    const Base = own.model('Subclassed', schema(), 'subclassed_one')
    const Other = own.model<unknown>('Subclassed', undefined, 'subclassed_two')
    expect(Other.collection.collectionName).toBe('subclassed_two')
    await works(Base)
    await works(Other)
    await works(Base)
  })

  protects('useConnection', 'a model that moves to another connection is protected there', async () => {
    const own = fresh()
    const Model = own.model('Moving', schema())
    if (typeof Reflect.get(Model, 'useConnection') !== 'function') return
    await own.connect(database.uri, monitored)
    await works(Model)
    const another = await own.createConnection(database.uri, monitored).asPromise()
    Model.useConnection(another)
    expect(stateOf(Model.collection)).toBeDefined()
    expect(Model.db).toBe(another)
    await works(Model)
  })

  it('a model does not work on a connection that does not report its commands', async () => {
    const own = fresh()
    await own.connect(database.uri, monitored)
    const Model = own.model('Misled', schema())
    if (typeof Reflect.get(Model, 'useConnection') !== 'function') return
    const silent = await own.createConnection(database.uri).asPromise()
    expect(() => Model.useConnection(silent)).toThrow(/monitorCommands/)
    await expect(Model.create({ email: 'x@example.org' })).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' })
    await expect(Model.findOne()).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' })
  })

  protects('setDriver', 'models follow to the collections of another driver', async () => {
    const own = fresh()
    const Model = own.model('Driven', schema())
    const before = Model.collection
    const { __driver: driver } = own as unknown as { readonly __driver: object }
    ;(own as unknown as { setDriver(driver: object): void }).setDriver({ ...driver })
    expect(Model.collection).not.toBe(before)
    expect(stateOf(Model.collection)).toBeDefined()
    await own.connect(database.uri, monitored)
    await works(Model)
  })

  protects('deleteModel', 'a model that is made again is protected as its new schema says', async () => {
    const own = fresh()
    await own.connect(database.uri, monitored)
    await works(own.model('Again', schema()))
    own.deleteModel('Again')
    const Again = own.model('Again', schema().add({ phone: { type: String, encrypted: { blindIndex: true } } }))
    await works(Again)
    const Loose = Again as unknown as LooseModel
    await Loose.create({ email: 'p@example.org', phone: '555' })
    expect(await Loose.findOne({ phone: '555' })).toMatchObject({ phone: '555' })
    await expect(nativeOf(Loose).insertOne({ phone: '555' } as never)).rejects.toMatchObject({
      code: 'ERR_PLAINTEXT_BLOCKED',
    })
  })

  protects(
    'schema.add',
    'a path that is added after the model was made is encrypted, searchable and indexed',
    async () => {
      const Model = clinic.model(schema())
      await Model.init()
      Model.schema.add({ late: { type: String, encrypted: { blindIndex: true } } } as never)
      const { insertedId } = await Model.collection.insertOne({ late: clinic.secret('added later') } as never)
      await Model.updateOne({ _id: insertedId }, { $set: { late: clinic.secret('changed later') } })
      expect(await Model.findOne({ late: 'changed later' }).lean()).toMatchObject({ late: 'changed later' })
      await Model.syncIndexes()
      expect(Object.keys(await Model.collection.indexInformation())).toContain('late.b_1')
      await expect(nativeOf(Model).insertOne({ late: 'added later' } as never)).rejects.toMatchObject({
        code: 'ERR_PLAINTEXT_BLOCKED',
      })
    },
  )

  it('a plain path that is declared encrypted after the model was made is encrypted from then on', async () => {
    const Model = clinic.model(
      new Schema({ note: String, at: { note: String }, email: { type: String, encrypted: true } }),
    )
    await Model.create({ note: 'public', at: { note: 'public' } })
    const encrypted = { type: String, encrypted: true }
    Model.schema.add({ note: encrypted, at: { note: encrypted } } as never)
    await Model.create({ note: clinic.secret('note declared later'), at: { note: clinic.secret('nested note later') } })
    await expect(nativeOf(Model).insertOne({ note: 'note' } as never)).rejects.toMatchObject({
      code: 'ERR_PLAINTEXT_BLOCKED',
    })
  })

  it('a path that is added is indexed without an operation in between', async () => {
    const Model = clinic.model(schema())
    await Model.init()
    Model.schema.add({ late: { type: String, encrypted: { blindIndex: true } } } as never)
    await Model.syncIndexes()
    expect(Object.keys(await Model.collection.indexInformation())).toContain('late.b_1')
  })

  it('a path that is added and cannot be encrypted is an error of the next operation', async () => {
    const Model = clinic.model(schema())
    Model.schema.add({ late: { type: String, encrypted: 'yes' } } as never)
    await expect(Model.create({ name: 'x' })).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' })
    await expect(Model.find()).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' })
  })

  describe('before the connection is open', () => {
    protects('buffering', 'operations that waited are encrypted once, and read as they were written', async () => {
      const own = fresh()
      const Model = own.model('Buffered', schema()) as unknown as LooseModel
      const created = Model.create({ email: 'buffered@example.org', age: 1 })
      const inserted = Model.insertMany([{ email: 'many@example.org', age: 2 }])
      const bulk = Model.bulkWrite([{ insertOne: { document: { email: 'bulk@example.org', age: 3 } } }])
      await new Promise((resolve) => setTimeout(resolve, 20))
      await own.connect(database.uri, monitored)
      const { _id } = await created
      await Promise.all([inserted, bulk])
      expect(await Model.find().sort({ _id: 1 }).lean()).toHaveLength(3)
      expect(await Model.findById(_id)).toMatchObject({ email: 'buffered@example.org', age: 1 })
      await works(Model)
    })

    protects('buffering', 'reads, updates, aggregates and cursors that waited', async () => {
      const writer = fresh()
      await writer.connect(database.uri, monitored)
      await (writer.model('Waiting', schema()) as unknown as LooseModel).create({ email: 'waits@example.org', age: 5 })
      const own = fresh()
      const Model = own.model('Waiting', schema()) as unknown as LooseModel
      const email = 'waits@example.org'
      const updated = Model.updateOne({ email }, { $inc: { age: 1 } }).exec()
      const replaced = Model.findOneAndUpdate({ email }, { $set: { name: 'new' } }, { returnDocument: 'after' })
        .lean()
        .exec()
      const counted = Model.countDocuments({ email }).exec()
      const cursor = Model.find({ email }).lean().cursor().next()
      const aggregated = Model.aggregate([{ $match: { email } }, { $limit: 1 }]).exec()
      const streamed = Model.aggregate([{ $match: { email } }])
        .cursor()
        .next()
      await own.connect(database.uri, monitored)
      expect(await updated).toMatchObject({ modifiedCount: 1 })
      expect(await replaced).toMatchObject({ email, name: 'new' })
      expect(await counted).toBe(1)
      expect(await cursor).toMatchObject({ email })
      expect(await aggregated).toMatchObject([{ email }])
      expect(await streamed).toMatchObject({ email })
      expect(await Model.findOne({ email })).toMatchObject({ age: 6 })
      await Model.deleteMany({})
    })

    protects('bufferTimeoutMS', 'what nobody waits for any more is an error, and is not sent later', async () => {
      const own = fresh()
      own.set('bufferTimeoutMS', 50)
      const Model = own.model('TimedOut', schema()) as unknown as LooseModel
      const document = new Model({ email: 'late@example.org', age: 1 })
      await expect(document.save()).rejects.toThrow(/buffering timed out/)
      await expect(Model.insertMany([{ email: 'late@example.org' }])).rejects.toThrow(/buffering timed out/)
      expect(document.isNew).toBe(true)
      await own.connect(database.uri, monitored)
      await new Promise((resolve) => setTimeout(resolve, 100))
      expect(await Model.countDocuments()).toBe(0)
      await document.save()
      expect(await Model.findOne({ email: 'late@example.org' })).toMatchObject({ age: 1 })
      await works(Model)
    })

    protects('bufferCommands', 'false: an error at once, and the document can be saved later', async () => {
      const own = fresh()
      const Model = own.model('Unbuffered', schema().set('bufferCommands', false)) as unknown as LooseModel
      const document = new Model({ email: 'now@example.org', age: 1 })
      await expect(document.save()).rejects.toThrow(/bufferCommands/)
      await own.connect(database.uri, monitored)
      await document.save()
      await works(Model)
    })
  })

  it('two Fieldseals for one collection are refused', async () => {
    const own = fresh()
    const another = createFieldseal({
      app: 'another',
      tenancy: 'single',
      keyStore: memoryKeyStore(),
      keys: { cmks: [clinic.kms.cmk('test-key')] },
    })
    own.model('Contested', schema(), 'contested')
    const twice = schema()
    twice.plugin(fieldsealPlugin as never, { fieldseal: another, deduplicate: false } as never)
    expect(() => own.model('Contested2', twice as never, 'contested')).toThrow(/two Fieldseals/)
    await another.close()
  })
})
