import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema, Types } from 'mongoose'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

describe.runIf(hasMongo())('upserts', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Account: LooseModel
  beforeAll(async () => {
    Account = clinic.model(accountSchema())
    await Account.init()
  })
  beforeEach(() => Account.deleteMany({}))
  const all = () => Account.find({}).sort('_id').lean()
  const native = () => Account.collection as unknown as Record<'updateOne', (...args: unknown[]) => Promise<unknown>>

  // A token without its value would be a document that is found and cannot be read.
  afterEach(async () => {
    for (const { email, tags, phones } of await clinic.stored(Account))
      for (const leaf of [email, tags, ...Object.values(Object(phones) as object)].flat())
        if (leaf !== null && leaf !== undefined) expect(Object.keys(leaf as object)).toContain('c')
  })

  protects('updateOne upsert', 'stores what the filter asks for, searchable and readable', async () => {
    await Account.updateOne({ email: clinic.secret('Only@Filter.org') }, {}, { upsert: true })
    await Account.updateOne(
      { email: clinic.secret('filter@x.org'), plan: 'basic' },
      { $set: { ssn: clinic.secret('ssn-upserted') }, $inc: { logins: 1 } },
      { upsert: true },
    )
    expect(await all()).toMatchObject([
      { email: 'Only@Filter.org', note: 'by default' },
      { email: 'filter@x.org', plan: 'basic', ssn: 'ssn-upserted', logins: 1 },
    ])
    await Account.updateOne({ email: 'FILTER@x.org' }, { ssn: clinic.secret('ssn-updated') }, { upsert: true })
    expect(await Account.findOne({ email: 'filter@x.org' }).lean()).toMatchObject({ ssn: 'ssn-updated' })
    expect(await Account.countDocuments({})).toBe(2)
  })

  protects(
    'updateOne upsert',
    'every way to ask for equality, also where the update writes the path or what holds it',
    async () => {
      const upsert = (filter: object, update: object = { $set: { plan: 'x' } }) =>
        native().updateOne(filter, update, { upsert: true })
      await upsert({ email: { $eq: clinic.secret('eq@x.org') } })
      await upsert({ email: { $in: [clinic.secret('in@x.org')] } })
      await upsert({ $and: [{ email: clinic.secret('and@x.org') }, { plan: 'z' }] }, { $set: { ssn: 'q' } })
      await upsert({ $or: [{ email: clinic.secret('or@x.org') }] })
      await upsert({ email: { $eq: clinic.secret('eqne@x.org'), $ne: 'b@x.org' } })
      await upsert({ email: clinic.secret('changed@x.org') }, { $set: { email: clinic.secret('to@x.org') } })
      await upsert({ email: clinic.secret('gone@x.org') }, { $unset: { email: 1 }, $set: { plan: 'gone' } })
      await upsert({ 'address.street': clinic.secret('Asked Street') }, { $set: { address: { city: 'Set' } } })
      await upsert({ 'address.street': clinic.secret('Other Street') }, { $set: { 'address.city': 'Beside' } })
      await upsert({ tags: clinic.secret('tag-asked') })
      await upsert({ tags: { $all: [clinic.secret('tag-all')] } })
      await upsert({ 'phones.work': clinic.secret('phone-asked') })
      await upsert({ email: { $in: [clinic.secret('two@x.org'), 'three@x.org'] } }, { $set: { plan: 'two' } })
      const found = await all()
      expect(found.map(({ email }) => email).filter(Boolean)).toEqual(
        expect.arrayContaining(['eq@x.org', 'and@x.org', 'eqne@x.org', 'to@x.org']),
      )
      for (const email of ['eq@x.org', 'in@x.org', 'and@x.org', 'or@x.org', 'eqne@x.org', 'to@x.org'])
        expect(await Account.countDocuments({ email }), email).toBe(1)
      expect(await Account.countDocuments({ email: 'changed@x.org' })).toBe(0)
      expect(found.find(({ plan }) => plan === 'gone')).not.toHaveProperty('email')
      expect(found.filter(({ address }) => address).map(({ address }) => address)).toEqual([
        { city: 'Set' },
        { street: 'Other Street', city: 'Beside' },
      ])
      expect(await Account.find({ tags: 'tag-asked' })).toMatchObject([{ tags: ['tag-asked'] }])
      expect(await Account.find({ 'phones.work': 'phone-asked' }).lean()).toMatchObject([
        { phones: { work: 'phone-asked' } },
      ])
    },
  )

  protects(
    'updateOne $setOnInsert',
    'values, defaults, timestamps, and nothing of them for a document that is there',
    async () => {
      const upsert = (email: string, plan: string) =>
        Account.updateOne(
          { email },
          { $set: { plan }, $setOnInsert: { ssn: clinic.secret('ssn-on-insert') } },
          { upsert: true, setDefaultsOnInsert: true },
        )
      await upsert(clinic.secret('soi@x.org'), 'one')
      await upsert('soi@x.org', 'two')
      const [found, ...more] = await all()
      expect(more).toEqual([])
      expect(found).toMatchObject({ email: 'soi@x.org', ssn: 'ssn-on-insert', plan: 'two', note: 'by default' })
      expect(found.createdAt).toBeInstanceOf(Date)
      expect(found.updatedAt.getTime()).toBeGreaterThanOrEqual(found.createdAt.getTime())
      await Account.updateOne({ email: 'soi@x.org' }, { $setOnInsert: { ssn: 'another' } }, { upsert: true })
      expect(await all()).toMatchObject([{ ssn: 'ssn-on-insert' }])
    },
  )

  protects('findOneAndUpdate upsert', 'gives null before and the new document after', async () => {
    const email = clinic.secret('foau@x.org')
    expect(await Account.findOneAndUpdate({ email }, { ssn: clinic.secret('ssn-foau') }, { upsert: true })).toBeNull()
    expect(
      await Account.findOneAndUpdate(
        { email: clinic.secret('foau-2@x.org') },
        { ssn: 'ssn-foau' },
        { upsert: true, returnDocument: 'after' },
      ),
    ).toMatchObject({ email: 'foau-2@x.org', ssn: 'ssn-foau', note: 'by default' })
    expect(await Account.findOneAndUpdate({ email }, { ssn: 's2' }, { upsert: true })).toMatchObject({
      ssn: 'ssn-foau',
    })
  })

  protects('updateOne upsert', 'by _id binds the values to the document', async () => {
    const _id = new Types.ObjectId()
    await Account.updateOne({ _id }, { ssn: clinic.secret('ssn-bound') }, { upsert: true })
    expect(await Account.findById(_id).lean()).toMatchObject({ ssn: 'ssn-bound' })
  })

  protects('updateMany upsert', 'makes one document where none is met', async () => {
    await Account.updateMany(
      { email: clinic.secret('many@x.org') },
      { ssn: clinic.secret('ssn-many') },
      { upsert: true },
    )
    expect(await all()).toMatchObject([{ email: 'many@x.org', ssn: 'ssn-many' }])
  })

  it('twenty upserts of one searchable value at the same time make one document, and none of them fails', async () => {
    const email = clinic.secret('race@x.org')
    await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        n % 2 === 0
          ? Account.updateOne({ email }, { $set: { ssn: `ssn-${n}` }, $inc: { logins: 1 } }, { upsert: true })
          : Account.findOneAndUpdate({ email }, { $set: { ssn: `ssn-${n}` }, $inc: { logins: 1 } }, { upsert: true }),
      ),
    )
    expect(await all()).toMatchObject([{ email, logins: 20 }])
  })

  it('an upsert that another unique value hinders is the error of the server, without the token', async () => {
    await Account.create({ email: clinic.secret('taken@x.org') })
    const attempt = Account.updateOne({ plan: 'new' }, { email: 'TAKEN@x.org' }, { upsert: true })
    await expect(attempt).rejects.toMatchObject({ code: 11000 })
    await expect(attempt).rejects.not.toThrow(/Binary|TAKEN/)
    expect(await all()).toHaveLength(1)
  })

  refuses(
    'updateOne $inc upsert',
    'an encrypted number of a document that does not exist',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'emulate-upsert' },
    () => Account.updateOne({ email: clinic.secret('inc@x.org') }, { $inc: { age: 1 } }, { upsert: true }),
  )
  refuses(
    'updateOne pipeline upsert',
    'with a searchable path in the filter',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'pipeline-update' },
    () => native().updateOne({ email: clinic.secret('pipe@x.org') }, [{ $set: { plan: 'x' } }], { upsert: true }),
  )
  refuses(
    'updateOne upsert',
    'with one element of an array in the filter',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'emulate-upsert' },
    () => native().updateOne({ 'tags.0': clinic.secret('tag-at-0') }, { $set: { plan: 'x' } }, { upsert: true }),
  )
  refuses(
    'updateOne upsert',
    'with a path that is not searchable in the filter',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' },
    () => Account.updateOne({ ssn: clinic.secret('ssn-filter') }, { plan: 'x' }, { upsert: true }),
  )

  it('leaves the objects of the caller as they are', async () => {
    const [filter, update, options] = [
      { email: 'kept@x.org' },
      { $setOnInsert: { plan: 'p' }, $set: { ssn: 's' } },
      { upsert: true },
    ]
    const before = structuredClone([filter, update, options])
    await native().updateOne(filter, update, options)
    expect([filter, update, options]).toEqual(before)
  })

  refuses(
    'updateOne upsert',
    'an element beside what the filter asks of the same array',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'emulate-upsert' },
    () =>
      native().updateOne(
        { 'cards.pan': clinic.secret('card-asked-for') },
        { $set: { 'cards.0': { pan: clinic.secret('card-set') } } },
        { upsert: true },
      ),
  )

  it('a discriminator upserts documents of its own kind', async () => {
    const base = clinic.model(
      new Schema({ email: { type: String, encrypted: { blindIndex: true } } }, { discriminatorKey: 'kind' }),
    )
    const Card = base.discriminator(`${base.modelName}Card`, new Schema({ pan: { type: String, encrypted: true } }))
    const email = clinic.secret('card@x.org')
    await Card.updateOne({ email }, { pan: clinic.secret('4111-1111') }, { upsert: true })
    await Card.updateOne({ email }, { pan: clinic.secret('4222-2222') }, { upsert: true })
    expect(await base.find({}).lean()).toMatchObject([{ email, pan: '4222-2222', kind: `${base.modelName}Card` }])
  })
})

function accountSchema() {
  return new Schema(
    {
      plan: String,
      logins: Number,
      email: { type: String, encrypted: { blindIndex: { normalize: 'email', unique: true } } },
      ssn: { type: String, encrypted: true },
      age: { type: Number, encrypted: true },
      note: { type: String, encrypted: true, default: () => 'by default' },
      tags: { type: [{ type: String, encrypted: { blindIndex: true } }], default: undefined },
      cards: {
        type: [new Schema({ pan: { type: String, encrypted: { blindIndex: true } } }, { _id: false })],
        default: undefined,
      },
      phones: { type: Map, of: { type: String, encrypted: { blindIndex: true } } },
      address: {
        type: new Schema({ street: { type: String, encrypted: { blindIndex: true } }, city: String }, { _id: false }),
      },
    },
    { timestamps: true },
  )
}
