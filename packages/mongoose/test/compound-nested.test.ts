import { attach, tokenRows, verifyRows } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import fc from 'fast-check'
import { Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { isFieldsealError } from '@fieldseal/core'
import { mongooseSource } from '../src/index.ts'
import { type LooseModel, useClinic } from './support/clinic.ts'

const text = { type: String, encrypted: true } as const
const refusal = { code: 'ERR_WRITE_UNSUPPORTED', details: { reason: 'compound-index' } }

interface Person {
  readonly _id: unknown
  readonly name?: { readonly first?: string; readonly last?: string } | null
  readonly contact?: { readonly city?: string } | null
  readonly born?: string | null
}

describe.runIf(hasMongo())('compound indexes of paths in nested objects', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const ADA = { name: { first: 'Ada', last: 'Lovelace', title: 'x' }, born: '1815', visits: 1 }

  async function persons(): Promise<LooseModel> {
    const Model = clinic.model(
      new Schema(
        {
          name: { first: text, last: text, title: String },
          contact: new Schema({ city: text, at: Number }, { _id: false }),
          born: text,
          visits: Number,
        },
        {
          versionKey: false,
          encrypted: {
            compoundIndexes: {
              person: { of: ['name.first', 'name.last'], unique: true },
              place: { of: ['born', 'contact.city'] },
            },
          },
        },
      ),
    )
    await Model.init()
    return Model
  }
  const found = async (Model: LooseModel, filter: object) =>
    (await Model.find(filter).exec()).map(({ _id }) => String(_id))

  /** Every stored token is the one that its values make, and none is missing. */
  async function isConsistent(Model: LooseModel): Promise<void> {
    const source = mongooseSource(clinic.connection)
    const map = source.models.find(({ id }) => id === Model.collection.name) ?? expect.unreachable()
    const context = attach(clinic.fieldseal, { name: 'test', ormVersion: '0' }).capture()
    for await (const page of source.pages(map, { size: 100, tokens: true })) {
      const rows = page.map((row) => ({
        row: { map, facts: map.facts(row.columns, context), cells: row.occurrences ?? [] },
        tokens: row.tokens,
      }))
      for (const { problems } of await verifyRows(clinic.fieldseal, rows, context)) expect(problems).toEqual([])
    }
    const stored = new Map((await clinic.stored(Model)).map((each) => [String(each['_id']), each]))
    for (const { _id, name, contact, born } of await Model.find().lean<Person[]>().exec()) {
      const expected = [...(name?.first && name.last ? ['person'] : []), ...(born && contact?.city ? ['place'] : [])]
      expect(Object.keys(stored.get(String(_id))?.['__fieldseal']?.t ?? {}).toSorted()).toEqual(expected)
    }
  }

  it('are found together, by projections too, and unique', async () => {
    const Model = await persons()
    const ada = await Model.create({ ...ADA, contact: { city: 'London' } })
    await Model.create({ ...ADA, name: { first: 'Ada', last: 'King' } })
    const sought = { 'name.first': 'Ada', 'name.last': 'Lovelace' }
    expect(await found(Model, sought)).toEqual([String(ada['_id'])])
    expect(await found(Model, { born: '1815', 'contact.city': { $in: ['Paris', 'London'] } })).toHaveLength(1)
    for (const [projection, shown] of [
      [{ visits: 1, _id: 0 }, { visits: 1 }],
      [{ 'name.title': 1, _id: 0 }, { name: { title: 'x' } }],
      [{ 'name.first': 1, _id: 0 }, { name: { first: 'Ada' } }],
      [
        { name: 0, contact: 0, _id: 0 },
        { born: '1815', visits: 1 },
      ],
      [
        { 'name.last': 0, contact: 0, born: 0, _id: 0 },
        { name: { first: 'Ada', title: 'x' }, visits: 1 },
      ],
    ] as const)
      expect(await Model.findOne(sought, projection).lean().exec()).toEqual(shown)
    expect(await Model.aggregate([{ $match: sought }, { $unset: 'name' }]).exec()).toMatchObject([{ born: '1815' }])
    await expect(Model.create(ADA)).rejects.toMatchObject({ code: 11000, keyValue: { person: '[redacted]' } })
    await expect(found(Model, { name: { first: 'Ada', last: 'Lovelace' } })).rejects.toMatchObject({ kind: 'refused' })
    expect(await Model.diffIndexes()).toEqual({ toDrop: [], toCreate: [] })
  })

  it('are written with what holds them, alone, and by a document that was loaded in part', async () => {
    const Model = await persons()
    const { _id } = await Model.create({ ...ADA, contact: { city: 'London' } })
    const update = (changes: object) => Model.updateOne({ _id }, changes).exec()
    await update({ $set: { 'name.first': 'Augusta' } })
    expect(await found(Model, { 'name.first': 'Augusta', 'name.last': 'Lovelace' })).toHaveLength(1)
    await update({ $set: { name: { first: 'A', last: 'B' }, 'contact.city': 'Rome' } })
    expect(await found(Model, { 'name.first': 'A', 'name.last': 'B' })).toHaveLength(1)
    expect(await found(Model, { born: '1815', 'contact.city': 'Rome' })).toHaveLength(1)
    await isConsistent(Model)
    const partly = (await Model.findById(_id, { 'name.first': 1, contact: 1 }).exec()) ?? expect.unreachable()
    partly.set('name.first', 'C')
    partly.set('contact', { city: 'Bern' })
    await partly.save()
    expect(await found(Model, { 'name.first': 'C', 'name.last': 'B' })).toHaveLength(1)
    await update({ $set: { name: { first: 'only' } } })
    await isConsistent(Model)
    await update({ $set: { 'name.last': 'again' } })
    expect(await found(Model, { 'name.first': 'only', 'name.last': 'again' })).toHaveLength(1)
    await update({ $unset: { name: 1 } })
    await isConsistent(Model)
    await update({ $set: { contact: null } })
    await isConsistent(Model)
  })

  it('are refused where the tokens cannot be known', async () => {
    const Model = await persons()
    const { _id } = await Model.create(ADA)
    const raw = Model.collection
    const attempts: (() => Promise<unknown>)[] = [
      () => Model.updateMany({}, { 'name.first': 'x' }).exec(),
      () => raw.updateOne({ _id }, [{ $unset: 'name' }]),
      () => raw.updateOne({ _id }, { $set: { 'name.first': 'x', 'name.last': undefined } }),
      () => raw.updateOne({ _id }, { $set: { name: undefined } }),
      () => raw.updateOne({ _id }, { $push: { name: { first: 'x' } } } as never),
      () => raw.updateOne({ _id }, { $set: { name: [{ first: 'x' }, { first: 'y', last: 'z' }] } }),
      () => raw.insertOne({ name: [{ first: 'x' }, { first: 'y', last: 'z' }] } as never),
    ]
    for (const attempt of attempts) await expect(attempt()).rejects.toMatchObject(refusal)
    for (const attempt of [
      () => raw.updateOne({ _id }, { $rename: { name: 'other' } }),
      () => raw.updateOne({ _id }, { $rename: { visits: 'name.first' } }),
      () => raw.updateOne({ _id }, { $set: { name: { first: 'x' } }, $unset: { 'name.last': 1 } }),
    ])
      await expect(attempt()).rejects.toMatchObject({ kind: 'refused' })
    expect(await found(Model, { 'name.first': 'Ada', 'name.last': 'Lovelace' })).toHaveLength(1)
    await isConsistent(Model)
  })

  it('lose tokens that a document without their paths was left with, if it is without them still', async () => {
    const Model = await persons()
    const direct = clinic.direct(Model)
    const whole = { ...ADA, contact: { city: 'London' } }
    const { _id } = await Model.create(whole)
    await Model.create({ ...whole, name: { first: 'Other', last: 'One' } })
    const lefts = [
      { $unset: { born: 1 } },
      { $unset: { name: 1 } },
      { $set: { born: null, 'name.first': null, contact: null } },
      { $unset: { contact: 1, born: 1, name: 1, '__fieldseal.w': 1, '__fieldseal.k': 1 } },
      { $unset: { contact: 1 }, $set: { __fieldseal: { t: { place: { n: Buffer.alloc(17, 1) } } } } },
    ]
    const source = mongooseSource(clinic.connection)
    const map = source.models.find(({ id }) => id === Model.collection.name) ?? expect.unreachable()
    const context = attach(clinic.fieldseal, { name: 'test', ormVersion: '0' }).capture()
    const reindex = async (between: () => Promise<unknown> = () => Promise.resolve()) => {
      for await (const page of source.pages(map, { size: 100, tokens: true })) {
        const rows = page.map((row) => ({
          row: { map, facts: map.facts(row.columns, context), cells: row.occurrences ?? [] },
          tokens: row.tokens,
        }))
        const outcomes = await tokenRows(clinic.fieldseal, rows, context, true)
        await between()
        const patches = outcomes.flatMap((outcome, at) =>
          'cells' in outcome && outcome.cells.length > 0 ? [{ key: page[at]?.key, ...outcome }] : [],
        )
        return source.convert?.(map, patches)
      }
    }
    for (const left of lefts) {
      await direct.updateOne({ _id }, left)
      expect(await reindex(), JSON.stringify(left)).toEqual(['updated'])
      await isConsistent(Model)
      await Model.replaceOne({ _id }, whole).exec()
    }
    await direct.updateOne({ _id }, { $unset: { born: 1, 'name.last': 1 } })
    const tokens = (await clinic.stored(Model)).map((each) => each['__fieldseal'].t)
    const writes = [
      () => direct.updateOne({ _id }, { $set: { born: 'written' } }),
      () => Model.replaceOne({ _id }, whole),
    ]
    for (const write of writes) expect(await reindex(write)).toEqual(['changed'])
    expect((await clinic.stored(Model)).map((each) => each['__fieldseal'].t)).toEqual(tokens)
    await isConsistent(Model)
  })

  it('leave tokens of what stands there, whatever is written, or the write is refused', {
    timeout: 120_000,
  }, async () => {
    const Model = await persons()
    await Model.collection.dropIndexes()
    const raw = Model.collection
    const value = fc.constantFrom('x', 'y', null)
    const object = fc.record({ first: value, last: value, title: fc.constant('t') }, { requiredKeys: [] })
    const city = fc.record({ city: value })
    const whole = fc.record({ name: object, born: value, contact: city, visits: fc.nat(3) }, { requiredKeys: ['name'] })
    const parts = fc.record(
      { 'name.first': value, 'name.last': value, born: value, 'contact.city': value, contact: city },
      { requiredKeys: [] },
    )
    const written = fc.oneof(whole, parts)
    const seldom = <T>(arbitrary: fc.Arbitrary<T>, otherwise: T) =>
      fc.oneof({ weight: 4, arbitrary: fc.constant(otherwise) }, { weight: 1, arbitrary })
    const last = fc.constantFrom('x', { $in: ['y'] })
    const filter = fc.oneof(
      fc.constant({}),
      fc.record({ visits: fc.nat(3), 'name.first': fc.constant('x'), 'name.last': last }, { requiredKeys: [] }),
    )
    const operation = fc.record({
      kind: fc.constantFrom('insert', 'one', 'one', 'many', 'modify', 'replace', 'bulk'),
      filter,
      set: written,
      insert: seldom(written, {}),
      unset: seldom(fc.subarray(['name', 'name.first', 'name.last', 'born', 'contact', 'contact.city']), []),
      upsert: fc.boolean(),
    })
    const counts = { written: 0, refused: 0 }
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 2, maxLength: 8 }), async (operations) => {
        await clinic.direct(Model).deleteMany({})
        for (const { kind, filter: where, set, insert, unset, upsert } of operations) {
          const document = Object.fromEntries(Object.entries(set).filter(([path]) => !path.includes('.')))
          const update = Object.fromEntries(
            Object.entries({
              $set: set,
              $setOnInsert: insert,
              $unset: Object.fromEntries(unset.map((path) => [path, 1])),
            }).filter(([, operands]) => Object.keys(operands).length > 0),
          )
          if (Object.keys(update).length === 0) continue
          const options = { upsert }
          try {
            if (kind === 'insert') await raw.insertOne(document as never)
            else if (kind === 'replace') await raw.replaceOne(where as never, document as never, options)
            else if (kind === 'many') await raw.updateMany(where as never, update, options)
            else if (kind === 'modify') await raw.findOneAndUpdate(where as never, update, options)
            else if (kind === 'bulk')
              await raw.bulkWrite([{ updateOne: { filter: where, update, ...options } }] as never)
            else await raw.updateOne(where as never, update, options)
            counts.written++
          } catch (error) {
            const isServers = [2, 28, 40].includes(Number(Reflect.get(Object(error), 'code')))
            if (!isServers && !isFieldsealError(error)) throw error
            counts.refused++
          }
        }
        await isConsistent(Model)
      }),
      { numRuns: 150 },
    )
    expect(counts.written).toBeGreaterThan(100)
    expect(counts.refused).toBeGreaterThan(20)
  })
})
