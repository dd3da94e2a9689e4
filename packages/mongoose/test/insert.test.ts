import { inspect } from 'node:util'
import { isFieldsealError } from '@fieldseal/core'
import { hasMongo } from '@fieldseal/servers/vitest'
import mongoose, { Schema, Types } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { comparable } from './support/comparable.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

const { ObjectId } = mongoose.mongo

describe.runIf(hasMongo())('insert', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const patients = (options: Record<string, unknown> = {}): LooseModel =>
    clinic.model(
      new Schema(
        {
          name: { type: String, encrypted: true },
          email: { type: String, encrypted: { blindIndex: { normalize: 'email', unique: true } } },
          address: { street: { type: String, encrypted: true }, city: String },
          visits: [{ note: { type: String, encrypted: true }, at: Date }],
          phones: { type: Map, of: { type: String, encrypted: true } },
          tags: { type: [String], encrypted: true, default: undefined },
          ward: String,
        },
        options,
      ),
    )
  const fullDocument = () => ({
    name: clinic.secret('Ada Lovelace'),
    email: clinic.secret('ada@insert.example'),
    address: { street: clinic.secret('Insert Street 1'), city: 'London' },
    visits: [{ note: clinic.secret('insert visit note'), at: new Date(1) }],
    phones: { work: clinic.secret('555-insert') },
    tags: [clinic.secret('insert tag')],
    ward: 'north',
  })
  const contentOf = async (model: LooseModel, filter: Record<string, unknown> = {}) => {
    const { _id, __v, ...content } = (await model.findOne(filter).lean()) as Record<string, unknown>
    return content
  }
  /** What the driver says of a document without the ids that Mongoose gives to the elements of arrays. */
  const withoutIds = (value: unknown): unknown =>
    JSON.parse(JSON.stringify(value, (key, each: unknown) => (key === '_id' ? undefined : each)))

  const ways: readonly [string, (model: LooseModel, document: object) => Promise<unknown>][] = [
    ['save', (Model, document) => new Model(document).save()],
    ['create', (Model, document) => Model.create(document)],
    ['create of a list', (Model, document) => Model.create([document], { ordered: true })],
    [
      'insertOne',
      (Model, document) => (Model as unknown as { insertOne(given: object): Promise<unknown> }).insertOne(document),
    ],
    ['save without middleware', (Model, document) => new Model(document).save({ middleware: false } as never)],
    ['save without validation', (Model, document) => new Model(document).save({ validateBeforeSave: false })],
    ['insertMany', (Model, document) => Model.insertMany([document])],
    ['insertMany of lean objects', (Model, document) => Model.insertMany([document], { lean: true })],
    [
      'insertMany, unordered, raw result',
      (Model, document) => Model.insertMany([document], { ordered: false, rawResult: true }),
    ],
    ['insertMany of documents', (Model, document) => Model.insertMany([new Model(document)])],
    ['bulkWrite insertOne', (Model, document) => Model.bulkWrite([{ insertOne: { document } }])],
    ['bulkSave', (Model, document) => Model.bulkSave([new Model(document)])],
    ['Model.collection.insertOne', (Model, document) => Model.collection.insertOne(document)],
    ['Model.collection.insertMany', (Model, document) => Model.collection.insertMany([document])],
    [
      'connection.collection(…).insertOne',
      (Model, document) => clinic.connection.collection(Model.collection.collectionName).insertOne(document),
    ],
    [
      'findOneAndUpdate with upsert',
      (Model, document) => Model.findOneAndUpdate({ ward: 'north' }, { $set: document }, { upsert: true }),
    ],
    ['replaceOne with upsert', (Model, document) => Model.replaceOne({ ward: 'north' }, document, { upsert: true })],
  ]
  for (const [way, insert] of ways)
    it(`${way}: every encrypted path is sealed, the caller's objects stay as they are, and it is read back`, async () => {
      const Patient = patients()
      const document = fullDocument()
      const before = structuredClone(document)
      await insert(Patient, document)
      const { _id, __v, ...after } = document as Record<string, unknown> // as Mongoose and the driver set them
      expect(after).toEqual(before)
      expect(withoutIds(await contentOf(Patient))).toEqual(withoutIds(before))
    })

  protects('save', 'a new document is sealed as it is after setters, defaults and middleware', async () => {
    const schema = new Schema({
      name: { type: String, encrypted: true, uppercase: true, trim: true },
      token: { type: String, encrypted: true, default: () => clinic.secret('a default that is computed') },
      note: { type: String, encrypted: true },
    })
    schema.pre('save', function (this: { note: string }) {
      this.note = clinic.secret('a note from middleware')
    })
    const Patient = clinic.model(schema)
    clinic.secret('ADA OF SETTERS')
    await Patient.create({ name: ` ${clinic.secret('ada of setters')} ` })
    expect(await contentOf(Patient)).toEqual({
      name: 'ADA OF SETTERS',
      token: 'a default that is computed',
      note: 'a note from middleware',
    })
  })

  protects('save', 'null, missing and empty values are stored as such and keep apart', async () => {
    const Patient = patients()
    await Patient.create([
      { name: null, visits: [], phones: {}, tags: [], ward: 'one' },
      { name: '', visits: [{ note: null }, { note: '' }, {}], tags: null, ward: 'two' },
    ])
    expect(withoutIds(await contentOf(Patient, { ward: 'one' }))).toEqual({
      name: null,
      visits: [],
      phones: {},
      tags: [],
      ward: 'one',
    })
    expect(withoutIds(await contentOf(Patient, { ward: 'two' }))).toEqual({
      name: '',
      visits: [{ note: null }, { note: '' }, {}],
      tags: null,
      ward: 'two',
    })
    const [one, two] = (await clinic.stored(Patient)) as Record<string, unknown>[]
    expect(one).toMatchObject({ name: null })
    expect(two?.['name']).not.toBe('')
  })

  protects('insertMany', 'lean objects get their _id, as the driver gives it, and nothing else', async () => {
    const Patient = patients()
    const documents: Record<string, unknown>[] = [
      { name: clinic.secret('lean one') },
      { name: clinic.secret('lean two') },
    ]
    await Patient.insertMany(documents, { lean: true })
    for (const document of documents) {
      expect(Object.keys(document).sort()).toEqual(['_id', 'name'])
      expect((await Patient.findById(document['_id'])).name).toBe(document['name'])
    }
  })

  protects(
    'insertMany',
    'unordered, a duplicate of a unique value fails alone and is told without the value',
    async () => {
      const Patient = patients()
      await Patient.init()
      await Patient.create({ email: clinic.secret('taken@insert.example') })
      const documents = [
        clinic.secret('first@insert.example'),
        'TAKEN@insert.example',
        clinic.secret('last@insert.example'),
      ]
      clinic.secret('TAKEN@insert.example')
      const error: unknown = await Patient.insertMany(
        documents.map((email) => ({ email })),
        { ordered: false },
      ).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 11000, writeErrors: [{ index: 1 }] })
      expect((error as { readonly insertedDocs: unknown[] }).insertedDocs).toHaveLength(2)
      expect(String(error)).not.toContain('insert.example')
      expect((await Patient.find().lean()).map(({ email }: { email: string }) => email)).toEqual([
        'taken@insert.example',
        'first@insert.example',
        'last@insert.example',
      ])
    },
  )

  it('shows no document in what is printed of an error, and keeps those that Mongoose puts there', async () => {
    const Patient = patients()
    await Patient.init()
    await Patient.create({ email: clinic.secret('printed@insert.example') })
    const documents = [{ email: 'printed@insert.example' }, { email: clinic.secret('beside@insert.example') }]
    for (const options of [{ ordered: false }, { ordered: false, rawResult: true }, { ordered: true }]) {
      const error = await Patient.insertMany(documents, options).then(
        () => undefined,
        (thrown: Error & { insertedDocs: unknown[]; results?: unknown[] }) => thrown,
      )
      expect(error?.insertedDocs).toHaveLength(options.ordered ? 0 : 1)
      if (!options.ordered) expect(error?.results).toHaveLength(2)
      expect(inspect(error, { depth: Number.POSITIVE_INFINITY }) + JSON.stringify(error)).not.toContain(
        'insert.example',
      )
      await Patient.deleteMany({ email: 'beside@insert.example' })
    }
    const outdated = await Patient.findOne({})
    await Patient.updateOne({ _id: outdated._id }, { $inc: { __v: 1 } })
    outdated.visits = [{ note: clinic.secret('note of an outdated document') }]
    const incomplete: unknown = await Patient.bulkSave([outdated]).catch((thrown: unknown) => thrown)
    expect(incomplete).toMatchObject({ name: 'MongooseBulkSaveIncompleteError' })
    expect(inspect(incomplete, { depth: Number.POSITIVE_INFINITY })).not.toContain('note of an outdated')
  })

  protects(
    'insertMany',
    'ordered, it stops at a duplicate, and the index of the error is that of the document',
    async () => {
      const Patient = patients()
      await Patient.init()
      const emails = ['a', 'b', 'a', 'c'].map((name) => clinic.secret(`ordered-${name}@insert.example`))
      const error: unknown = await Patient.insertMany(emails.map((email) => ({ email }))).catch(
        (thrown: unknown) => thrown,
      )
      expect(error).toMatchObject({ code: 11000, writeErrors: [{ index: 2 }] })
      expect(await Patient.countDocuments()).toBe(2)
    },
  )

  protects('insertMany', 'rawResult tells the ids that were inserted', async () => {
    const Patient = patients()
    const result = await Patient.insertMany([{ name: clinic.secret('raw one') }, { name: clinic.secret('raw two') }], {
      rawResult: true,
    })
    const ids = (await Patient.find().lean()).map(({ _id }: { _id: unknown }) => comparable(_id))
    expect(result).toMatchObject({ acknowledged: true, insertedCount: 2 })
    expect(Object.values((result as unknown as { insertedIds: object }).insertedIds).map(comparable)).toEqual(ids)
  })

  protects(
    'insertMany',
    'unordered, a document that does not validate is left out and its value is in no error',
    async () => {
      const Patient = clinic.model(new Schema({ name: { type: String, encrypted: true, maxlength: 12 }, ward: String }))
      const result = await Patient.insertMany(
        [{ name: clinic.secret('short name') }, { name: clinic.secret('a name that is much too long') }],
        { ordered: false, rawResult: true },
      )
      const { validationErrors } = (result as unknown as { mongoose: { validationErrors: Error[] } }).mongoose
      expect(validationErrors).toHaveLength(1)
      expect(String(validationErrors[0]?.message)).not.toContain('much too long')
      expect(await Patient.countDocuments()).toBe(1)
    },
  )

  it('binds a document to the _id it has, given, made here, or asked of the server', async () => {
    const Patient = patients()
    const _id = new ObjectId()
    await Patient.create({ _id, name: clinic.secret('given id') })
    await Patient.collection.insertOne({ name: clinic.secret('made id') })
    await Patient.collection.insertOne({ name: clinic.secret('server id') }, { forceServerObjectId: true })
    expect((await Patient.findById(_id)).name).toBe('given id')
    expect((await Patient.find().lean()).map(({ name }: { name: string }) => name)).toEqual([
      'given id',
      'made id',
      'server id',
    ])
    const stored = await clinic.stored(Patient)
    const [one, other] = stored as [{ _id: unknown; name: unknown }, { _id: unknown; name: unknown }]
    await clinic.connection.db
      ?.collection(Patient.collection.collectionName)
      .updateOne({ _id: other._id as never }, { $set: { name: one.name } })
    await expect(Patient.findById(other._id)).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
  })

  protects('insertMany', 'objects whose _id is null or undefined are bound to the one that they get', async () => {
    const Patient = patients()
    const documents = [
      { _id: undefined, name: clinic.secret('undefined id') },
      { _id: null, name: clinic.secret('null id') },
    ]
    await Patient.insertMany(documents, { lean: true })
    await Patient.collection.insertOne({ _id: undefined, name: clinic.secret('undefined id alone') } as never)
    await Patient.bulkWrite([
      { insertOne: { document: { _id: undefined, name: clinic.secret('undefined id in bulk') } } },
    ])
    expect((await Patient.find().lean()).map(({ name }: { name: string }) => name)).toEqual([
      'undefined id',
      'null id',
      'undefined id alone',
      'undefined id in bulk',
    ])
    for (const { _id, name } of documents) expect((await Patient.findById(_id)).name).toBe(name)
  })

  refuses(
    'insertOne',
    'a document that names __fieldseal itself',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'reserved' },
    () => patients().collection.insertOne({ name: clinic.secret('spoofing keys'), __fieldseal: { k: [] } }),
  )

  refuses(
    'insertOne',
    'a key with dots that spells an encrypted path',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'dotted-key' },
    () => patients().collection.insertOne({ 'address.street': clinic.secret('street by a dotted key') }),
  )

  refuses(
    'insertOne',
    'a reference where the schema has a document',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'value-on-parent' },
    () =>
      patients().collection.insertOne({
        address: new mongoose.mongo.DBRef('c', new ObjectId(), 'd', { street: clinic.secret('street in a reference') }),
      }),
  )

  it('seals what toBSON of an object says, once, and never lets it speak after sealing', async () => {
    const Patient = patients()
    const street = clinic.secret('street of toBSON')
    class Address {
      toBSON() {
        return { street, city: 'London' }
      }
    }
    const speaking = () => ({ street })
    await Patient.collection.insertOne({ address: new Address(), ward: 'class' })
    await Patient.collection.insertOne({ address: { city: 'Paris', toBSON: speaking }, ward: 'own' })
    await Patient.collection.insertOne({ address: { toBSON: () => ({ street, toBSON: speaking }) }, ward: 'twice' })
    await Patient.collection.insertOne({ toBSON: () => ({ address: { street }, ward: 'root' }) })
    await Patient.collection.insertOne({
      visits: Object.assign([], { toBSON: () => [{ note: street }] }),
      ward: 'array',
    })
    await Patient.collection.updateOne({ ward: 'class' }, { $set: { toBSON: () => ({ name: street }) } as never })
    await Patient.collection.updateOne(
      { ward: 'array' },
      { $push: { visits: { $each: [], toBSON: () => ({ note: street }) } as never } },
    )
    expect((await Patient.findOne({ ward: 'class' }).lean()).address).toEqual({ street, city: 'London' })
    expect((await Patient.findOne({ ward: 'own' }).lean()).address).toEqual({ street })
    expect((await Patient.findOne({ ward: 'root' }).lean()).address).toEqual({ street })
  })

  it('seals a document that pretends to be of a BSON type', async () => {
    const Patient = patients()
    const street = clinic.secret('street of no BSON type')
    await Patient.collection.insertOne({ address: { _bsontype: null, street } })
    await Patient.collection.insertOne({ address: { _bsontype: undefined, street } })
    for (const document of await Patient.find().lean()) expect(document.address.street).toBe(street)
    await expect(Patient.collection.insertOne({ address: { _bsontype: 'ObjectId', street } })).rejects.toThrow()
  })

  refuses(
    'native insertOne',
    'plaintext that toBSON of an object says, whatever else the object pretends',
    { code: 'ERR_PLAINTEXT_BLOCKED' },
    async () => {
      const Patient = patients()
      const street = clinic.secret('street of a native insert')
      const native = clinic.connection.db?.collection(Patient.collection.collectionName)
      for (const address of [
        { _bsontype: null, street },
        { toBSON: () => ({ street }) },
        new mongoose.mongo.DBRef('c', new ObjectId(), 'd', { street }),
      ])
        await expect(native?.insertOne({ address } as never)).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_BLOCKED' })
      await expect(native?.insertOne(new Patient({ address: { street } }) as never)).rejects.toMatchObject({
        code: 'ERR_PLAINTEXT_BLOCKED',
      })
      await native?.insertOne({ address: { _bsontype: null, toBSON: () => ({ street }) } } as never)
    },
  )

  describe('of limited values', () => {
    const limited = (encrypted: Record<string, unknown>, of: unknown = String) =>
      clinic.model(new Schema({ value: { type: of as never, encrypted } }))

    refuses('save', 'a value longer than maxBytes, told without it', { code: 'ERR_VALUE_INVALID' }, async () => {
      const Patient = limited({ maxBytes: 8 })
      await Patient.create({ value: clinic.secret('12345678') })
      await Patient.create({ value: clinic.secret('123456789 and more') }).catch((error: Error) => {
        expect(error.message).not.toContain('123456789')
        throw error
      })
    })

    refuses('save', 'a value that is none of the declared ones', { code: 'ERR_VALUE_INVALID' }, async () => {
      const Patient = limited({ values: ['positive', 'negative'] })
      await Patient.create({ value: 'positive' })
      await Patient.create({ value: clinic.secret('neither of the declared') })
    })

    it('pads to a multiple, so that lengths tell nothing', async () => {
      const Patient = limited({ padToBytes: 64 })
      for (const length of [0, 1, 63, 64]) await Patient.create({ value: 'x'.repeat(length) })
      const lengths = (await clinic.stored(Patient)).map(({ value }) => (value as { length(): number }).length())
      expect(new Set(lengths).size).toBe(1)
      expect((await Patient.find().lean()).map(({ value }: { value: string }) => value.length)).toEqual([0, 1, 63, 64])
    })

    it('pads declared values to the longest', async () => {
      const Patient = limited({ values: ['a', 'a much longer one'] })
      await Patient.create([{ value: 'a' }, { value: 'a much longer one' }])
      const lengths = (await clinic.stored(Patient)).map(({ value }) => (value as { length(): number }).length())
      expect(new Set(lengths).size).toBe(1)
    })
  })

  describe('of nulls that are encrypted', () => {
    const schema = () =>
      new Schema({
        note: { type: String, encrypted: { encryptNull: true } },
        visits: [{ result: { type: String, encrypted: { encryptNull: true } } }],
        lab: { result: { type: Number, encrypted: { encryptNull: true } } },
        any: { type: Schema.Types.Mixed, encrypted: { encryptNull: true } },
      })

    protects(
      'save',
      'null, undefined and missing are stored as the same ciphertext as a short value, and read as null',
      async () => {
        const Patient = clinic.model(schema())
        await Patient.create({ note: null, visits: [{ result: null }, {}], lab: { result: null } })
        await Patient.insertMany([{ note: undefined, visits: [{ result: undefined }], lab: {}, any: undefined }], {
          lean: true,
        })
        await Patient.create({ note: 'short', visits: [{ result: 'short' }], lab: { result: 1 }, any: 1 })
        for (const document of await clinic.stored(Patient)) {
          const { note, visits } = document as unknown as {
            note: { length(): number }
            visits: { result: { length(): number } }[]
          }
          expect(note.length()).toBe(112 + 4 + 16)
          for (const { result } of visits) expect(result.length()).toBe(112 + 4 + 16)
        }
        const [first, second, third] = await Patient.find().lean()
        expect(withoutIds(first)).toMatchObject({
          note: null,
          visits: [{ result: null }, { result: null }],
          lab: { result: null },
        })
        expect(withoutIds(second)).toMatchObject({ note: null, visits: [{ result: null }], any: null })
        expect(withoutIds(third)).toMatchObject({
          note: 'short',
          visits: [{ result: 'short' }],
          lab: { result: 1 },
          any: 1,
        })
      },
    )

    protects('updateOne upsert', 'what an upsert does not name is stored as the same ciphertext too', async () => {
      const Patient = clinic.model(schema())
      const upsert = { upsert: true }
      await Patient.updateOne({ _id: new Types.ObjectId() }, {}, upsert)
      await Patient.updateOne({ 'lab.other': 1 }, { $set: { any: 1 } }, { ...upsert, strict: false })
      await Patient.findOneAndUpdate(
        { _id: new Types.ObjectId() },
        { $set: { 'lab.result': 2 }, $unset: { note: 1 } },
        upsert,
      )
      await Patient.bulkWrite([
        { updateOne: { filter: { _id: new Types.ObjectId() }, update: { lab: {} }, upsert: true } },
      ])
      await Patient.replaceOne({ _id: new Types.ObjectId() }, { lab: {} }, upsert)
      const stored = await clinic.stored(Patient)
      expect(stored).toHaveLength(5)
      for (const { note, any, lab } of stored as unknown as Record<string, { length(): number; result?: unknown }>[]) {
        for (const leaf of [note, any]) expect(leaf?.length()).toBe(112 + 4 + 16)
        if (lab !== undefined) expect(lab.result).toBeDefined()
      }
      const found = await Patient.find().lean()
      for (const each of found) expect(each).toMatchObject({ note: null })
      expect(found.filter(({ any }) => any === null)).toHaveLength(4)
      const first = found.find(({ any }) => any === null)
      await Patient.updateOne({ _id: first?._id }, { $set: { note: 'kept' } }, upsert)
      await Patient.updateOne({ _id: first?._id }, { $set: { 'lab.result': 3 } }, upsert)
      expect(await Patient.findOne({ _id: first?._id }).lean()).toMatchObject({
        note: 'kept',
        any: null,
        lab: { result: 3 },
      })
      await expect(
        Patient.updateOne({ _id: new Types.ObjectId() }, [{ $set: { plain: 1 } }], {
          ...upsert,
          updatePipeline: true,
        } as never),
      ).rejects.toMatchObject({ code: 'ERR_WRITE_UNSUPPORTED', details: { reason: 'pipeline-update' } })
    })

    protects('save', 'setting to null, to undefined and back writes ciphertext each time', async () => {
      const Patient = clinic.model(schema())
      const document = await Patient.create({
        note: clinic.secret('note to be nulled'),
        any: { a: clinic.secret('any to be nulled') },
      })
      for (const value of [null, undefined, clinic.secret('note is back')]) {
        document.note = value
        document.any = value
        await document.save()
        const [{ note, any }] = (await clinic.stored(Patient)) as unknown as [Record<string, { length(): number }>]
        expect(note?.length()).toBe(132)
        expect(any?.length()).toBeGreaterThanOrEqual(132)
        const found = await Patient.findById(document._id).lean()
        expect(found).toMatchObject({ note: value ?? null, any: value ?? null })
      }
    })

    protects('findById', 'a null that somebody put into the database is an error', async () => {
      const Patient = clinic.model(schema())
      const { _id } = await Patient.create({ note: clinic.secret('note to be removed') })
      await clinic.connection.db
        ?.collection(Patient.collection.collectionName)
        .updateOne({ _id }, { $set: { note: null } })
      await expect(Patient.findById(_id)).rejects.toSatisfy(isFieldsealError)
    })
  })
})

describe.runIf(hasMongo())('insert of too much', () => {
  const clinic = useClinic({ tenancy: 'single' })

  protects('save', 'more than 16 MiB of ciphertext is an error, and the document stays new', async () => {
    const Patient = clinic.model(new Schema({ scans: [{ type: Buffer, encrypted: true }] }))
    const document = new Patient({ scans: Array.from({ length: 17 }, () => Buffer.alloc(1_048_000, 1)) })
    await expect(document.save()).rejects.toThrow(/size|large|16/i)
    expect(document.isNew).toBe(true)
  })
})
