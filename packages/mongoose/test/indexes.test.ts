import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

const encrypted = { blindIndex: true } as const

/** What the database has, without what differs between servers. */
async function indexesOf(model: LooseModel) {
  const found = (await model.listIndexes()) as Record<string, unknown>[]
  return new Map(
    found.map(({ name, key, unique, partialFilterExpression }) => [name, { key, unique, partialFilterExpression }]),
  )
}

/** Nothing to do, however often it is asked. */
async function isStable(model: LooseModel): Promise<void> {
  expect(await model.syncIndexes()).toEqual([])
  const before = await indexesOf(model)
  expect(await model.diffIndexes()).toEqual({ toDrop: [], toCreate: [] })
  expect(await model.cleanIndexes()).toEqual([])
  await model.ensureIndexes()
  expect(await model.syncIndexes()).toEqual([])
  expect(await indexesOf(model)).toEqual(before)
}

describe.runIf(hasMongo())('indexes', () => {
  const clinic = useClinic({ tenancy: 'single' })

  protects('syncIndexes', 'blind indexes are there in both slots, and nothing changes any more', async () => {
    const Model = clinic.model(
      new Schema({
        name: { type: String, index: true },
        email: { type: String, encrypted },
        login: { type: String, encrypted: { blindIndex: { unique: true } } },
        tags: [{ type: String, encrypted }],
        history: [{ note: { type: String, encrypted } }],
        address: { zip: { type: String, encrypted } },
        phones: { type: Map, of: { type: String, encrypted } },
      }),
    )
    await Model.init()
    await isStable(Model)
    const indexes = await indexesOf(Model)
    expect([...indexes.keys()].map(String).toSorted()).toEqual(
      [
        '_id_',
        '__fieldseal.k_1',
        'name_1',
        ...['email', 'login', 'tags', 'history.note', 'address.zip'].flatMap((path) => [`${path}.b_1`, `${path}.n_1`]),
      ].toSorted(),
    )
    expect(indexes.get('login.b_1')).toMatchObject({
      unique: true,
      partialFilterExpression: { 'login.b': { $exists: true } },
    })
  })

  protects('syncIndexes', 'a compound index is one over tokens, with its options', async () => {
    const schema = new Schema({ name: String, email: { type: String, encrypted }, login: { type: String, encrypted } })
    schema.index({ name: 1, email: -1 }, { unique: true, name: 'by_name' })
    schema.index({ login: 1, email: 1 }, { partialFilterExpression: { name: 'x' } })
    const Model = clinic.model(schema)
    await Model.init()
    await isStable(Model)
    const indexes = await indexesOf(Model)
    expect(indexes.get('by_name')).toEqual({
      key: { name: 1, 'email.b': -1 },
      unique: true,
      partialFilterExpression: { 'email.b': { $exists: true } },
    })
    expect(indexes.get('by_name_next')).toMatchObject({ key: { name: 1, 'email.n': -1 }, unique: true })
    expect(indexes.get('login.b_1_email.b_1')).toMatchObject({
      partialFilterExpression: { name: 'x', 'login.b': { $exists: true }, 'email.b': { $exists: true } },
    })
    await Model.create({ name: 'x', email: clinic.secret('one@example.org') })
    await Model.create({ name: 'y', email: 'one@example.org' })
    await expect(Model.create({ name: 'x', email: 'one@example.org' })).rejects.toMatchObject({
      code: 11000,
      keyPattern: { name: 1, email: -1 },
      keyValue: { name: 'x', email: '[redacted]' },
    })
    await Model.create([{ name: 'x' }, { name: 'x' }, { name: 'x', email: null }])
  })

  protects('syncIndexes', 'models that share a schema, and the discriminators of one collection', async () => {
    const schema = new Schema({ email: { type: String, encrypted } })
    const [One, Two] = [clinic.model(schema), clinic.model(schema)]
    const Base = clinic.model(new Schema({ email: { type: String, encrypted: { blindIndex: { unique: true } } } }))
    const Nurse = Base.discriminator(
      `Nurse${Base.modelName}`,
      new Schema({ badge: { type: String, encrypted: { blindIndex: { unique: true } } } }),
    ) as unknown as LooseModel
    for (const model of [One, Two, Base, Nurse]) await model.init()
    for (const model of [One, Two, Base, Nurse, Base]) await isStable(model)
    await Nurse.create({ email: clinic.secret('n1@example.org'), badge: clinic.secret('badge-1') })
    await Base.create({ email: clinic.secret('n2@example.org') })
    await expect(Nurse.create({ email: clinic.secret('n3@example.org'), badge: 'badge-1' })).rejects.toMatchObject({
      code: 11000,
      keyPattern: { badge: 1 },
    })
  })

  protects('unique', 'a value stands once; documents without a value do not meet', async () => {
    const Model = clinic.model(
      new Schema({
        name: String,
        email: { type: String, encrypted: { blindIndex: { unique: true, normalize: 'email' } } },
      }),
    )
    await Model.init()
    await Model.create([{ name: 'a' }, { name: 'b' }, { name: 'c', email: null }])
    await Model.create({ email: clinic.secret('once@example.org') })
    const duplicate = { code: 11000, keyPattern: { email: 1 }, keyValue: { email: '[redacted]' } }
    await expect(Model.create({ email: ' ONCE@example.org ' })).rejects.toMatchObject(duplicate)
    await expect(Model.updateOne({ name: 'a' }, { email: 'Once@example.org' })).rejects.toMatchObject({ code: 11000 })
    await expect(Model.insertMany([{ email: 'once@example.org' }])).rejects.toMatchObject({ code: 11000 })
    await expect(Model.bulkWrite([{ insertOne: { document: { email: 'once@example.org' } } }])).rejects.toMatchObject({
      code: 11000,
    })
    await Model.deleteOne({ email: 'once@example.org' })
    await Model.create({ email: 'once@example.org' })
  })

  protects('unique', 'in an error is told by its path, in whatever property or text the driver puts it', async () => {
    const Model = clinic.model(new Schema({ email: { type: String, encrypted: { blindIndex: { unique: true } } } }))
    await Model.init()
    const email = clinic.secret('told-by-path@example.org')
    await Model.create({ email })
    const attempts: (() => Promise<unknown>)[] = [
      () => Model.create({ email }),
      () => Model.insertMany([{ email }, { email: 'second@example.org' }]),
      () => Model.insertMany([{ email }, { email }], { ordered: false }),
      () => Model.bulkWrite([{ insertOne: { document: { email } } }]),
      () =>
        Model.bulkWrite([{ updateOne: { filter: { email: 'x' }, update: { email }, upsert: true } }], {
          ordered: false,
        }),
      () => Model.findOneAndUpdate({ _id: '000000000000000000000000' }, { email }, { upsert: true }),
      () => Model.replaceOne({ _id: '000000000000000000000000' }, { email }, { upsert: true }),
    ]
    for (const attempt of attempts) {
      const error: unknown = await attempt().catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 11000 })
      const text = inspect(
        { error, ...Object(error), message: (error as Error).message },
        { depth: 12, showHidden: true },
      )
      expect(text).not.toContain(email)
    }
  })

  it.each([
    ['an index on one path', { email: { type: String, encrypted, index: true } }, /email.*blind index has one already/],
    [
      'a unique index on one path',
      { email: { type: String, encrypted, unique: true } },
      /blindIndex: \{ unique: true \}/,
    ],
    [
      'an index without a blind index',
      { ssn: { type: String, encrypted: true, index: true } },
      /ssn.*index would hold ciphertext/,
    ],
    ['a sparse index', { ssn: { type: String, encrypted: true, sparse: true } }, /ssn.*index would hold ciphertext/],
    ['a text index', { email: { type: String, encrypted, index: 'text' } }, /only plain ascending and descending/],
    ['a hashed index', { email: { type: String, encrypted, index: 'hashed' } }, /only plain ascending and descending/],
    ['an index that expires', { born: { type: Date, encrypted, expires: 60 } }, /only plain ascending and descending/],
    ['a place', { at: { type: [Number], encrypted: true, index: '2dsphere' } }, /at.*index would hold ciphertext/],
  ])('%s is refused when the model is made', (_name, definition, message) => {
    expect(() => clinic.model(new Schema(definition as never))).toThrow(message)
  })

  it('compound indexes of a kind that reads values are refused when the model is made', () => {
    for (const [keys, options] of [
      [{ name: 1, email: 'text' }, {}],
      [{ name: 1, ssn: 1 }, {}],
      [{ name: 1, email: 1 }, { expireAfterSeconds: 10 }],
      [{ name: 1, 'consent.text': 1 }, {}],
      [{ name: 1, address: 1 }, {}],
    ] as const) {
      const schema = new Schema({
        name: String,
        email: { type: String, encrypted },
        ssn: { type: String, encrypted: true },
        consent: { type: new Schema({ text: String }), encrypted: true },
        address: { street: { type: String, encrypted } },
      })
      schema.index(keys as never, options)
      expect(() => clinic.model(schema), JSON.stringify(keys)).toThrow(/ERR_CONFIG_INVALID/)
    }
  })

  it('a partial filter that compares an encrypted path is refused: it would never be met', () => {
    for (const filter of [{ email: 'a@example.org' }, { ssn: { $gt: '' } }, { $and: [{ ssn: 'x' }] }]) {
      const schema = new Schema({
        name: String,
        email: { type: String, encrypted },
        ssn: { type: String, encrypted: true },
      })
      schema.index({ name: 1 }, { partialFilterExpression: filter })
      expect(() => clinic.model(schema), JSON.stringify(filter)).toThrow(/ERR_CONFIG_INVALID/)
    }
    const schema = new Schema({ name: String, ssn: { type: String, encrypted: true } })
    schema.index({ name: 1 }, { partialFilterExpression: { ssn: { $exists: true } } })
    expect(() => clinic.model(schema)).not.toThrow()
  })

  refuses(
    'createIndex',
    'an index over ciphertext, made by hand',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'index' },
    () => clinic.model(new Schema({ ssn: { type: String, encrypted: true } })).collection.createIndex({ ssn: 1 }),
  )

  refuses(
    'createIndex',
    'for documents that have a certain encrypted value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'index' },
    () =>
      clinic
        .model(new Schema({ name: String, ssn: { type: String, encrypted: true } }))
        .collection.createIndex({ name: 1 }, { partialFilterExpression: { ssn: clinic.secret('partial value') } }),
  )

  refuses(
    'createIndexes',
    'several, of which one is over ciphertext',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'index' },
    () =>
      clinic
        .model(new Schema({ name: String, email: { type: String, encrypted } }))
        .collection.createIndexes([{ key: { name: 1 } }, { key: { email: 1 } }]),
  )

  protects('createIndex', 'over plain paths and over tokens', async () => {
    const Model = clinic.model(new Schema({ name: String, email: { type: String, encrypted } }))
    await Model.collection.createIndex({ name: 1, 'email.b': 1 })
    expect((await indexesOf(Model)).has('name_1_email.b_1')).toBe(true)
  })
})

