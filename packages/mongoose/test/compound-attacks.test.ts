import { inspect } from 'node:util'
import { hasMongo, mongoCan } from '@fieldseal/servers/vitest'
import { type mongo, Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { jsonSchemaTripwire } from '../src/index.ts'
import { useClinic } from './support/clinic.ts'

type Binary = mongo.Binary

describe.runIf(hasMongo())('attacks on compound indexes', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const ADA = { lastName: 'Lovelace', born: new Date('1815-12-10'), visits: 1 }
  const text = { type: String, encrypted: true } as const
  const schema = () =>
    new Schema(
      { visits: Number, lastName: text, born: { type: Date, encrypted: true }, notes: [String] },
      { encrypted: { compoundIndexes: { person: { of: ['lastName', 'born'], unique: true } } } },
    )

  it('documents whose values are gone are not found by the token that is left', async () => {
    const Model = clinic.model(schema())
    const { _id } = await Model.create(ADA)
    await clinic.direct(Model).updateOne({ _id: _id as never }, { $unset: { lastName: 1, born: 1 } })
    for (const projection of [{}, { visits: 1 }, { born: 0 }])
      await expect(Model.find({ lastName: ADA.lastName, born: ADA.born }, projection).exec()).rejects.toMatchObject({
        code: 'ERR_TOKEN_MISMATCH',
        details: { field: 'person' },
      })
    await expect(
      Model.aggregate([{ $match: { lastName: ADA.lastName, born: ADA.born } }]).exec(),
    ).rejects.toMatchObject({ code: 'ERR_TOKEN_MISMATCH' })
  })

  it.each([
    ['$group', [{ $group: { _id: '$__fieldseal.t.person.b' } }]],
    ['$project', [{ $project: { x: '$__fieldseal.t.person.b' } }]],
    ['$project of the whole', [{ $project: { x: '$__fieldseal' } }]],
    ['$set', [{ $set: { x: '$$ROOT.__fieldseal.t' } }]],
    ['$set into it', [{ $set: { '__fieldseal.t.person.b': 1 } }]],
    ['$replaceRoot', [{ $replaceRoot: { newRoot: '$__fieldseal.t' } }]],
    ['$unwind', [{ $unwind: { path: '$notes', includeArrayIndex: '__fieldseal.t.person.b' } }]],
    ['$sort', [{ $sort: { '__fieldseal.t.person.b': 1 } }]],
    ['$match', [{ $match: { '__fieldseal.t.person.b': { $exists: true } } }]],
    ['$expr', [{ $match: { $expr: { $eq: ['$__fieldseal.t.person.b', 1] } } }]],
    ['$sortByCount', [{ $sortByCount: '$__fieldseal.t.person.b' }]],
    [
      '$lookup localField',
      [{ $lookup: { from: 'others', localField: '__fieldseal.t.person.b', foreignField: 'x', as: 'o' } }],
    ],
    [
      '$lookup let',
      [{ $lookup: { from: 'others', let: { t: '$__fieldseal.t' }, pipeline: [{ $set: { t: '$$t' } }], as: 'o' } }],
    ],
  ])('%s cannot reach the tokens', async (_name, stages) => {
    const Model = clinic.model(schema())
    await Model.create(ADA)
    const run = Model.aggregate(stages as never).exec()
    await expect(run).rejects.toMatchObject({ kind: 'refused' })
  })

  it('queries cannot reach the tokens', async () => {
    const Model = clinic.model(schema())
    await Model.create(ADA)
    const path = '__fieldseal.t.person.b'
    const attempts: [string, () => Promise<unknown>][] = [
      ['distinct', () => Model.distinct(path).exec()],
      ['distinct', () => Model.distinct('__fieldseal').exec()],
      ['find', () => Model.find({ [path]: 1 }, {}, { strictQuery: false }).exec()],
      [
        'projection',
        () =>
          Model.find({}, { x: `$${path}` })
            .lean()
            .exec(),
      ],
      [
        'projection',
        () =>
          Model.find({}, { [path]: 1 })
            .lean()
            .exec(),
      ],
      [
        'sort',
        () =>
          Model.find()
            .sort({ [path]: 1 })
            .lean()
            .exec(),
      ],
      ['min', () => Model.collection.find({}, { min: { [path]: 1 }, hint: { [path]: 1 } }).toArray()],
      ['returnKey', () => Model.find({}, {}, { returnKey: true }).lean().exec()],
      ['returnKey', async () => Model.collection.find({}).returnKey(true).toArray()],
      ['update', () => Model.collection.updateOne({}, { $set: { [path]: 1 } })],
      ['unset', () => Model.collection.updateOne({}, { $unset: { '__fieldseal.t': 1 } })],
      ['rename', () => Model.collection.updateOne({}, { $rename: { [path]: 'x' } })],
      ['rename', () => Model.collection.updateOne({}, { $rename: { visits: path } })],
      ['rename', () => Model.collection.updateOne({}, { $rename: { born: 'x' } })],
      ['insert', () => Model.collection.insertOne({ ...ADA, __fieldseal: { t: {} } })],
      ['pipeline', () => Model.collection.updateOne({}, [{ $set: { x: `$${path}` } }])],
      ['pipeline', () => Model.collection.updateOne({}, [{ $unset: '__fieldseal.t' }])],
    ]
    for (const [name, attempt] of attempts) {
      const outcome = await attempt().then(
        (result) => `${name}: ${JSON.stringify(result)}`,
        (error: unknown) => String(Reflect.get(Object(error), 'kind') ?? error),
      )
      expect.soft(outcome, name).toBe('refused')
    }
  })

  it('aggregations that take values away after a $match give what is left', async () => {
    const Model = clinic.model(schema())
    await Model.create({ ...ADA, notes: ['a', 'b'] })
    const match = { $match: { lastName: ADA.lastName, born: ADA.born } }
    for (const [stages, keys] of [
      [[{ $unset: 'born' }], ['__v', '_id', 'lastName', 'notes', 'visits']],
      [[{ $unset: ['born', 'lastName'] }], ['__v', '_id', 'notes', 'visits']],
      [[{ $project: { born: 0 } }], ['__v', '_id', 'lastName', 'notes', 'visits']],
      [[{ $project: { visits: 1 } }], ['_id', 'visits']],
      [
        [{ $project: { lastName: 1 } }, { $project: { visits: 0 } }],
        ['_id', 'lastName'],
      ],
      [
        [{ $set: { x: 1 } }, { $project: { born: 0, visits: 0 } }],
        ['__v', '_id', 'lastName', 'notes', 'x'],
      ],
      [
        [{ $unwind: '$notes' }, { $unset: 'born' }, { $limit: 1 }],
        ['__v', '_id', 'lastName', 'notes', 'visits'],
      ],
      [[{ $group: { _id: null, n: { $sum: 1 } } }], ['_id', 'n']],
      [[{ $count: 'n' }], ['n']],
    ] as const) {
      const found = await Model.aggregate([match, ...stages] as never).exec()
      expect
        .soft(
          found.map((each) => Object.keys(each as object).toSorted()),
          JSON.stringify(stages),
        )
        .toEqual([keys])
    }
  })

  it('$lookup finds by all paths, and shows no tokens', async () => {
    const Model = clinic.model(schema())
    await Model.create([ADA, { ...ADA, lastName: 'Byron' }])
    const Other = clinic.model(new Schema({ name: String }))
    await Other.create({ name: 'x' })
    const [found] = await Other.aggregate([
      {
        $lookup: {
          from: Model.collection.name,
          pipeline: [{ $match: { lastName: 'Lovelace', born: ADA.born } }],
          as: 'found',
        },
      },
    ]).exec()
    expect(found).toMatchObject({ found: [{ lastName: 'Lovelace', born: ADA.born }] })
    expect(JSON.stringify(found)).not.toContain('__fieldseal')
    const [only] = await Other.aggregate([
      {
        $lookup: {
          from: Model.collection.name,
          pipeline: [{ $match: { lastName: 'Lovelace', born: ADA.born } }, { $project: { visits: 1, _id: 0 } }],
          as: 'found',
        },
      },
    ]).exec()
    expect((only as { found: unknown }).found).toEqual([{ visits: 1 }])
  })

  it('an index over paths of a discriminator is refused, and one of the base holds for its discriminators', async () => {
    const options = { encrypted: { compoundIndexes: { pair: { of: ['lastName', 'born'], unique: true } } } }
    const born = { type: Date, encrypted: true } as const
    const refused = expect.objectContaining({ code: 'ERR_CONFIG_INVALID' })
    const base = new Schema({ lastName: text }, options)
    base.discriminator('Child', new Schema({ born }))
    expect(() => clinic.model(base)).toThrow(refused)
    const Base = clinic.model(new Schema({ lastName: text, born, visits: Number }, options))
    const Child = Base.discriminator('BaseChild', new Schema({ more: text }))
    await Base.init()
    await Child.init()
    const { _id } = await Child.create(ADA)
    await expect(Base.create(ADA)).rejects.toMatchObject({ code: 11000 })
    await Child.updateOne({ _id }, { born: new Date(0) }).exec()
    for (const Model of [Base, Child])
      expect(await Model.find({ lastName: ADA.lastName, born: new Date(0) }).exec()).toHaveLength(1)
    for (const Model of [Base, Child]) expect(await Model.diffIndexes()).toEqual({ toDrop: [], toCreate: [] })
  })

  it.runIf(mongoCan('jsonSchema'))('the tripwire refuses anything but tokens', async () => {
    const Model = clinic.model(schema())
    await Model.createCollection()
    // Not every engine that knows $jsonSchema knows all of it.
    const known = JSON.stringify(jsonSchemaTripwire(Model)).replaceAll('"additionalProperties":false,', '')
    await clinic.connection.db?.command({ collMod: Model.collection.name, validator: JSON.parse(known) as object })
    const { _id } = await Model.create(ADA)
    await Model.updateOne({ _id }, { born: new Date(0) }).exec()
    for (const $set of [
      { '__fieldseal.t.person.b': 'Lovelace' },
      { '__fieldseal.t.person.n': 5 },
      { '__fieldseal.t.person': 'x' },
      { '__fieldseal.t': 'x' },
    ])
      await expect(
        clinic.direct(Model).updateOne({ _id: _id as never }, { $set }),
        JSON.stringify($set),
      ).rejects.toMatchObject({ code: 121 })
  })

  it('the wire guard lets nothing but tokens pass', async () => {
    const Model = clinic.model(schema())
    await Model.create(ADA)
    const native = clinic.connection.getClient().db(clinic.connection.name).collection(Model.collection.name)
    const text = clinic.secret('compound-plaintext')
    const attempts: (() => Promise<unknown>)[] = [
      () => native.updateOne({}, { $set: { '__fieldseal.t.person.b': text } }),
      () => native.updateOne({}, { $set: { '__fieldseal.t.person': { b: text } } }),
      () => native.updateOne({}, { $set: { '__fieldseal.t': { person: { b: text } } } }),
      () => native.updateOne({}, { $setOnInsert: { __fieldseal: { t: { person: text } } } }, { upsert: true }),
      () => native.insertOne({ __fieldseal: { t: { person: { b: text } } } }),
      () => native.findOne({ '__fieldseal.t.person.b': text }),
      () => native.findOne({ '__fieldseal.t.person.n': { $in: [text] } }),
    ]
    for (const attempt of attempts) await expect(attempt()).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_BLOCKED' })
  })

  it('nothing is found where no key has made a token yet', async () => {
    const Model = clinic.model(
      schema().set(
        'encrypted' as never,
        { keyspace: 'nobody', compoundIndexes: { person: { of: ['lastName', 'born'] } } } as never,
      ),
    )
    expect(await Model.find({ lastName: ADA.lastName, born: ADA.born }).exec()).toEqual([])
    expect(
      await Model.updateOne({ lastName: ADA.lastName, born: ADA.born }, { born: new Date(0) }).exec(),
    ).toMatchObject({ matchedCount: 0 })
  })

  it('errors of bulk writes quote operations without their tokens', async () => {
    const Model = clinic.model(
      new Schema(
        { lastName: { type: String, encrypted: { blindIndex: true } }, born: text },
        { encrypted: { compoundIndexes: { person: { of: ['lastName', 'born'], unique: true } } } },
      ),
    )
    await Model.init()
    const own = { lastName: 'Lovelace', born: '1815' }
    const { _id } = await Model.create({ ...own, born: '1816' })
    await Model.create(own)
    const [, second] = (await clinic.stored(Model)) as {
      lastName: { b: Binary }
      __fieldseal: { t: { person: { b: Binary } } }
    }[]
    const tokens = [second?.lastName.b, second?.__fieldseal.t.person.b].map((token) => token?.toString('base64') ?? '')
    const update = { updateOne: { filter: { lastName: 'Lovelace', _id }, update: { $set: own } } }
    for (const attempt of [
      () => Model.insertMany([own]),
      () => Model.insertMany([own], { ordered: false, rawResult: true }),
      () => Model.bulkWrite([{ insertOne: { document: own } }]),
      () => Model.bulkWrite([update], { ordered: false }),
      () => Model.collection.insertMany([own]),
    ]) {
      const outcome = await attempt().catch((error: unknown) => error)
      const text = `${inspect(outcome, { depth: 20 })} ${JSON.stringify(outcome)}`
      expect(text).toContain('11000')
      const hex = (token: string) => Buffer.from(token, 'base64').toString('hex').slice(8)
      for (const token of tokens) {
        expect(token).not.toBe('')
        expect(text).not.toContain(token)
        expect(text.replaceAll(/[^0-9a-f]/g, '')).not.toContain(hex(token))
      }
    }
  })

  it('a hint names the tokens of all paths', async () => {
    const Model = clinic.model(schema())
    await Model.init()
    await Model.create(ADA)
    for (const hint of ['__fieldseal.t.person.b_1', { '__fieldseal.t.person.b': 1 }, { '__fieldseal.t.person.n': 1 }])
      expect(
        await Model.find({ lastName: ADA.lastName, born: ADA.born })
          .hint(hint as never)
          .exec(),
      ).toHaveLength(1)
  })
})
