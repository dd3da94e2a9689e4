import diagnostics from 'node:diagnostics_channel'
import { inspect } from 'node:util'
import { Writable } from 'node:stream'
import { hasMongo } from '@fieldseal/servers/vitest'
import mongoose, { Schema } from 'mongoose'
import { beforeEach, describe, expect, it } from 'vitest'
import { redactOperation } from '../src/index.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects } from './support/operation.ts'

const CANARY = 'canary-in-the-clear'
const NUMBER = 987_654_321

/** Everything that a log could show of a value. */
const textOf = (value: unknown) =>
  `${inspect(value, { depth: 12, showHidden: false, maxStringLength: null })} ${String(value)} ${
    value instanceof Error ? `${value.message} ${value.stack}` : ''
  } ${JSON.stringify(value)}`

describe.runIf(hasMongo())('what is printed', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Person: LooseModel
  beforeEach(() => {
    clinic.secret(CANARY)
    Person = clinic.model(
      new Schema({
        name: String,
        email: { type: String, encrypted: { blindIndex: { unique: true } } },
        ssn: { type: String, encrypted: true, match: /^canary/, maxlength: 40 },
        age: { type: Number, encrypted: true, max: 999_999_999 },
        born: { type: Date, encrypted: true },
        kind: { type: String, encrypted: true, enum: ['one', 'other'] },
        grid: [[{ type: String, encrypted: true }]],
        history: [{ note: { type: String, encrypted: true, minlength: 3 } }],
        phones: { type: Map, of: { type: String, encrypted: true } },
        visits: [{ count: { type: Number, encrypted: true } }],
        count: Number,
      }),
    )
  })

  /** Uses the model in most ways. */
  async function useModel(): Promise<void> {
    const document = await Person.create({
      email: CANARY,
      ssn: CANARY,
      age: NUMBER,
      history: [{ note: CANARY }],
      phones: { work: CANARY },
    })
    document.ssn = `${CANARY}-2`
    await document.save()
    await Person.insertMany([{ ssn: CANARY }])
    await Person.find({ email: CANARY }).lean()
    await Person.findOne({ email: CANARY, $or: [{ email: CANARY }] })
    await Person.updateOne({ email: CANARY }, { $set: { 'history.0.note': CANARY }, $inc: { age: 1 } })
    await Person.updateMany({}, { $set: { kind: 'other' } })
    await Person.findOneAndUpdate({ email: CANARY }, { $push: { history: { note: CANARY } } })
    await Person.bulkWrite([
      { updateOne: { filter: { email: CANARY }, update: { $set: { ssn: CANARY } } } },
      { insertOne: { document: { ssn: CANARY } } },
    ])
    await Person.aggregate([{ $match: { email: CANARY } }])
    await Person.countDocuments({ email: CANARY })
    for await (const found of Person.find({ email: CANARY }).cursor()) expect(found.email).toBe(CANARY)
    await Person.replaceOne({ email: CANARY }, { ssn: CANARY })
    await Person.deleteMany({})
  }

  protects('debug', 'shows ciphertext, as a function and as a stream', async () => {
    const seen: unknown[] = []
    const chunks: string[] = []
    try {
      clinic.mongoose.set('debug', (...args: unknown[]) => void seen.push(args))
      await useModel()
      const stream = new Writable({
        write(chunk: Buffer, _encoding, done) {
          chunks.push(String(chunk))
          done()
        },
      })
      clinic.mongoose.set('debug', stream as never)
      await useModel()
    } finally {
      clinic.mongoose.set('debug', false)
    }
    expect(seen.length).toBeGreaterThan(10)
    expect(chunks.length).toBeGreaterThan(10)
    expect(textOf(seen) + chunks.join('\n')).not.toContain(CANARY)
    expect(textOf(seen) + chunks.join('\n')).not.toContain(String(NUMBER))
  })

  protects('operation-start', 'and operation-end show ciphertext, as do the events of the driver', async () => {
    const seen: unknown[] = []
    const listen = (event: unknown) => void seen.push(event)
    const client = clinic.connection.getClient()
    const [own, driver] = [
      ['operation-start', 'operation-end', 'buffer', 'buffer-end'],
      ['commandStarted', 'commandSucceeded', 'commandFailed'],
    ] as const
    for (const name of own) clinic.connection.on(name, listen)
    for (const name of driver) client.on(name, listen)
    await useModel()
    for (const name of own) clinic.connection.off(name, listen)
    for (const name of driver) client.off(name, listen)
    expect(seen.length).toBeGreaterThan(30)
    for (const event of seen) expect(inspect(event, { depth: 10 })).not.toContain(CANARY)
  })

  it('what Mongoose publishes on its tracing channels can be shown once it is redacted', async () => {
    const names = ['query', 'aggregate', 'model:save', 'model:insertMany', 'model:bulkWrite']
    const seen: { readonly args?: unknown }[] = []
    const listen = (message: unknown) => void seen.push(message as { readonly args?: unknown })
    for (const name of names) diagnostics.subscribe(`tracing:mongoose:${name}:start`, listen)
    await useModel()
    for (const name of names) diagnostics.unsubscribe(`tracing:mongoose:${name}:start`, listen)
    if (mongoose.version.startsWith('8.')) expect(seen).toEqual([])
    else expect(seen.some(({ args }) => inspect(args, { depth: 10 }).includes(CANARY))).toBe(true)
    for (const { args } of seen) {
      const shown = inspect(redactOperation(Person, args), { depth: 12 })
      expect(shown).not.toContain(CANARY)
      expect(shown).not.toContain(String(NUMBER))
    }
  })

  it.each<[string, unknown]>([
    ['a document', { name: 'x', ssn: CANARY, grid: [[CANARY]], history: [{ note: CANARY }] }],
    ['a Map', { phones: new Map([['work', CANARY]]) }],
    ['a filter', { $or: [{ ssn: { $in: [CANARY] } }, { history: { $elemMatch: { note: CANARY } } }] }],
    ['an update', { $set: { 'history.0.note': CANARY, 'phones.work': CANARY }, $push: { history: { note: CANARY } } }],
    ['a pipeline', [{ $match: { ssn: CANARY } }, { $facet: { a: [{ $match: { email: CANARY } }] } }]],
    ['a bulk write', [{ insertOne: { document: { ssn: CANARY } } }, { updateOne: { filter: { email: CANARY } } }]],
    ['arguments', { filter: { ssn: CANARY }, options: { arrayFilters: [{ 'h.note': CANARY }, { h: CANARY }] } }],
    ['a list of documents', { docs: [{ ssn: CANARY }] }],
    ['an expression', { $expr: { $and: [{ $eq: ['$email', CANARY] }, { $in: [{ $toLower: '$ssn' }, [CANARY]] }] } }],
    ['a value that looks like a path', { $push: { name: '$ssn', history: { note: `$${CANARY}` } } }],
    ['a condition in code', { $where: `this.ssn === '${CANARY}'` }],
    [
      'expressions of a pipeline',
      [
        { $addFields: { found: { $regexMatch: { input: '$$ROOT.ssn', regex: CANARY } } } },
        { $group: { _id: { $cond: [{ $eq: ['$email', { $literal: CANARY }] }, 1, 0] } } },
        { $project: { of: { $filter: { input: '$history', cond: { $eq: ['$$this.note', CANARY] } } } } },
        { $redact: { $cond: [{ $eq: ['$ssn', CANARY] }, '$$KEEP', '$$PRUNE'] } },
      ],
    ],
  ])('redacts %s', (_what, value) => {
    const before = inspect(value, { depth: 12 })
    expect(inspect(redactOperation(Person, value), { depth: 12 })).not.toContain(CANARY)
    expect(inspect(redactOperation(Person, new Person({ ssn: CANARY })), { depth: 12 })).not.toContain(CANARY)
    expect(inspect(value, { depth: 12 })).toBe(before)
  })

  it('redacts what stands beside a variable, or beside an operator that names a field without a path', () => {
    const beside = [
      { $expr: { $eq: [{ $getField: 'ssn' }, CANARY] } },
      [{ $lookup: { from: 'x', let: { s: '$ssn' }, pipeline: [{ $match: { $expr: { $eq: ['$$s', CANARY] } } }] } }],
    ]
    for (const each of beside) expect(inspect(redactOperation(Person, each), { depth: 12 })).not.toContain(CANARY)
  })

  it('redacts what a pipeline asks of documents of another collection', () => {
    const from = Person.collection.collectionName
    const Visit = clinic.model(new Schema({ ssn: String, place: String }))
    const Bill = clinic.model(new Schema({ ssn: String, paid: { type: Boolean, encrypted: true } }))
    for (const Other of [Visit, Bill]) {
      const pipeline = [
        { $lookup: { from, as: 'people', pipeline: [{ $match: { ssn: CANARY, name: 'x' } }] } },
        { $match: { 'people.email': CANARY } },
        { $addFields: { found: { $in: [CANARY, '$people.ssn'] } } },
      ]
      const shown = redactOperation(Other, { pipeline })
      expect(inspect(shown, { depth: 12 })).not.toContain(CANARY)
      expect(shown).toMatchObject({ pipeline: [{ $lookup: { from, pipeline: [{ $match: { name: 'x' } }] } }, {}, {}] })
      expect(redactOperation(Other, { pipeline: [{ $match: { ssn: 'x' } }] })).toEqual({
        pipeline: [{ $match: { ssn: 'x' } }],
      })
    }
  })

  it('keeps paths, operators, plain values and nulls, and leaves other models alone', () => {
    const shown = redactOperation(Person, { name: 'x', ssn: null, $set: { name: 'y', email: 'z' }, age: { $gt: 1 } })
    expect(shown).toEqual({ name: 'x', ssn: null, $set: { name: 'y', email: '[redacted]' }, age: '[redacted]' })
    const stages = [{ $match: { $expr: { $eq: ['$name', 'x'] } } }, { $unwind: '$history' }, { $limit: 3 }]
    expect(redactOperation(Person, stages)).toEqual(stages)
    expect(redactOperation(Person, { $expr: { $eq: ['$ssn', 'x'] } })).toEqual({
      $expr: { $eq: ['$ssn', '[redacted]'] },
    })
    const followed = [
      { $group: { _id: '$name', visits: { $sum: 1 } } },
      { $match: { visits: { $gt: 3 } } },
      { $group: { _id: '$ssn' } },
    ]
    const lost = [{ $match: { _id: 'y', name: null } }, { $sort: { _id: -1 } }, { $limit: 3 }]
    expect(redactOperation(Person, { pipeline: [...followed, ...lost] })).toEqual({
      pipeline: [
        ...followed.slice(0, 2),
        { $group: { _id: '$ssn' } },
        { $match: { _id: '[redacted]', name: null } },
        ...lost.slice(1),
      ],
    })
    const Plain = clinic.model(new Schema({ ssn: String }))
    expect(redactOperation(Plain, { ssn: 'x' })).toEqual({ ssn: 'x' })
  })

  it.each<[string, () => Promise<unknown>]>([
    ['a validator of a path', () => Person.create({ ssn: `no ${CANARY}` })],
    ['a length', () => Person.create({ ssn: `${CANARY}${CANARY}${CANARY}` })],
    ['an enumeration', () => Person.create({ kind: `x${CANARY}` })],
    ['a maximum', () => Person.create({ age: NUMBER * 10 })],
    ['a cast of a document', () => Person.create({ age: CANARY, born: CANARY })],
    ['a cast inside an array', () => Person.create({ history: [{ note: { object: CANARY } }] })],
    ['a cast of an array', () => Person.create({ history: CANARY })],
    ['a cast inside a Map', () => Person.create({ phones: { work: { object: CANARY } } })],
    ['validate()', () => new Person({ kind: `x${CANARY}` }).validate()],
    ['Person.validate()', () => Person.validate({ age: CANARY })],
    ['insertMany', () => Person.insertMany([{ age: CANARY }])],
    [
      'insertMany unordered',
      () => Person.insertMany([{ age: CANARY }], { ordered: false, throwOnValidationError: true }),
    ],
    ['bulkWrite', () => Person.bulkWrite([{ updateOne: { filter: { age: CANARY }, update: {} } }])],
    ['bulkSave', () => Person.bulkSave([new Person({ kind: `x${CANARY}` })])],
    ['a cast of a filter', () => Person.findOne({ born: CANARY })],
    ['a cast of a filter of a number', () => Person.countDocuments({ age: CANARY })],
    ['a cast of an update', () => Person.updateOne({}, { $set: { age: CANARY } })],
    ['a cast of an operator', () => Person.updateOne({}, { $inc: { age: CANARY } })],
    ['a validator of an update', () => Person.updateOne({}, { $set: { kind: `x${CANARY}` } }, { runValidators: true })],
    ['a document that is not found', () => Person.findOne({ email: CANARY }).orFail()],
    ['an update that finds nothing', () => Person.findOneAndUpdate({ email: CANARY }, { ssn: CANARY }).orFail()],
    ['a delete that finds nothing', () => Person.deleteOne({ email: CANARY }).orFail()],
    ['a cast inside an array whose name a plain path has', () => Person.find({ 'visits.count': CANARY })],
    ['the same in $elemMatch', () => Person.find({ visits: { $elemMatch: { count: CANARY } } })],
    ['the same in $pull', () => Person.updateOne({}, { $pull: { visits: { count: CANARY } } })],
    ['castObject', async () => Person.castObject({ born: CANARY, history: [CANARY] } as never)],
    ['text in place of a document', () => Person.insertMany([`{"ssn":"${CANARY}"}`] as never)],
    ['text in place of a filter', () => Person.findOne(`{"ssn":"${CANARY}"}` as never)],
    ['a range', () => Person.find({ ssn: { $gt: CANARY } })],
    ['a pattern', () => Person.find({ ssn: new RegExp(CANARY) })],
    ['a condition on a path without an index', () => Person.find({ ssn: CANARY })],
    ['a condition on a parent', () => Person.find({ history: { note: CANARY } } as never)],
  ])('%s: the error has nothing of the value', async (_what, run) => {
    const error: unknown = await run().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(Error)
    expect(textOf(error)).not.toContain(CANARY)
    expect(textOf(error)).not.toContain(String(NUMBER))
  })

  it('validateSync: the error has nothing of the value', () => {
    const error: unknown = new Person({ age: CANARY, ssn: `no ${CANARY}` }).validateSync()
    expect(error).toBeInstanceOf(Error)
    expect(textOf(error)).not.toContain(CANARY)
  })

  it('text in place of an object: no error of a constructor or of set has it', () => {
    const Sub = new Schema({ text: String }, { _id: false })
    for (const strict of [true, 'throw'] as const) {
      const Strict = clinic.model(
        new Schema(
          { home: { street: { type: String, encrypted: true } }, consent: { type: Sub, encrypted: true } },
          { strict },
        ),
      )
      const errors = [
        () => new Strict({ home: CANARY }),
        () => new Strict({ consent: CANARY }).validateSync(),
        () => new Strict({}).set({ home: CANARY }),
        () => new Strict({}).$set({ home: CANARY }),
      ].flatMap((run) => {
        try {
          const result = run()
          return result instanceof Error ? [result] : []
        } catch (error) {
          return [error as Error]
        }
      })
      expect(errors).toHaveLength(strict === 'throw' ? 4 : 1)
      for (const error of errors) expect(`${error.message} ${error.stack}`).not.toContain(CANARY)
    }
  })

  it('an error of a plain path still says what was wrong with it', async () => {
    const Plain = clinic.model(new Schema({ count: Number, ssn: { type: String, encrypted: true } }))
    await expect(Plain.create({ count: 'many', ssn: 'x' })).rejects.toThrow(/count.*"many"/)
  })
})
