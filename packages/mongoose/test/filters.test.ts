import { hasMongo } from '@fieldseal/servers/vitest'
import { mongo, Schema, Types } from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import { useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { twinsOf, usePlainConnection, type Twins } from './support/twin.ts'

const ID = '65f000000000000000000'
const oid = (last: number) => new Types.ObjectId(`${ID}${String(last).padStart(3, '0')}`)

describe.runIf(hasMongo())('filters', () => {
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
          age: { type: Number, ...seal({ blindIndex: true }) },
          born: { type: Date, ...seal({ blindIndex: true }) },
          doctor: { type: Schema.Types.ObjectId, ...seal({ blindIndex: true }) },
          money: { type: BigInt, ...seal({ blindIndex: true }) },
          ssn: { type: String, ...seal() },
          tags: { type: [{ type: String, ...seal({ blindIndex: true }) }], default: undefined },
          grid: { type: [[{ type: String, ...seal({ blindIndex: true }) }]], default: undefined },
          history: {
            type: [{ _id: false, at: Number, note: { type: String, ...seal({ blindIndex: true }) } }],
            default: undefined,
          },
          phones: { type: Map, of: { type: String, ...seal({ blindIndex: true }) } },
          visits: {
            type: Map,
            of: new Schema({ room: Number, reason: { type: String, ...seal({ blindIndex: true }) } }, { _id: false }),
          },
          address: { street: { type: String, ...seal({ blindIndex: true }) }, city: String },
          consent: { type: new Schema({ text: String }, { _id: false }), ...seal() },
          list: { type: [String], default: undefined, ...seal() },
        }),
    )
    const texts = ['ada@example.org', 'bob@example.org', 'eve@example.org', 'Main Street 1', 'flu and fever', 'cough']
    for (const text of [...texts, 'tag-red', 'tag-blue', 'tag-green', '555-1234', '555-9999', 'ssn-secret'])
      clinic.secret(text)
    await twins.insert([
      {
        _id: oid(1),
        name: 'ada',
        email: 'ada@example.org',
        age: 36,
        born: new Date(1e12),
        doctor: oid(7),
        money: 12n,
        ssn: 'ssn-secret',
        tags: ['tag-red', 'tag-blue'],
        grid: [['tag-red'], ['tag-blue', 'tag-green']],
        history: [
          { at: 1, note: 'flu and fever' },
          { at: 2, note: 'cough' },
        ],
        phones: { work: '555-1234', home: '555-9999' },
        visits: { first: { room: 1, reason: 'cough' } },
        address: { street: 'Main Street 1', city: 'London' },
        consent: { text: 'ssn-secret' },
        list: ['tag-red'],
      },
      {
        _id: oid(2),
        name: 'bob',
        email: 'bob@example.org',
        age: 36,
        born: new Date(2e12),
        tags: ['tag-blue'],
        history: [{ at: 2, note: 'flu and fever' }],
        phones: { work: '555-9999' },
        visits: { first: { room: 1, reason: 'flu and fever' }, second: { room: 2, reason: 'cough' } },
        address: { street: 'Main Street 1', city: 'Paris' },
      },
      { _id: oid(3), name: 'eve', email: 'eve@example.org', age: 0, tags: [], history: [], money: 0n },
      { _id: oid(4), name: 'nil', email: null, age: null, tags: ['tag-red', null], history: [{ at: 1 }] },
      { _id: oid(5), name: 'none' },
    ])
  })

  /** Names of the documents that a filter meets, the same for both twins. */
  async function met(filter: Record<string, unknown>): Promise<string[]> {
    const [sealed, plain] = await twins.both(async (model) => {
      const found = await model
        .find(filter as never)
        .sort({ _id: 1 })
        .lean()
      const counted = await model.countDocuments(filter as never)
      expect(counted).toBe(found.length)
      return found.map((document) => (document as { readonly name: string }).name)
    })
    expect(sealed).toEqual(plain)
    return sealed
  }

  protects('filter equality', 'a value of every searchable type is found by its token', async () => {
    expect(await met({ email: 'ada@example.org' })).toEqual(['ada'])
    expect(await met({ email: 'nobody' })).toEqual([])
    expect(await met({ age: 36 })).toEqual(['ada', 'bob'])
    expect(await met({ age: 0 })).toEqual(['eve'])
    expect(await met({ age: -0 })).toEqual(['eve'])
    expect(await met({ born: new Date(1e12) })).toEqual(['ada'])
    expect(await met({ doctor: oid(7) })).toEqual(['ada'])
    expect(await met({ money: 12n })).toEqual(['ada'])
    expect(await met({ money: 0n })).toEqual(['eve'])
    expect(await met({ email: 'ada@example.org', age: 36 })).toEqual(['ada'])
    expect(await met({ email: 'ada@example.org', age: 0 })).toEqual([])
    expect(await met({ 'address.street': 'Main Street 1', 'address.city': 'Paris' })).toEqual(['bob'])
  })

  protects('filter $eq', 'equality', async () => {
    expect(await met({ email: { $eq: 'ada@example.org' } })).toEqual(['ada'])
    expect(await met({ email: { $eq: null } })).toEqual(['nil', 'none'])
  })
  protects('filter $ne', 'every other document, those without a value too', async () => {
    expect(await met({ email: { $ne: 'ada@example.org' } })).toEqual(['bob', 'eve', 'nil', 'none'])
    expect(await met({ email: { $ne: null } })).toEqual(['ada', 'bob', 'eve'])
    expect(await met({ tags: { $ne: 'tag-red' } })).toEqual(['bob', 'eve', 'none'])
  })
  protects('filter $in', 'one of several values', async () => {
    expect(await met({ email: { $in: ['ada@example.org', 'eve@example.org', 'nobody'] } })).toEqual(['ada', 'eve'])
    expect(await met({ email: { $in: [] } })).toEqual([])
    expect(await met({ tags: { $in: ['tag-blue', 'tag-green'] } })).toEqual(['ada', 'bob'])
  })
  protects('filter $nin', 'none of several values', async () => {
    expect(await met({ email: { $nin: ['ada@example.org', 'bob@example.org'] } })).toEqual(['eve', 'nil', 'none'])
    expect(await met({ email: { $nin: [] } })).toEqual(['ada', 'bob', 'eve', 'nil', 'none'])
  })
  protects('filter $all', 'every one of several values in an array', async () => {
    expect(await met({ tags: { $all: ['tag-red', 'tag-blue'] } })).toEqual(['ada'])
    expect(await met({ tags: { $all: ['tag-blue'] } })).toEqual(['ada', 'bob'])
    expect(await met({ tags: { $all: [] } })).toEqual([])
    expect(await met({ 'history.note': { $all: ['cough', 'flu and fever'] } })).toEqual(['ada'])
  })
  protects('filter $exists', 'presence is told without a key', async () => {
    expect(await met({ email: { $exists: true } })).toEqual(['ada', 'bob', 'eve', 'nil'])
    expect(await met({ ssn: { $exists: true } })).toEqual(['ada'])
    expect(await met({ ssn: { $exists: false }, email: { $exists: true, $ne: 'bob@example.org' } })).toEqual([
      'eve',
      'nil',
    ])
  })
  protects('filter null', 'null and missing values are found without a key', async () => {
    expect(await met({ email: null })).toEqual(['nil', 'none'])
    expect(await met({ ssn: null })).toEqual(['bob', 'eve', 'nil', 'none'])
    expect(await met({ tags: null })).toEqual(['nil', 'none'])
    expect(await met({ consent: null })).toEqual(['bob', 'eve', 'nil', 'none'])
  })
  protects('filter $size', 'length of an array of encrypted elements', async () => {
    expect(await met({ tags: { $size: 2 } })).toEqual(['ada', 'nil'])
    expect(await met({ tags: { $size: 2, $all: ['tag-blue'] } })).toEqual(['ada'])
    expect(await met({ history: { $size: 1 } })).toEqual(['bob', 'nil'])
  })
  protects('filter $not', 'negation of one and of several conditions', async () => {
    expect(await met({ email: { $not: { $eq: 'ada@example.org' } } })).toEqual(['bob', 'eve', 'nil', 'none'])
    expect(await met({ email: { $not: { $in: ['ada@example.org', 'bob@example.org'] } } })).toEqual([
      'eve',
      'nil',
      'none',
    ])
    expect(await met({ email: { $not: { $ne: 'ada@example.org' } } })).toEqual(['ada'])
    expect(await met({ email: { $not: { $eq: 'ada@example.org', $exists: true } } })).toEqual([
      'bob',
      'eve',
      'nil',
      'none',
    ])
    expect(await met({ email: { $not: { $ne: null, $nin: ['ada@example.org'] } } })).toEqual(['ada', 'nil', 'none'])
    expect(await met({ tags: { $not: { $all: ['tag-red', 'tag-blue'] } } })).toEqual(['bob', 'eve', 'nil', 'none'])
    expect(await met({ tags: { $not: { $size: 2, $eq: 'tag-blue' } } })).toEqual(['bob', 'eve', 'nil', 'none'])
    const twice = { email: { $not: { $not: { $eq: 'ada@example.org' } } } }
    expect(await twins.sealed.collection.find(twice as never).toArray()).toMatchObject([{ name: 'ada' }])
  })
  protects('filter $and', 'conditions on one path and on several', async () => {
    expect(await met({ $and: [{ tags: 'tag-red' }, { tags: 'tag-blue' }] })).toEqual(['ada'])
    expect(await met({ $and: [{ email: { $ne: 'ada@example.org' } }, { age: 36 }], tags: 'tag-blue' })).toEqual(['bob'])
    expect(await met({ email: { $ne: 'eve@example.org', $not: { $eq: 'bob@example.org' }, $exists: true } })).toEqual([
      'ada',
      'nil',
    ])
  })
  protects('filter $or', 'alternatives, a document as one of them', async () => {
    expect(await met({ $or: [{ email: 'ada@example.org' }, { age: 0 }] })).toEqual(['ada', 'eve'])
    expect(await met({ $or: [{ email: 'ada@example.org' }, { name: 'none' }], age: 36 })).toEqual(['ada'])
    const { sealed } = twins
    const Loose = clinic.model(new Schema({ email: String }, { _id: false, versionKey: false }), 'LooseFilter')
    const document = new Loose({ email: 'bob@example.org' })
    expect(await sealed.countDocuments({ $or: [document, { email: 'nobody' }] } as never)).toBe(1)
  })
  protects('filter $nor', 'none of several alternatives', async () => {
    expect(await met({ $nor: [{ email: 'ada@example.org' }, { tags: 'tag-blue' }] })).toEqual(['eve', 'nil', 'none'])
    expect(await met({ $nor: [{ $and: [{ age: 36 }, { tags: 'tag-red' }] }] })).toEqual(['bob', 'eve', 'nil', 'none'])
  })
  protects('filter $elemMatch', 'conditions that one element of an array meets', async () => {
    expect(await met({ history: { $elemMatch: { at: 2, note: 'flu and fever' } } })).toEqual(['bob'])
    expect(await met({ history: { $elemMatch: { note: { $in: ['cough'] } } } })).toEqual(['ada'])
    expect(await met({ history: { $not: { $elemMatch: { note: 'cough' } } } })).toEqual(['bob', 'eve', 'nil', 'none'])
    expect(await met({ history: { $all: [{ $elemMatch: { note: 'cough' } }, { $elemMatch: { at: 1 } }] } })).toEqual([
      'ada',
    ])
    expect(await met({ tags: { $elemMatch: { $eq: 'tag-red' } } })).toEqual(['ada', 'nil'])
    expect(await met({ tags: { $elemMatch: { $in: ['tag-red', 'tag-blue'] } } })).toEqual(['ada', 'bob', 'nil'])
    expect(await met({ tags: { $elemMatch: { $eq: 'tag-red', $ne: 'tag-blue' } } })).toEqual(['ada', 'nil'])
    expect(await met({ history: { $elemMatch: { note: { $ne: 'cough' } } } })).toEqual(['ada', 'bob', 'nil'])
    expect(await met({ tags: { $not: { $elemMatch: { $eq: 'tag-blue' } } } })).toEqual(['eve', 'nil', 'none'])
  })
  refuses(
    'filter $elemMatch',
    'an element other than a value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' },
    () => find({ tags: { $elemMatch: { $ne: 'tag-red' } } }),
  )
  refuses('filter $elemMatch', 'negation in it', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' }, () =>
    find({ tags: { $elemMatch: { $not: { $in: ['tag-red'] } } } }),
  )
  protects('filter array elements', 'by index, by dotted path, in arrays of arrays', async () => {
    expect(await met({ tags: 'tag-blue' })).toEqual(['ada', 'bob'])
    expect(await met({ 'tags.0': 'tag-blue' })).toEqual(['bob'])
    expect(await met({ 'tags.5': 'tag-blue' })).toEqual([])
    expect(await met({ 'history.note': 'cough' })).toEqual(['ada'])
    expect(await met({ 'history.1.note': 'cough' })).toEqual(['ada'])
    expect(await met({ 'history.note': null })).toEqual(await met({ 'history.note': { $eq: null } }))
    expect(await met({ 'grid.1': { $size: 2 } })).toEqual(['ada'])
    expect(await met({ 'grid.1.0': 'tag-blue' })).toEqual(['ada'])
  })
  protects('filter Map', 'values of a Map, scalars and subdocuments', async () => {
    expect(await met({ 'phones.work': '555-9999' })).toEqual(['bob'])
    expect(await met({ 'phones.home': '555-9999' })).toEqual(['ada'])
    expect(await met({ 'phones.home': { $exists: true } })).toEqual(['ada'])
    expect(await met({ 'visits.first.reason': 'cough' })).toEqual(['ada'])
    expect(await met({ 'visits.second.reason': 'cough', 'visits.first.room': 1 })).toEqual(['bob'])
  })
  protects('filter $expr', 'an expression over plain paths', async () => {
    expect(await met({ $expr: { $eq: ['$address.city', 'Paris'] }, age: 36 })).toEqual(['bob'])
  })
  protects('filter $comment', 'passes', async () => {
    expect(await met({ $comment: 'why', email: 'ada@example.org' } as never)).toEqual(['ada'])
  })
  protects('filter', 'values of other types are cast first, as Mongoose casts them', async () => {
    expect(await met({ age: '36' })).toEqual(['ada', 'bob'])
    expect(await met({ doctor: String(oid(7)) })).toEqual(['ada'])
    expect(await met({ born: { $in: [1e12] } })).toEqual(['ada'])
    expect(await met({ age: { $in: ['0', 1] } })).toEqual(['eve'])
  })

  const sealed = () => twins.sealed
  const find = (filter: unknown) => sealed().find(filter as never)
  refuses('filter $gt', 'an order', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' }, () =>
    find({ age: { $gt: 30 } }),
  )
  refuses(
    'filter $lte',
    'an order, beside an equality',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => find({ age: { $lte: 30, $ne: 5 } }),
  )
  refuses(
    'filter $gte',
    'an order on a path that is not searchable',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => find({ ssn: { $gte: 'a' } }),
  )
  refuses('filter $lt', 'an order on dates', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' }, () =>
    find({ born: { $lt: new Date() } }),
  )
  refuses('filter $regex', 'a pattern', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' }, () =>
    find({ email: { $regex: '^ada' } }),
  )
  refuses(
    'filter RegExp',
    'a pattern as a value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => find({ email: /^ada/ }),
  )
  refuses('filter $not', 'a pattern, negated', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' }, () =>
    find({ email: { $not: /^ada/ } }),
  )
  refuses('filter $in', 'a pattern in a list', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' }, () =>
    find({ email: { $in: ['ada@example.org', /^bob/] } }),
  )
  refuses('filter $in', 'null in a list', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' }, () =>
    find({ email: { $in: ['ada@example.org', null] } }),
  )
  refuses('filter $in', 'an operator in a list', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' }, () =>
    sealed()
      .collection.find({ email: { $in: [{ $gt: 'a' }] } } as never)
      .toArray(),
  )
  refuses('filter $all', 'a pattern in a list', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' }, () =>
    find({ tags: { $all: [/^tag/] } }),
  )
  refuses(
    'filter $elemMatch',
    'an order of elements',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => find({ tags: { $elemMatch: { $gt: 'tag' } } }),
  )
  refuses(
    'filter $elemMatch',
    'null beside a value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' },
    () => find({ tags: { $elemMatch: { $ne: null, $in: ['tag-red'] } } }),
  )
  refuses(
    'filter $type',
    'the type of an encrypted value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => find({ email: { $type: 'string' } }),
  )
  refuses('filter $mod', 'arithmetic', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' }, () =>
    find({ age: { $mod: [2, 0] } }),
  )
  refuses('filter $bitsAllSet', 'bits', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' }, () =>
    find({ age: { $bitsAllSet: [1] } }),
  )
  refuses(
    'filter $size',
    'length of a container that is one value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => find({ list: { $size: 1 } }),
  )
  refuses(
    'filter',
    'equality on a path without a blind index',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' },
    () => find({ ssn: 'ssn-secret' }),
  )
  refuses(
    'filter $ne',
    'on a path without a blind index',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' },
    () => find({ ssn: { $ne: 'ssn-secret' } }),
  )
  refuses(
    'filter',
    'equality of a subdocument that has encrypted paths',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-on-parent' },
    () => find({ address: { street: 'Main Street 1', city: 'London' } }),
  )
  refuses(
    'filter',
    'equality of an array of subdocuments that have encrypted paths',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-on-parent' },
    () => find({ history: [{ at: 1, note: 'cough' }] }),
  )
  refuses(
    'filter $in',
    'whole subdocuments that have encrypted paths',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-on-parent' },
    () => find({ history: { $in: [{ at: 1, note: 'cough' }] } }),
  )
  refuses(
    'filter',
    'equality of a whole array of encrypted elements',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-on-parent' },
    () => find({ tags: ['tag-red', 'tag-blue'] }),
  )
  refuses(
    'filter $eq',
    'equality of a whole array of encrypted elements',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-on-parent' },
    () => find({ tags: { $eq: ['tag-red', 'tag-blue'] } }),
  )
  refuses(
    'filter $in',
    'whole arrays of encrypted elements',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-on-parent' },
    () =>
      sealed()
        .collection.find({ tags: { $in: [['tag-red', 'tag-blue']] } })
        .toArray(),
  )
  refuses(
    'filter',
    'equality of a whole Map of encrypted values',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-on-parent' },
    () =>
      sealed()
        .collection.find({ phones: { work: '555-1234' } })
        .toArray(),
  )
  refuses(
    'filter',
    'an array inside an array as a whole',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-on-parent' },
    () => sealed().collection.find({ 'grid.1': 'tag-green' }).toArray(),
  )
  refuses('filter', 'arrays of arrays as a whole', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-on-parent' }, () =>
    sealed()
      .collection.find({ grid: [['tag-red']] })
      .toArray(),
  )
  refuses(
    'filter',
    'inside a container that is one value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-inside' },
    () => find({ 'consent.text': 'ssn-secret' }),
  )
  refuses(
    'filter',
    'an element of a container that is one value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-inside' },
    () => find({ 'list.0': 'tag-red' }),
  )
  refuses('filter', 'the token itself', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'filter-inside' }, () =>
    sealed()
      .collection.find({ 'email.b': new mongo.Binary(Buffer.alloc(17)) })
      .toArray(),
  )
  refuses('filter', 'a container that is one value', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' }, () =>
    sealed()
      .collection.find({ consent: { text: 'ssn-secret' } })
      .toArray(),
  )
  refuses('filter', 'the ids of the keys of a document', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'reserved' }, () =>
    sealed()
      .collection.find({ '__fieldseal.k': { $exists: true } })
      .toArray(),
  )
  refuses('filter $where', 'a script', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' }, () =>
    sealed()
      .find()
      .where({ $where: 'true' } as never),
  )
  refuses('filter $text', 'a full text search', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' }, () =>
    find({ $text: { $search: 'ada' } }),
  )
  refuses('filter $jsonSchema', 'a schema', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-filter' }, () =>
    sealed()
      .collection.find({ $jsonSchema: { required: ['email'] } })
      .toArray(),
  )
  refuses(
    'filter $expr',
    'an expression over an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => find({ $expr: { $eq: ['$email', 'ada@example.org'] } }),
  )
  refuses(
    'filter $expr',
    'an expression over the whole document',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => find({ $expr: { $gt: [{ $size: { $objectToArray: '$$ROOT' } }, 1] } }),
  )
  refuses('filter $expr', 'below an alternative', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' }, () =>
    find({ $or: [{ name: 'x' }, { $nor: [{ $expr: { $eq: ['$$CURRENT.age', 36] } }] }] }),
  )

  describe('on a path whose nulls are encrypted', () => {
    const hidden = () =>
      clinic.model(new Schema({ name: String, note: { type: String, encrypted: { encryptNull: true } } }))
    protects('filter $exists', 'there is always a value', async () => {
      const Model = hidden()
      await Model.create([{ name: 'ada', note: null }, { name: 'bob' }])
      expect(await Model.find({ note: { $exists: true } }).lean()).toMatchObject([{ note: null }, { note: null }])
    })
    refuses(
      'filter null',
      'a null that is encrypted',
      { code: 'ERR_QUERY_UNSUPPORTED', reason: 'null-is-encrypted' },
      () => hidden().find({ note: null }),
    )
    refuses(
      'filter $ne',
      'a null that is encrypted',
      { code: 'ERR_QUERY_UNSUPPORTED', reason: 'null-is-encrypted' },
      () => hidden().find({ note: { $ne: null } }),
    )
  })

  it.each([
    ['find', () => sealed().find({ ssn: 'ssn-secret' })],
    ['findOne', () => sealed().findOne({ ssn: 'ssn-secret' })],
    ['exists', () => sealed().exists({ ssn: 'ssn-secret' })],
    ['countDocuments', () => sealed().countDocuments({ ssn: 'ssn-secret' })],
    ['distinct', () => sealed().distinct('name', { ssn: 'ssn-secret' })],
    ['aggregate', () => sealed().aggregate([{ $match: { ssn: 'ssn-secret' } }])],
    ['cursor', () => sealed().find({ ssn: 'ssn-secret' }).cursor().next()],
    ['updateOne', () => sealed().updateOne({ ssn: 'ssn-secret' }, { name: 'x' })],
    ['updateMany', () => sealed().updateMany({ ssn: 'ssn-secret' }, { name: 'x' })],
    ['replaceOne', () => sealed().replaceOne({ ssn: 'ssn-secret' }, { name: 'x' })],
    ['deleteOne', () => sealed().deleteOne({ ssn: 'ssn-secret' })],
    ['deleteMany', () => sealed().deleteMany({ ssn: 'ssn-secret' })],
    ['findOneAndUpdate', () => sealed().findOneAndUpdate({ ssn: 'ssn-secret' }, { name: 'x' })],
    ['findOneAndReplace', () => sealed().findOneAndReplace({ ssn: 'ssn-secret' }, { name: 'x' })],
    ['findOneAndDelete', () => sealed().findOneAndDelete({ ssn: 'ssn-secret' })],
    ['bulkWrite', () => sealed().bulkWrite([{ deleteMany: { filter: { ssn: 'ssn-secret' } } }])],
  ])('%s refuses a filter that it cannot answer', async (_, run) => {
    await expect((async () => run())()).rejects.toMatchObject({
      code: 'ERR_QUERY_UNSUPPORTED',
      details: { reason: 'not-searchable' },
    })
  })

  it('a value that does not fit the path is an error that does not quote it', async () => {
    for (const run of [
      () => sealed().collection.find({ age: 'ssn-secret' }).toArray(),
      () => sealed().find({ age: 'ssn-secret' }),
      () =>
        sealed()
          .collection.find({ email: { $in: [5] } } as never)
          .toArray(),
    ]) {
      const error: unknown = await (async () => run())().then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
      expect(error).toBeInstanceOf(Error)
      expect(String(error) + JSON.stringify(error)).not.toContain('ssn-secret')
    }
  })

  it("leaves the caller's filter, projection and options as they were", async () => {
    const filter = {
      email: 'ada@example.org',
      $or: [{ tags: { $in: ['tag-red'] } }],
      history: { $elemMatch: { note: 'cough' } },
    }
    const [projection, options] = [
      { email: 1, _id: 0 },
      { sort: { name: 1 }, hint: { _id: 1 } },
    ]
    const before = structuredClone([filter, projection, options])
    const query = sealed()
      .find(filter as never, projection, options as never)
      .lean()
    await query
    expect([filter, projection, options]).toEqual(before)
    expect(query.getFilter()).toMatchObject({ email: 'ada@example.org' })
    expect(await query.clone()).toHaveLength(1)
  })
})
