import { attach, tokenRows, verifyRows } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { mongooseSource } from '../src/index.ts'
import { type LooseModel, useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

const text = { type: String, encrypted: true } as const
const refusal = { code: 'ERR_WRITE_UNSUPPORTED', details: { field: 'person', reason: 'compound-index' } }
const duplicate = { code: 11000 }

describe.runIf(hasMongo())('compound indexes', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const as = <R>(fn: () => Promise<R>, tenant = 'a') => clinic.fieldseal.runAs({ tenant }, fn)
  const ADA = { clinic: 'a', lastName: 'Lovelace', born: new Date('1815-12-10') }
  const DAY = new Date('1816-01-01')

  async function persons(person: object = {}): Promise<LooseModel> {
    const Model = clinic.model(
      new Schema(
        {
          clinic: String,
          deletedAt: Date,
          visits: Number,
          lastName: { type: String, encrypted: { blindIndex: true } },
          born: { type: Date, encrypted: true },
          city: text,
          notes: [text],
          tags: { type: [String], encrypted: true },
        },
        {
          encrypted: {
            tenantBy: 'clinic',
            compoundIndexes: {
              person: { of: ['lastName', 'born'], normalize: { lastName: 'lower' }, ...person },
              place: { of: ['city', 'born'] },
            },
          },
        },
      ),
    )
    await Model.init()
    return Model
  }
  const sourceOf = (Model: LooseModel) => {
    const source = mongooseSource(clinic.connection)
    return { source, map: source.models.find(({ id }) => id === Model.collection.name) ?? expect.unreachable() }
  }
  const ids = async (Model: LooseModel, filter: object) =>
    (await as(() => Model.find({ clinic: 'a', ...filter }).exec())).map((one) => String(one['_id'])).toSorted()
  const tokensOf = async (Model: LooseModel) =>
    (await clinic.stored(Model)).map((one) => Object.keys((one['__fieldseal'] as { t?: object }).t ?? {}).toSorted())

  /** Every stored token is the one that its values make, and none is missing. */
  async function isConsistent(Model: LooseModel): Promise<void> {
    const { source, map } = sourceOf(Model)
    const host = attach(clinic.fieldseal, { name: 'test', ormVersion: '0' })
    const context = await as(async () => host.capture())
    for await (const page of source.pages(map, { size: 100, tokens: true, tenant: 'a' })) {
      const rows = page.map((row) => ({
        row: { map, facts: map.facts(row.columns, context), cells: row.occurrences ?? [] },
        tokens: row.tokens,
      }))
      for (const { problems } of await verifyRows(clinic.fieldseal, rows, context)) expect(problems).toEqual([])
    }
    const whole = await as(() => Model.find({ clinic: 'a' }).lean().exec())
    const expected = whole.map(({ lastName, born, city }) => [
      ...(lastName && born ? ['person'] : []),
      ...(city && born ? ['place'] : []),
    ])
    const texts = (lists: readonly string[][]) => lists.map(String).toSorted()
    expect(texts(await tokensOf(Model))).toEqual(texts(expected))
  }

  protects('find', 'all paths of a compound index are found by one token', async () => {
    const Model = await persons()
    const ada = await as(() => Model.create(ADA))
    await as(() =>
      Model.create([
        { ...ADA, born: DAY },
        { ...ADA, lastName: 'Byron' },
        { clinic: 'a', born: ADA.born },
      ]),
    )
    const own = [String(ada['_id'])]
    expect(await ids(Model, { lastName: 'LOVELACE', born: ADA.born })).toEqual(own)
    expect(
      await ids(Model, { $and: [{ visits: null }, { lastName: { $eq: 'lovelace' }, born: { $in: [ADA.born] } }] }),
    ).toEqual(own)
    expect(await ids(Model, { $or: [{ lastName: 'lovelace', born: ADA.born }, { visits: 9 }] })).toEqual(own)
    expect(await ids(Model, { lastName: { $in: ['byron', 'lovelace'] }, born: { $in: [ADA.born, DAY] } })).toHaveLength(
      3,
    )
    expect(await ids(Model, { lastName: { $in: [] }, born: ADA.born })).toEqual([])
    expect(await ids(Model, { $nor: [{ lastName: 'lovelace', born: ADA.born }] })).toHaveLength(3)
    expect(await as(() => Model.countDocuments({ lastName: 'lovelace', born: ADA.born }).exec())).toBe(1)
    expect(await as(() => Model.exists({ lastName: 'lovelace', born: ADA.born }).exec())).toMatchObject({
      _id: ada['_id'],
    })
    await isConsistent(Model)
  })

  protects('find', 'a projection shows nothing of what compares a compound index', async () => {
    const Model = await persons()
    await as(() => Model.create({ ...ADA, visits: 3 }))
    const where = { clinic: 'a', lastName: 'lovelace', born: ADA.born }
    for (const projection of [
      { visits: 1, _id: 0 },
      { visits: 1, _id: 0, deletedAt: 1 },
    ])
      expect(await as(() => Model.findOne(where, projection).lean().exec())).toEqual({ visits: 3 })
    const without = await as(() => Model.findOne(where, { born: 0, clinic: 0 }).lean().exec())
    expect(Object.keys(without ?? {}).toSorted()).toEqual(['__v', '_id', 'lastName', 'notes', 'tags', 'visits'])
    expect(Object.keys((await as(() => Model.findOne(where).lean().exec())) ?? {})).not.toContain('__fieldseal')
  })

  protects('aggregate', '$match uses a compound index as long as documents are as they are stored', async () => {
    const Model = await persons()
    const ada = await as(() => Model.create(ADA))
    const match = { $match: { clinic: 'a', lastName: 'lovelace', born: ADA.born } }
    const run = (...stages: object[]) => as(() => Model.aggregate(stages as never).exec())
    expect(await run(match)).toMatchObject([{ _id: ada['_id'], lastName: 'Lovelace' }])
    expect(await run({ $sort: { visits: 1 } }, { $limit: 5 }, match, { $project: { visits: 1 } })).toMatchObject([
      { _id: ada['_id'] },
    ])
    expect(await run({ $facet: { found: [match] } })).toMatchObject([{ found: [{ lastName: 'Lovelace' }] }])
    const late = { code: 'ERR_QUERY_UNSUPPORTED', details: { reason: 'not-searchable' } }
    for (const stage of [{ $project: { born: 0 } }, { $unset: 'born' }]) {
      await expect(run(stage, match)).rejects.toMatchObject(late)
      await expect(run(stage, { $facet: { found: [match] } })).rejects.toMatchObject(late)
    }
  })

  refuses(
    'find',
    'a compound index with other conditions than equality',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' },
    async () => {
      const Model = await persons()
      return as(() => Model.find({ lastName: 'x', born: { $ne: ADA.born } }).exec())
    },
  )

  it('falls back to the index of one path, and refuses what neither answers', async () => {
    const Model = await persons()
    const ada = await as(() => Model.create(ADA))
    expect(await ids(Model, { lastName: 'Lovelace' })).toEqual([String(ada['_id'])])
    expect(await ids(Model, { lastName: 'lovelace' })).toEqual([]) // its own index has no normaliser
    expect(await ids(Model, { lastName: 'Lovelace', born: null })).toEqual([])
    for (const filter of [{ born: ADA.born }, { city: 'x', born: { $in: [DAY, null] } }, { lastName: /x/, born: DAY }])
      await expect(ids(Model, filter)).rejects.toMatchObject({ kind: 'refused' })
    const many = Array.from({ length: 40 }, (_, at) => String(at))
    const days = many.map((at) => new Date(Number(at)))
    await expect(ids(Model, { city: { $in: many }, born: { $in: days } })).rejects.toMatchObject({ kind: 'refused' })
    await expect(ids(Model, { city: 'x', born: { $exists: true } })).rejects.toMatchObject({ kind: 'refused' })
  })

  protects('unique', 'a pair stands once per tenant among the documents that count', async () => {
    const Model = await persons({ unique: { where: { deletedAt: null } } })
    const ada = await as(() => Model.create(ADA))
    await expect(as(() => Model.create({ ...ADA, lastName: ' LOVELACE' }))).rejects.toMatchObject({
      ...duplicate,
      keyPattern: { person: 1 },
      keyValue: { person: '[redacted]' },
    })
    await as(() => Model.create({ ...ADA, clinic: 'b' }), 'b')
    await as(() =>
      Model.create([
        { ...ADA, born: null },
        { ...ADA, born: undefined },
      ]),
    )
    await as(() => Model.updateOne({ _id: ada['_id'], clinic: 'a' }, { deletedAt: DAY }).exec())
    await as(() => Model.create(ADA))
    expect(await Model.diffIndexes()).toEqual({ toDrop: [], toCreate: [] })
    const { source, map } = sourceOf(Model)
    expect(await source.inspect(map)).toEqual([])
  })

  protects('save', 'one changed path computes the token of all', async () => {
    const Model = await persons()
    const ada = await as(() => Model.create({ ...ADA, city: 'London' }))
    ada['born'] = DAY
    await as(() => ada.save())
    const own = [String(ada['_id'])]
    expect(await ids(Model, { lastName: 'lovelace', born: DAY })).toEqual(own)
    expect(await ids(Model, { city: 'London', born: DAY })).toEqual(own)
    const partly = await as(() => Model.findOne({ _id: ada['_id'], clinic: 'a' }, { lastName: 1, clinic: 1 }).exec())
    if (partly === null) return expect.unreachable()
    partly['lastName'] = 'King'
    await as(() => partly.save())
    expect(await ids(Model, { lastName: 'king', born: DAY })).toEqual(own)
    partly['lastName'] = undefined
    await as(() => partly.save())
    expect(await tokensOf(Model)).toEqual([['place']])
    partly['lastName'] = 'Noel'
    await as(() => partly.save())
    expect(await ids(Model, { lastName: 'noel', born: DAY })).toEqual(own)
    await isConsistent(Model)
  })

  protects(
    'updateOne $set',
    'some paths of a compound index: the others are read, and must be those when it is written',
    async () => {
      const Model = await persons()
      const { _id } = await as(() => Model.create({ ...ADA, city: 'London' }))
      const update = (changes: object, options = {}) =>
        as(() => Model.updateOne({ _id, clinic: 'a' }, changes, options).exec())
      expect(await update({ $set: { lastName: 'King' }, $inc: { visits: 1 } })).toMatchObject({ modifiedCount: 1 })
      await isConsistent(Model)
      await update({ $set: { born: DAY } })
      expect(await ids(Model, { lastName: 'king', born: DAY })).toEqual([String(_id)])
      await update({ $unset: { born: 1 } })
      expect(await tokensOf(Model)).toEqual([[]])
      await update({ $set: { lastName: 'Byron' } })
      expect(await tokensOf(Model)).toEqual([[]])
      await update({ $set: { born: DAY, lastName: null } })
      expect(await tokensOf(Model)).toEqual([['place']])
      await update({ $set: { lastName: 'Byron', born: ADA.born, city: 'Paris' }, $push: { tags: 'x' } })
      await isConsistent(Model)
      expect(await update({ $set: { visits: 7 } })).toMatchObject({ modifiedCount: 1 })
      const gone = as(() => Model.updateOne({ _id: '000000000000000000000000' }, { born: DAY }).exec())
      expect(await gone).toMatchObject({ matchedCount: 0 })
      await Promise.all([
        update({ lastName: 'One' }),
        update({ born: DAY }),
        update({ city: 'Rome' }),
        as(() => Model.findOneAndUpdate({ _id, clinic: 'a' }, { lastName: 'Two' }).exec()),
      ])
      await isConsistent(Model)
    },
  )

  protects('findOneAndUpdate', 'some paths of a compound index', async () => {
    const Model = await persons()
    const { _id } = await as(() => Model.create(ADA))
    const after = await as(() =>
      Model.findOneAndUpdate({ _id, clinic: 'a' }, { born: DAY }, { returnDocument: 'after' }).lean().exec(),
    )
    expect(after).toMatchObject({ lastName: 'Lovelace', born: DAY })
    expect(after).not.toHaveProperty('__fieldseal')
    await as(() => Model.findOneAndReplace({ _id, clinic: 'a' }, { ...ADA, lastName: 'King' }).exec())
    expect(await ids(Model, { lastName: 'king', born: ADA.born })).toEqual([String(_id)])
    await as(() => Model.replaceOne({ _id, clinic: 'a' }, { clinic: 'a', lastName: 'King' }).exec())
    expect(await tokensOf(Model)).toEqual([[]])
  })

  protects('bulkWrite', 'every operation leaves the tokens of what is stored', async () => {
    const Model = await persons()
    const [one, two] = await as(() => Model.create([ADA, { ...ADA, lastName: 'Byron', city: 'X' }]))
    await as(() =>
      Model.bulkWrite([
        { updateOne: { filter: { _id: one?.['_id'], clinic: 'a' }, update: { lastName: 'King' } } },
        { insertOne: { document: { ...ADA, lastName: 'New' } } },
        { updateOne: { filter: { _id: two?.['_id'], clinic: 'a' }, update: { $unset: { lastName: 1 } } } },
        { updateMany: { filter: { clinic: 'a', lastName: 'New' }, update: { born: DAY, lastName: 'All', city: 'Y' } } },
        { replaceOne: { filter: { _id: two?.['_id'], clinic: 'a' }, replacement: { ...ADA, lastName: 'Re' } } },
      ] as never),
    )
    expect(await ids(Model, { lastName: { $in: ['king', 're'] }, born: ADA.born })).toHaveLength(2)
    expect(await ids(Model, { lastName: 'all', born: DAY })).toHaveLength(1)
    await isConsistent(Model)
  })

  protects('updateOne upsert', 'all paths of a compound index, or those that its filter demands', async () => {
    const Model = await persons()
    const upsert = (filter: object, update: object) =>
      as(() => Model.updateOne({ clinic: 'a', ...filter }, update, { upsert: true }).exec())
    for (const visits of [1, 2]) await upsert({ lastName: 'Lovelace', born: ADA.born }, { visits })
    expect(await ids(Model, { lastName: 'lovelace', born: ADA.born })).toHaveLength(1)
    await upsert({ visits: 5 }, { $set: { lastName: 'King', born: DAY, city: 'L' } })
    await upsert({ visits: 6 }, { $setOnInsert: { lastName: 'In', born: DAY, city: 'L' } })
    await upsert({ visits: 7 }, { $setOnInsert: { lastName: 'Part' } })
    await upsert({ visits: 8, lastName: 'x' }, { $unset: { born: 1 } })
    await isConsistent(Model)
    await expect(upsert({ lastName: 'Part' }, { $set: { born: DAY, city: 'L' } })).rejects.toMatchObject(refusal)
    await expect(upsert({ visits: 5 }, { $set: { born: DAY, city: 'L' } })).rejects.toMatchObject(refusal)
    await isConsistent(Model)
  })

  refuses(
    'updateMany $set',
    'some paths of a compound index',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'compound-index' },
    async () => {
      const Model = await persons()
      return as(() => Model.updateMany({ clinic: 'a' }, { born: DAY }).exec())
    },
  )

  it('refuses updates whose tokens cannot be known', async () => {
    const Model = await persons()
    const { _id } = await as(() => Model.create({ ...ADA, tags: ['a'] }))
    const one = { _id, clinic: 'a' }
    const attempts: (() => Promise<unknown>)[] = [
      () => Model.updateOne(one, { $max: { born: DAY } }).exec(),
      () => Model.updateOne(one, { $set: { lastName: 'x' }, $push: { tags: 'x' } }).exec(),
      () => Model.updateOne(one, [{ $unset: 'lastName' }], { updatePipeline: true } as never).exec(),
      () => Model.updateMany(one, { lastName: 'x' }).exec(),
    ]
    for (const attempt of attempts) await expect(as(attempt)).rejects.toMatchObject(refusal)
    const unanswered = as(() => Model.updateOne(one, { lastName: 'x' }, { writeConcern: { w: 0 } }).exec())
    await expect(unanswered).rejects.toMatchObject({ details: { reason: 'unacknowledged' } })
    await as(() => Model.updateMany(one, { lastName: 'All', born: DAY, city: 'x' }).exec())
    await as(() => Model.updateMany(one, { born: null }).exec())
    await isConsistent(Model)
  })

  it('a token beside values that do not have it is an error', async () => {
    const Model = await persons()
    await as(() => Model.create(ADA))
    const other = await as(() => Model.create({ ...ADA, lastName: 'Byron' }))
    const [first] = await clinic.stored(Model)
    const { t } = Object(first?.['__fieldseal']) as { t: object }
    await clinic.direct(Model).updateOne({ _id: other['_id'] as never }, { $set: { '__fieldseal.t': t } })
    await expect(ids(Model, { lastName: 'lovelace', born: ADA.born })).rejects.toMatchObject({
      code: 'ERR_TOKEN_MISMATCH',
      details: { field: 'person' },
    })
    await clinic.direct(Model).updateOne({ _id: other['_id'] as never }, { $unset: { lastName: 1 } })
    await clinic.direct(Model).deleteOne({ _id: first?.['_id'] as never })
    for (const projection of [{}, { visits: 1 }, { born: 0 }])
      await expect(
        as(() => Model.find({ lastName: 'lovelace', born: ADA.born }, projection).exec()),
      ).rejects.toMatchObject({ code: 'ERR_TOKEN_MISMATCH' })
  })

  it('a reindex gives documents that have none their tokens, a rewrap leaves them, and shredded ones lose them', async () => {
    const Model = await persons()
    const { _id } = await as(() => Model.create({ ...ADA, city: 'London' }))
    await clinic.direct(Model).updateMany({}, { $unset: { '__fieldseal.t': 1 } })
    const { source, map } = sourceOf(Model)
    const host = attach(clinic.fieldseal, { name: 'test', ormVersion: '0' })
    const context = await as(async () => host.capture())
    const fill = async (between: () => Promise<unknown>) => {
      for await (const page of source.pages(map, { size: 10, tokens: true })) {
        const rows = page.map((row) => ({
          row: { map, facts: map.facts(row.columns, context), cells: row.occurrences ?? [] },
          tokens: row.tokens,
        }))
        const outcomes = await tokenRows(clinic.fieldseal, rows, context)
        await between()
        return source.convert?.(
          map,
          outcomes.map((outcome, at) => ({ key: page[at]?.key, ...('cells' in outcome ? outcome : { cells: [] }) })),
        )
      }
    }
    const update = () => as(() => Model.updateOne({ _id, clinic: 'a' }, { lastName: 'King' }).exec())
    expect(await fill(update)).toEqual(['changed'])
    expect(await fill(async () => undefined)).toEqual(['updated'])
    await isConsistent(Model)
    for await (const [row] of source.pages(map, { size: 1 })) {
      const [cell] = row?.occurrences ?? []
      const before = cell?.value as never
      expect(
        await source.compareAndSet(map, [
          { key: row?.key, cells: [{ field: cell?.field as never, before, after: before }] },
        ]),
      ).toEqual(['updated'])
    }
    await isConsistent(Model)
    for await (const [row] of source.pages(map, { size: 1 })) await source.clearTokens?.(map, [row?.key])
    expect(await tokensOf(Model)).toEqual([[]])
  })

  it('documents of each patient under an own key, also in work across tenants', async () => {
    const schema = new Schema(
      { clinic: String, patient: String, organ: text, code: text },
      {
        encrypted: {
          tenantBy: 'clinic',
          keyspace: { per: 'patient', of: 'patient' },
          compoundIndexes: { pair: { of: ['organ', 'code'] } },
        },
      },
    )
    const Model = clinic.model(schema)
    await Model.init()
    for (const tenant of ['a', 'b'])
      await as(() => Model.create({ clinic: tenant, patient: `p-${tenant}`, organ: 'heart', code: 'x' }), tenant)
    const [one] = await as(() => Model.find({ organ: 'heart', code: 'x', clinic: 'a' }).exec())
    await as(() => Model.updateOne({ _id: one?.['_id'] }, { code: 'y' }).exec())
    expect(await as(() => Model.countDocuments({ organ: 'heart', code: 'y' }).exec())).toBe(1)
    await clinic.fieldseal.runAsSystem({ reason: 'test' }, async () => {
      for (const each of await Model.find().exec()) await each.set('organ', `${String(each.get('clinic'))} lung`).save()
    })
    expect(await as(() => Model.countDocuments({ organ: 'a lung', code: 'y' }).exec())).toBe(1)
    expect(await as(() => Model.countDocuments({ organ: 'b lung', code: 'x' }).exec(), 'b')).toBe(1)
    expect(await as(() => Model.countDocuments({ organ: 'b lung', code: 'x' }).exec())).toBe(0)
  })

  it('documents of a discriminator have the index of their base', async () => {
    const Base = await persons({ unique: true })
    const kind = `Nurse${Base.modelName}`
    const Nurse = Base.discriminator(kind, new Schema({ badge: text })) as unknown as LooseModel
    await Nurse.init()
    const nurse = await as(() => Nurse.create({ ...ADA, badge: '7' }))
    nurse['born'] = DAY
    await as(() => nurse.save())
    for (const Model of [Base, Nurse])
      expect(await ids(Model, { lastName: 'lovelace', born: DAY })).toEqual([String(nurse['_id'])])
    await expect(as(() => Base.create({ ...ADA, born: DAY }))).rejects.toMatchObject(duplicate)
    for (const Model of [Base, Nurse]) expect(await Model.diffIndexes()).toEqual({ toDrop: [], toCreate: [] })
  })

  it.each([
    ['a path below a Map', { of: ['lastName', 'rooms.$*.note'] }],
    ['a path below an array', { of: ['lastName', 'history.$.note'] }],
    ['a path inside an encrypted value', { of: ['lastName', 'whole.note'] }],
    ['a container as one value', { of: ['lastName', 'whole'] }],
    ['elements of an array', { of: ['lastName', 'notes'] }],
    ['a whole array', { of: ['lastName', 'tags'] }],
    ['a plain path', { of: ['lastName', 'clinic'] }],
    ['an unknown path', { of: ['lastName', 'gone'] }],
    ['a field on its way', { of: ['lastName', 'old'] }],
  ])('%s is refused when the model is made', (_name, pair) => {
    const schema = new Schema(
      {
        clinic: String,
        lastName: text,
        rooms: { type: Map, of: new Schema({ note: text }) },
        history: [{ note: text }],
        whole: { type: new Schema({ note: String }), encrypted: true },
        notes: [text],
        tags: { type: [String], encrypted: true },
        old: { type: String, encrypted: { state: 'migrating' } },
      },
      { encrypted: { tenantBy: 'clinic', compoundIndexes: { pair } } },
    )
    expect(() => clinic.model(schema)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }))
  })
})
