import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema, Types, type Document } from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { twinsOf, usePlainConnection, type Twins } from './support/twin.ts'

const ID = new Types.ObjectId('65f000000000000000000001')

describe.runIf(hasMongo())('projections', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const past = usePlainConnection()
  let twins: Twins
  beforeAll(async () => {
    twins = twinsOf(
      clinic,
      past,
      (seal) =>
        new Schema({
          name: String,
          email: { type: String, ...seal({ blindIndex: true }) },
          secret: { type: String, select: false, ...seal() },
          pin: { type: String, select: false },
          tags: [{ type: String, ...seal({ blindIndex: true }) }],
          history: [{ at: Number, note: { type: String, ...seal({ blindIndex: true }) } }],
          phones: { type: Map, of: { type: String, ...seal({ blindIndex: true }) } },
          address: { street: { type: String, ...seal() }, city: String },
          consent: { type: new Schema({ text: String, by: { name: String, role: String } }), ...seal() },
          list: { type: [String], ...seal() },
          visits: [{ room: Number, report: { type: new Schema({ text: String, lines: [String] }), ...seal() } }],
        }),
    )
    for (const text of [
      'ada@example.org',
      'seal-secret',
      'tag-one',
      'tag-two',
      'first note',
      'second note',
      'third note',
    ])
      clinic.secret(text)
    for (const text of ['555-1234', '555-9999', 'Main Street 1', 'i consent', 'list-one', 'the report', 'line-one'])
      clinic.secret(text)
    await twins.insert([
      {
        _id: ID,
        name: 'ada',
        email: 'ada@example.org',
        secret: 'seal-secret',
        pin: 'plain-pin',
        tags: ['tag-one', 'tag-two'],
        history: [
          { _id: ID, at: 1, note: 'first note' },
          { _id: ID, at: 2, note: 'second note' },
          { _id: ID, at: 3, note: 'third note' },
        ],
        phones: { work: '555-1234', home: '555-9999' },
        address: { street: 'Main Street 1', city: 'London' },
        consent: { _id: ID, text: 'i consent', by: { name: 'ada', role: 'self' } },
        list: ['list-one', 'list-two'],
        visits: [{ _id: ID, room: 1, report: { _id: ID, text: 'the report', lines: ['line-one'] } }],
      },
    ])
  })

  /** The document as a projection shows it, the same for both twins, hydrated too. */
  async function shown(projection: unknown, filter: Record<string, unknown> = { name: 'ada' }): Promise<object> {
    const [sealed, plain] = await twins.both((model) => model.find(filter as never, projection as never).lean())
    expect(sealed).toEqual(plain)
    const [one, other] = await twins.both((model) => model.findOne(filter as never, projection as never).lean())
    expect(one).toEqual(other)
    const hydrated = await twins.both(async (model) =>
      ((await model.find(filter as never, projection as never)) as Document[]).map((each) => each.toObject()),
    )
    expect(hydrated[0]).toEqual(hydrated[1])
    const [first] = sealed
    return first as unknown as object
  }

  protects('projection inclusive', 'the paths asked for, and nothing that was read beside them', async () => {
    expect(await shown({ email: 1 })).toEqual({ _id: ID, email: 'ada@example.org' })
    expect(await shown({ name: 1 })).toEqual({ _id: ID, name: 'ada' })
    expect(await shown({ email: 1, _id: 0 })).toEqual({ email: 'ada@example.org' })
    expect(await shown({ name: 1, _id: 0 })).toEqual({ name: 'ada' })
    expect(await shown('email name')).toEqual({ _id: ID, email: 'ada@example.org', name: 'ada' })
    expect(await shown(['email'])).toEqual({ _id: ID, email: 'ada@example.org' })
    expect(await shown({ 'history.note': 1 })).toMatchObject({ history: [{ note: 'first note' }, {}, {}] })
    expect(await shown({ 'history.at': 1, _id: 0 })).toMatchObject({ history: [{ at: 1 }, {}, {}] })
    expect(await shown({ address: 1 })).toMatchObject({ address: { street: 'Main Street 1', city: 'London' } })
    expect(await shown({ 'phones.work': 1 })).toEqual({ _id: ID, phones: { work: '555-1234' } })
    expect(await shown({ _id: 1 })).toEqual({ _id: ID })
  })
  protects('projection inclusive', 'what a filter looked for is compared and taken away again', async () => {
    const filter = { email: 'ada@example.org' }
    expect(await shown({ name: 1 }, filter)).toEqual({ _id: ID, name: 'ada' })
    expect(await shown({ name: 1, _id: 0 }, filter)).toEqual({ name: 'ada' })
    expect(await shown({ _id: 1 }, filter)).toEqual({ _id: ID })
    expect(await shown({ email: 0 }, filter)).not.toHaveProperty('email')
    expect(await shown({ email: 1 }, filter)).toEqual({ _id: ID, email: 'ada@example.org' })
    expect(await shown({ name: 1 }, { 'history.note': 'first note' })).toEqual({ _id: ID, name: 'ada' })
    expect(await shown({ 'history.at': 1 }, { 'history.note': 'first note' })).toMatchObject({
      history: [{ at: 1 }, {}, {}],
    })
    expect(await shown({ 'history.note': 0 }, { 'history.note': 'first note' })).toMatchObject({ name: 'ada' })
    expect(await shown({ history: 0 }, { 'history.note': 'first note' })).not.toHaveProperty('history')
    expect(await shown({ name: 1 }, { 'phones.work': '555-1234' })).toEqual({ _id: ID, name: 'ada' })
    expect(await shown({ 'phones.home': 1 }, { 'phones.work': '555-1234' })).toEqual({
      _id: ID,
      phones: { home: '555-9999' },
    })
    expect(await shown({ 'phones.work': 0 }, { 'phones.work': '555-1234' })).toMatchObject({
      phones: { home: '555-9999' },
    })
    expect(await shown({ name: 1 }, { tags: 'tag-two' })).toEqual({ _id: ID, name: 'ada' })
    expect(await shown({ name: 1 }, { $or: [{ tags: 'tag-two' }, { email: 'x' }] })).toEqual({ _id: ID, name: 'ada' })
  })
  protects('projection exclusive', 'everything but the paths named', async () => {
    expect(await shown({ email: 0 })).not.toHaveProperty('email')
    expect(await shown({ _id: 0 })).toHaveProperty('email', 'ada@example.org')
    expect(await shown({ name: 0, _id: 0 })).toHaveProperty('email', 'ada@example.org')
    expect(await shown('-email -history.note')).toMatchObject({ history: [{ at: 1 }, { at: 2 }, { at: 3 }] })
    expect(await shown({ 'address.street': 0 })).toMatchObject({ address: { city: 'London' } })
    expect(await shown({ consent: 0, list: 0 })).not.toHaveProperty('consent')
  })
  protects('projection +field', 'a path that is not selected by default', async () => {
    expect(await shown({})).not.toHaveProperty('secret')
    expect(await shown('+secret')).toMatchObject({ secret: 'seal-secret', name: 'ada' })
    expect(await shown('+secret +pin')).toMatchObject({ secret: 'seal-secret', pin: 'plain-pin' })
    expect(await shown('+pin')).not.toHaveProperty('secret')
    expect(await shown({ secret: 1 })).toEqual({ _id: ID, secret: 'seal-secret' })
  })
  protects('projection $slice', 'part of an array of encrypted elements', async () => {
    expect(await shown({ history: { $slice: 1 } })).toMatchObject({ history: [{ note: 'first note' }], name: 'ada' })
    expect(await shown({ history: { $slice: -1 } })).toMatchObject({ history: [{ note: 'third note' }] })
    expect(await shown({ history: { $slice: [1, 1] }, name: 1 })).toMatchObject({ history: [{ note: 'second note' }] })
    expect(await shown({ tags: { $slice: -1 }, _id: 0 })).toMatchObject({ tags: ['tag-two'] })
    expect(await shown({ history: { $slice: 1 } }, { 'history.note': 'third note' })).toMatchObject({ name: 'ada' })
  })
  protects('projection $elemMatch', 'the first element that meets a condition', async () => {
    expect(await shown({ history: { $elemMatch: { note: 'second note' } } })).toMatchObject({ history: [{ at: 2 }] })
    expect(await shown({ history: { $elemMatch: { at: 3 } }, name: 1 })).toMatchObject({
      history: [{ note: 'third note' }],
    })
    expect(await shown({ history: { $elemMatch: { note: 'nobody' } } })).toEqual({ _id: ID })
    expect(await shown({ history: { $elemMatch: { at: 3 } }, _id: 0 })).toMatchObject({
      history: [{ at: 3 }],
      name: 'ada',
    })
  })
  protects('projection positional', 'the element that the filter met', async () => {
    expect(await shown({ 'history.$': 1 }, { 'history.note': 'second note' })).toMatchObject({ history: [{ at: 2 }] })
    expect(await shown({ 'tags.$': 1 }, { tags: 'tag-two' })).toEqual({ _id: ID, tags: ['tag-two'] })
    expect(
      await shown({ 'history.$': 1, name: 1 }, { history: { $elemMatch: { note: 'third note', at: 3 } } }),
    ).toMatchObject({
      history: [{ note: 'third note' }],
      name: 'ada',
    })
  })
  protects('projection inside a container', 'the container is read and trimmed', async () => {
    expect(await shown({ 'consent.text': 1 })).toEqual({ _id: ID, consent: { text: 'i consent' } })
    expect(await shown({ 'consent.by.role': 1, _id: 0 })).toEqual({ consent: { by: { role: 'self' } } })
    expect(await shown({ 'consent.by': 1, 'consent.text': 1 })).toMatchObject({ consent: { by: { name: 'ada' } } })
    expect(await shown({ 'visits.report.lines': 1 })).toMatchObject({ visits: [{ report: { lines: ['line-one'] } }] })
    expect(await shown({ 'visits.report.text': 1, 'visits.room': 1 })).toMatchObject({ visits: [{ room: 1 }] })
    expect(await shown({ 'consent.missing': 1 })).toEqual({ _id: ID, consent: {} })
  })
  protects('projection', 'an expression over plain paths', async () => {
    expect(await shown({ town: '$address.city', email: 1 })).toMatchObject({ town: 'London', email: 'ada@example.org' })
  })
  protects('findOneAndUpdate projection', 'the document that comes back, as it was asked for', async () => {
    for (const projection of [
      { email: 1, _id: 0 },
      { name: 1 },
      { email: 0 },
      { 'consent.text': 1 },
      { history: { $slice: 1 } },
    ]) {
      const [sealed, plain] = await twins.both((model) =>
        model.findOneAndUpdate(
          { name: 'ada' } as never,
          { $set: { name: 'ada' } } as never,
          { projection, lean: true } as never,
        ),
      )
      expect(sealed).toEqual(plain)
    }
  })

  const find = (projection: unknown) => twins.sealed.find({}, projection as never)
  refuses(
    'projection',
    'a computed value of an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => find({ copy: '$email' }),
  )
  refuses(
    'projection',
    'a value computed in place of an encrypted one',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => find({ email: { $literal: 'x' } }),
  )
  refuses(
    'projection',
    'the whole document under another name',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => find({ copy: '$$ROOT' }),
  )
  refuses('projection', 'the token', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-inside' }, () =>
    twins.sealed.collection.find({}, { projection: { 'email.b': 1 } }).toArray(),
  )
  refuses(
    'projection',
    'an exclusion inside a container',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'project-inside' },
    () => find({ 'consent.text': 0 }),
  )
  refuses(
    'projection $slice',
    'part of a container that is one value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'project-inside' },
    () => find({ list: { $slice: 1 } }),
  )
  refuses(
    'projection $elemMatch',
    'elements of a container that is one value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' },
    () => find({ list: { $elemMatch: { $eq: 'list-one' } } }),
  )
  refuses(
    'projection $elemMatch',
    'an order of encrypted elements',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => find({ history: { $elemMatch: { note: { $gt: 'a' } } } }),
  )
  refuses(
    'projection',
    'the ids of the keys of a document',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'reserved' },
    () => twins.sealed.collection.find({}, { projection: { '__fieldseal.k': 1 } }).toArray(),
  )

  describe('of a tenant', () => {
    const many = useClinic({ tenancy: 'multi' })
    let Patient: LooseModel
    const run = <R>(work: () => Promise<R>) => many.fieldseal.runAs({ tenant: 'clinic-7' }, work)
    beforeAll(async () => {
      Patient = many.model(
        new Schema(
          {
            meta: { clinic: { type: String, required: true }, other: Number },
            email: { type: String, encrypted: { blindIndex: true } },
            plain: String,
          },
          { encrypted: { tenantBy: 'meta.clinic' } },
        ),
      )
      await run(() =>
        Patient.create({
          _id: ID,
          meta: { clinic: 'clinic-7', other: 1 },
          email: many.secret('ada@example.org'),
          plain: 'p',
        }),
      )
    })
    it.each<[unknown, object]>([
      [{ _id: 1 }, { _id: ID }],
      [{ plain: 1 }, { _id: ID, plain: 'p' }],
      [{ plain: 1, _id: 0 }, { plain: 'p' }],
      [{ email: 1, _id: 0 }, { email: 'ada@example.org' }],
      [{ 'meta.other': 1 }, { _id: ID, meta: { other: 1 } }],
      [{ 'meta.clinic': 1 }, { _id: ID, meta: { clinic: 'clinic-7' } }],
      [{ meta: 1, _id: 0 }, { meta: { clinic: 'clinic-7', other: 1 } }],
      [
        { meta: 0, __v: 0 },
        { _id: ID, email: 'ada@example.org', plain: 'p' },
      ],
      [
        { 'meta.clinic': 0, __v: 0, plain: 0 },
        { _id: ID, email: 'ada@example.org', meta: { other: 1 } },
      ],
      [
        { 'meta.clinic': 0, 'meta.other': 0, __v: 0, _id: 0 },
        { email: 'ada@example.org', meta: {}, plain: 'p' },
      ],
    ])('reads its path and takes it away again: %j', async (projection, expected) => {
      expect(await run(() => Patient.findOne({ email: 'ada@example.org' }, projection as never).lean())).toEqual(
        expected,
      )
      expect(await run(() => Patient.find({}, projection as never).lean())).toEqual([expected])
    })
    it('is compared by exists()', async () => {
      expect(await run(() => Patient.exists({ email: 'ada@example.org' }).exec())).toMatchObject({ _id: ID })
      expect(await run(() => Patient.exists({ plain: 'p' }).exec())).toMatchObject({ _id: ID })
      await expect(
        many.fieldseal.runAs({ tenant: 'clinic-8' }, () => Patient.exists({ plain: 'p' }).exec()),
      ).rejects.toMatchObject({ code: 'ERR_TENANT_MISMATCH' })
    })
  })
})