describe.runIf(hasMongo())('unique blind indexes and tenants', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const as = <R>(tenant: string, run: () => Promise<R>) => clinic.fieldseal.runAs({ tenant }, run)

  protects('unique', 'once per tenant', async () => {
    const Model = clinic.model(
      new Schema(
        { clinic: String, email: { type: String, encrypted: { blindIndex: { unique: true } } } },
        { encrypted: { tenantBy: 'clinic' } },
      ),
    )
    await Model.init()
    await isStable(Model)
    expect((await indexesOf(Model)).get('email.b_1_clinic_1')).toMatchObject({ unique: true })
    const email = clinic.secret('per-tenant@example.org')
    await as('a', () => Model.create({ clinic: 'a', email }))
    await as('b', () => Model.create({ clinic: 'b', email }))
    await expect(as('a', () => Model.create({ clinic: 'a', email }))).rejects.toMatchObject({
      code: 11000,
      keyPattern: { email: 1, clinic: 1 },
      keyValue: { email: '[redacted]', clinic: 'a' },
    })
  })

  protects('unique', 'acrossTenants: once for all', async () => {
    const Model = clinic.model(
      new Schema(
        { clinic: String, login: { type: String, encrypted: { blindIndex: { unique: true, acrossTenants: true } } } },
        { encrypted: { tenantBy: 'clinic' } },
      ),
    )
    await Model.init()
    await isStable(Model)
    const login = clinic.secret('across@example.org')
    await as('a', () => Model.create({ clinic: 'a', login }))
    await expect(as('b', () => Model.create({ clinic: 'b', login }))).rejects.toMatchObject({
      code: 11000,
      keyPattern: { login: 1 },
    })
  })
})
