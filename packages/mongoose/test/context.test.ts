import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema, Types, type Query as MongooseQuery } from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'

type Query<R> = MongooseQuery<R, unknown>

describe.runIf(hasMongo())('the context of the code that makes a query', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  let Patient: LooseModel
  let Ward: LooseModel
  let Made: new (filter: never) => Query<unknown>
  const make = <R>(work: () => R): R => clinic.fieldseal.runAs({ tenant: 'clinic-7' }, work)
  const elsewhere = <R>(work: () => R): R => clinic.fieldseal.runAs({ tenant: 'clinic-8' }, work)
  const id = new Types.ObjectId()
  beforeAll(async () => {
    const ssn = { type: String, encrypted: { blindIndex: true } }
    Patient = clinic.model(
      new Schema({ clinicId: String, name: String, ssn }, { encrypted: { tenantBy: 'clinicId' } }),
      'Patient',
    )
    Made = Patient.find(one).toConstructor() as unknown as typeof Made // made once, outside of any context
    Ward = clinic.model(new Schema({ no: Number, patient: { type: Schema.Types.ObjectId, ref: 'Patient' } }), 'Ward')
    await make(() => Patient.create({ _id: id, clinicId: 'clinic-7', name: 'ada', ssn: clinic.secret('ssn-of-ada') }))
    await elsewhere(() => Patient.create({ clinicId: 'clinic-8', name: 'bob', ssn: clinic.secret('ssn-of-bob') }))
    await Ward.create({ no: 1, patient: id })
  })
  const mine = { clinicId: 'clinic-7' } as never
  const one = { ssn: 'ssn-of-ada' }

  it.each<[string, () => PromiseLike<unknown>]>([
    ['find', () => Patient.find(one)],
    ['find, lean', () => Patient.find(one).lean()],
    ['findOne', () => Patient.findOne(one)],
    ['findById', () => Patient.findById(id)],
    ['a clone', () => Patient.find(one).clone()],
    ['where', () => Patient.where(one).findOne()],
    ['toConstructor', () => new Made(mine)],
    ['toConstructor, called', () => (Made as unknown as (filter: never) => Query<unknown>)(mine).sort({ name: 1 })],
    ['exists', () => Patient.exists(one)],
    ['countDocuments', () => Patient.countDocuments(one)],
    ['distinct', () => Patient.distinct('name', one)],
    ['orFail', () => Patient.findOne(one).orFail()],
    ['explain', () => Patient.find(one).explain()],
    ['aggregate', () => Patient.aggregate([{ $match: one }])],
    ['updateOne', () => Patient.updateOne(one, { $set: { name: 'ada' } })],
    ['findOneAndUpdate', () => Patient.findOneAndUpdate(one, { $set: { name: 'ada' } })],
    ['deleteOne', () => Patient.deleteOne({ ssn: 'nobody' })],
    ['populate, from a plain model', () => Ward.find().populate('patient')],
    [
      'aggregate $lookup, from a plain model',
      () =>
        Ward.aggregate([
          { $lookup: { from: Patient.collection.name, localField: 'patient', foreignField: '_id', as: 'p' } },
        ]),
    ],
  ])('is kept until it is awaited, outside of any context or in another one: %s', async (_, work) => {
    const first = JSON.stringify(await make(work))
    const second = make(work)
    expect(JSON.stringify(await elsewhere(async () => await second))).toEqual(first)
    expect(first === 'null' || first === '[]').toBe(false)
  })

  it('is kept by an aggregation that is explained', async () => {
    const made = make(() => Patient.aggregate([{ $match: one }]))
    expect(await elsewhere(() => made.explain())).toBeDefined()
  })

  it('is kept by cursors', async () => {
    const cursors = [
      make(() => Patient.find(one).cursor()),
      make(() => Patient.find(one)).cursor(),
      make(() => Patient.find(one).lean().batchSize(1).cursor()),
      make(() => Patient.aggregate([{ $match: one }]).cursor()),
      make(() => Patient.aggregate([{ $match: one }])).cursor(),
      make(() => Patient.collection.find(one as never)),
      make(() => Patient.collection.aggregate([{ $match: one }])),
    ]
    for (const cursor of cursors) {
      expect(await elsewhere(() => cursor.next())).toMatchObject(one)
      await cursor.close()
    }
    const query = make(() => Patient.find(one))
    const rows: unknown[] = []
    await elsewhere(async () => {
      for await (const row of query) rows.push(row)
    })
    for await (const row of make(() => Patient.aggregate([{ $match: one }]))) rows.push(row)
    expect(rows).toMatchObject([one, one])
  })

  it('is kept by a document’s save only while it runs: it saves in the context of its caller', async () => {
    const ada = (await make(() => Patient.findOne(one))) as unknown as { name: string; save(): Promise<unknown> }
    ada.name = 'changed'
    await expect(ada.save()).rejects.toMatchObject({ code: 'ERR_TENANT_MISSING' })
    ada.name = 'ada'
    await make(() => ada.save())
    expect(await make(() => Patient.findOne(one).lean().exec())).toMatchObject({ name: 'ada' })
  })

  it('does not leak from one query to another that runs at the same time', async () => {
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, at) =>
        at % 2 === 0
          ? make(() => Patient.find(mine).lean())
          : elsewhere(() => Patient.find({ clinicId: 'clinic-8' } as never).lean()),
      ),
    )
    results.forEach((rows, at) => expect(rows).toMatchObject([{ ssn: at % 2 === 0 ? 'ssn-of-ada' : 'ssn-of-bob' }]))
  })

  it.each<[string, () => unknown]>([
    ['find', () => Patient.find()],
    ['findOne', () => Patient.findOne(one)],
    ['countDocuments', () => Patient.countDocuments(one)],
    ['aggregate', () => Patient.aggregate([{ $match: one }])],
    ['cursor', () => Patient.find().cursor().next()],
    [
      'for await',
      async () => {
        for await (const _ of Patient.find()) return
      },
    ],
    [
      'aggregate cursor',
      () =>
        Patient.aggregate([{ $match: one }])
          .cursor()
          .next(),
    ],
    ['cursor of the collection', () => Patient.collection.find().toArray()],
    ['populate', () => Ward.find().populate('patient')],
    ['create', () => Patient.create({ clinicId: 'clinic-7' })],
    ['updateOne', () => Patient.updateOne({ _id: id }, { name: 'x' })],
    ['deleteMany', () => Patient.deleteMany({})],
    ['bulkWrite', () => Patient.bulkWrite([{ deleteMany: { filter: {} } }])],
  ])('missing is an error, before anything is sent: %s', async (_, work) => {
    await expect((async () => work())()).rejects.toMatchObject({ code: 'ERR_TENANT_MISSING' })
    expect(await make(() => Patient.countDocuments(mine).exec())).toBe(1)
  })

  it('plain models need none', async () => {
    expect(await Ward.find()).toHaveLength(1)
    expect(await Ward.aggregate([{ $match: { no: 1 } }])).toHaveLength(1)
    for await (const ward of Ward.find()) expect(ward).toMatchObject({ no: 1 })
  })

  it('work across tenants reads each document under its own tenant', async () => {
    const all = clinic.fieldseal.runAsSystem({ reason: 'report' }, () => Patient.find().sort({ name: 1 }).lean())
    expect(await all).toMatchObject([{ ssn: 'ssn-of-ada' }, { ssn: 'ssn-of-bob' }])
    const found = clinic.fieldseal.runAsSystem({ reason: 'report' }, () => Patient.find(one))
    await expect(found.exec()).rejects.toMatchObject({ details: { reason: 'system-context' } })
  })
})