describe.runIf(hasMongo())('how values come back', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const past = usePlainConnection()
  let twins: Twins
  beforeAll(async () => {
    twins = twinsOf(
      clinic,
      past,
      (seal) =>
        new Schema({
          _id: Schema.Types.UUID,
          int: { type: Number, ...seal() },
          float: { type: Number, ...seal() },
          long: { type: BigInt, ...seal() },
          huge: { type: BigInt, ...seal() },
          bytes: { type: Buffer, ...seal() },
          day: { type: Date, ...seal() },
          box: { type: Schema.Types.Mixed, ...seal() },
          uuid: { type: Schema.Types.UUID, ...seal() },
          decimal: { type: Schema.Types.Decimal128, ...seal() },
        }),
    )
    await twins.insert([
      {
        _id: '0b6c2f1e-6a53-4d5e-9d0a-0e7b9f3f1c11',
        int: -(2 ** 31),
        float: -0,
        long: 7n,
        huge: 2n ** 60n,
        bytes: Buffer.from('some bytes'),
        day: new Date(1e12),
        box: { a: 1, b: 2.5, c: Buffer.from('in a box'), d: [new Types.ObjectId(ID), 2n ** 40n], e: /re/i },
        uuid: '0b6c2f1e-6a53-4d5e-9d0a-0e7b9f3f1c12',
        decimal: '1.50',
      },
    ])
  })

  it.each<[object]>([
    [{}],
    [{ promoteValues: false }],
    [{ promoteLongs: false }],
    [{ promoteBuffers: true }],
    [{ promoteBuffers: true, promoteValues: false }],
    [{ useBigInt64: true }],
    [{ bsonRegExp: true }],
    [{ promoteLongs: false, promoteBuffers: true }],
  ])('is as if they had been stored plain: %j', async (options) => {
    const types = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(types)
      if (typeof value !== 'object' || value === null)
        return [typeof value, Object.is(value, -0) ? '-0' : String(value)]
      if (Object.getPrototypeOf(value) !== Object.prototype) return [value.constructor.name, JSON.stringify(value)]
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, types(each)]))
    }
    const [sealed, plain] = await twins.both((model) => model.find({}, null, options as never).lean())
    expect(types(sealed)).toEqual(types(plain))
    const [one, other] = await twins.both((model) => model.collection.findOne({}, options as never))
    const { __fieldseal: _, ...stored } = { __fieldseal: 0, ...(one as object) }
    expect(types(stored)).toEqual(types(other))
    const [rows, others] = await twins.both((model) => model.collection.aggregate([], options as never).toArray())
    expect(types(rows)).toEqual(types(others))
  })

  it.each<[string, unknown, unknown]>([
    ['numbers', Number, 7],
    ['large numbers', Number, 2 ** 40],
    ['fractions', Number, 1.5],
    ['BigInts', BigInt, 2n ** 53n + 1n],
    ['small BigInts', BigInt, 5n],
    ['text', String, 'some-key'],
    ['UUIDs', Schema.Types.UUID, '0b6c2f1e-6a53-4d5e-9d0a-0e7b9f3f1c11'],
    ['subdocuments', new Schema({ a: Number, b: String }, { _id: false }), { a: 1, b: 'x' }],
    ['dates', Date, new Date(1e12)],
    ['decimals', Schema.Types.Decimal128, '1.5'],
    ['bytes', Buffer, Buffer.from('id')],
  ])('of documents whose ids are %s', async (_, type, _id) => {
    const Model = clinic.model(
      new Schema({ _id: type as never, ssn: { type: String, encrypted: true }, n: { type: Number, encrypted: true } }),
    )
    await Model.create({ _id, ssn: clinic.secret('ssn-by-any-id'), n: 1 } as never)
    for (const options of [
      {},
      { promoteLongs: false },
      { promoteValues: false },
      { useBigInt64: true },
      { promoteBuffers: true },
    ])
      expect(await Model.collection.find({}, options).toArray()).toMatchObject([{ ssn: 'ssn-by-any-id' }])
    const found = (await Model.findById(_id as never)) as unknown as { ssn: string; save(): Promise<unknown> }
    found.ssn = clinic.secret('ssn-was-changed')
    await found.save()
    await Model.updateOne({ _id } as never, { $inc: { n: 2 } } as never)
    expect(await Model.findOne({ _id } as never).lean()).toMatchObject({ ssn: 'ssn-was-changed', n: 3 })
  })
})
