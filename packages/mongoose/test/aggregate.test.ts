import { rotateKek } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema, Types } from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { twinsOf, usePlainConnection, type Twins } from './support/twin.ts'

const oid = (last: number) => new Types.ObjectId(`65f0000000000000000000${String(last).padStart(2, '0')}`)
type Stages = readonly Record<string, unknown>[]

describe.runIf(hasMongo())('aggregations', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const past = usePlainConnection()
  let patients: Twins
  let orders: Twins
  let wards: Twins
  const from = (twins: Twins) => twins.sealed.collection.name
  beforeAll(async () => {
    patients = twinsOf(
      clinic,
      past,
      (seal) =>
        new Schema({
          name: String,
          ward: String,
          beds: Number,
          email: { type: String, ...seal({ blindIndex: true }) },
          ssn: { type: String, ...seal() },
          tags: [{ type: String, ...seal({ blindIndex: true }) }],
          notes: [{ type: String, ...seal() }],
          history: [{ _id: false, at: Number, note: { type: String, ...seal({ blindIndex: true }) } }],
          doctor: { type: Schema.Types.ObjectId, ...seal({ blindIndex: true }) },
          boss: Schema.Types.ObjectId,
          list: { type: [String], ...seal() },
          address: { street: { type: String, ...seal() }, city: String },
        }),
    )
    orders = twinsOf(
      clinic,
      past,
      (seal) =>
        new Schema({
          patient: Schema.Types.ObjectId,
          drug: { type: String, ...seal({ blindIndex: true }) },
          email: { type: String, ...seal({ blindIndex: true }) },
          count: Number,
        }),
    )
    wards = twinsOf(clinic, past, () => new Schema({ ward: String, floor: Number, patient: Schema.Types.ObjectId }))
    for (const text of ['ada@example.org', 'bob@example.org', 'ssn-of-ada', 'ssn-of-bob', 'tag-one', 'tag-two'])
      clinic.secret(text)
    for (const text of ['note-one', 'note-two', 'aspirin', 'penicillin', 'flu and fever', 'list-one', 'Main Street 1'])
      clinic.secret(text)
    await patients.insert([
      {
        _id: oid(1),
        name: 'ada',
        ward: 'w1',
        beds: 1,
        email: 'ada@example.org',
        ssn: 'ssn-of-ada',
        tags: ['tag-one', 'tag-two'],
        notes: ['note-one', 'note-two'],
        history: [{ at: 1, note: 'flu and fever' }, { at: 2 }],
        doctor: oid(9),
        list: ['list-one'],
        address: { street: 'Main Street 1', city: 'London' },
      },
      {
        _id: oid(2),
        name: 'bob',
        ward: 'w1',
        beds: 2,
        email: 'bob@example.org',
        ssn: 'ssn-of-bob',
        boss: oid(1),
        tags: ['tag-two'],
      },
      { _id: oid(3), name: 'eve', ward: 'w2', beds: 4, boss: oid(2) },
    ])
    await orders.insert([
      { _id: oid(11), patient: oid(1), drug: 'aspirin', email: 'ada@example.org', count: 1 },
      { _id: oid(12), patient: oid(1), drug: 'penicillin', count: 2 },
      { _id: oid(13), patient: oid(2), drug: 'aspirin', count: 3 },
    ])
    await wards.insert([
      { _id: oid(21), ward: 'w1', floor: 1, patient: oid(1) },
      { _id: oid(22), ward: 'w2', floor: 2, patient: oid(3) },
    ])
  })

  /** What the same pipeline gives on either twin; it may name collections, which have the same names in both databases. */
  async function result(stages: Stages, twins = patients): Promise<Record<string, unknown>[]> {
    const [sealed, plain] = await twins.both((model) => model.aggregate(stages as never))
    const inOrder = (rows: unknown[]) => rows.map((row) => JSON.stringify(row)).toSorted((a, b) => a.localeCompare(b))
    expect(inOrder(sealed)).toEqual(inOrder(plain))
    const read: unknown[] = []
    for await (const row of twins.sealed.aggregate(stages as never).cursor({ batchSize: 1 })) read.push(row)
    expect(inOrder(read)).toEqual(inOrder(plain))
    return sealed as never
  }

  protects('aggregate', 'documents that pass are opened', async () => {
    expect(await result([{ $limit: 9 }])).toHaveLength(3)
    expect(await result([{ $sort: { name: 1 } }, { $skip: 1 }, { $limit: 1 }])).toMatchObject([{ ssn: 'ssn-of-bob' }])
  })
  protects('aggregate $match', 'at the beginning and later', async () => {
    expect(await result([{ $match: { email: 'ada@example.org' } }])).toMatchObject([{ name: 'ada', ssn: 'ssn-of-ada' }])
    expect(await result([{ $sort: { name: 1 } }, { $limit: 2 }, { $match: { tags: 'tag-two' } }])).toHaveLength(2)
    expect(
      await result([{ $set: { total: { $add: ['$beds', 1] } } }, { $match: { email: 'bob@example.org', total: 3 } }]),
    ).toHaveLength(1)
    expect(
      await result([{ $group: { _id: '$ward', beds: { $sum: '$beds' } } }, { $match: { beds: { $gt: 3 } } }]),
    ).toHaveLength(1)
  })
  protects('aggregate $match', 'a computed path may have the name of an encrypted one', async () => {
    expect(
      await result([{ $group: { _id: '$ward', ssn: { $sum: '$beds' } } }, { $match: { ssn: { $gt: 3 } } }]),
    ).toMatchObject([{ ssn: 4 }])
  })
  protects('aggregate $project', 'paths as they are, and nothing that was read beside them', async () => {
    expect(await result([{ $project: { email: 1, _id: 0 } }])).toContainEqual({ email: 'ada@example.org' })
    expect(await result([{ $match: { email: 'ada@example.org' } }, { $project: { name: 1 } }])).toEqual([
      { _id: oid(1), name: 'ada' },
    ])
    expect(await result([{ $project: { ssn: 0, history: 0 } }])).toHaveLength(3)
    expect(await result([{ $project: { _id: 0 } }])).toHaveLength(3)
    expect(await result([{ $project: { 'history.note': 1 } }])).toHaveLength(3)
    expect(await result([{ $project: { ward: 1, double: { $multiply: ['$beds', 2] } } }])).toHaveLength(3)
    expect(await result([{ $project: { email: 1, ward: 1, _id: 0 } }, { $project: { ward: 1 } }])).toContainEqual({
      ward: 'w1',
    })
  })
  protects('aggregate $project', 'what it takes away stays away from later groups only', async () => {
    expect(
      await result([{ $project: { email: 1, ward: 1, _id: 0 } }, { $group: { _id: '$ward', n: { $sum: 1 } } }]),
    ).toContainEqual({ _id: 'w1', n: 2 })
  })
  protects('aggregate $unset', 'paths go, encrypted ones too', async () => {
    const [first] = await result([{ $match: { name: 'ada' } }, { $unset: ['ssn', 'history.note', 'name'] }])
    expect(first).not.toHaveProperty('ssn')
    expect(first).toHaveProperty('email', 'ada@example.org')
  })
  protects('aggregate $set', 'computed from plain paths', async () => {
    expect(await result([{ $addFields: { town: '$address.city' } }])).toHaveLength(3)
  })
  protects('aggregate $unwind', 'one document for each element, encrypted elements too', async () => {
    expect(await result([{ $unwind: '$tags' }])).toHaveLength(3)
    expect(
      await result([{ $unwind: { path: '$history', preserveNullAndEmptyArrays: true, includeArrayIndex: 'at' } }]),
    ).toHaveLength(4)
    expect(await result([{ $unwind: '$history' }, { $match: { 'history.note': 'flu and fever' } }])).toHaveLength(1)
  })
  protects('aggregate $group', 'over plain paths', async () => {
    expect(await result([{ $group: { _id: '$ward', names: { $push: '$name' } } }])).toHaveLength(2)
    expect(await result([{ $match: { email: { $ne: 'ada@example.org' } } }, { $count: 'n' }])).toEqual([{ n: 2 }])
    expect(await result([{ $sortByCount: '$ward' }])).toHaveLength(2)
    expect(await result([{ $bucket: { groupBy: '$beds', boundaries: [0, 2, 9] } }])).toHaveLength(2)
    expect(await result([{ $replaceRoot: { newRoot: { ward: '$ward' } } }])).toHaveLength(3)
  })
  protects('aggregate $facet', 'several pipelines, each as it would be alone', async () => {
    const [row] = await result([
      {
        $facet: {
          ada: [{ $match: { email: 'ada@example.org' } }, { $project: { ssn: 1, _id: 0 } }],
          all: [{ $sort: { name: 1 } }],
          wards: [{ $group: { _id: '$ward' } }, { $sort: { _id: 1 } }],
        },
      },
    ])
    expect(row).toMatchObject({ ada: [{ ssn: 'ssn-of-ada' }], wards: [{ _id: 'w1' }, { _id: 'w2' }] })
    const [trimmed] = await result(
      [
        { $project: { email: 1, ward: 1, _id: 0 } },
        {
          $facet: {
            all: [{ $sort: { ward: 1, email: 1 } }],
            wards: [{ $group: { _id: '$ward' } }, { $sort: { _id: 1 } }],
          },
        },
      ].map((stage) => ('$facet' in stage ? { $facet: { wards: stage.$facet.wards } } : stage)),
    )
    expect(trimmed).toEqual({ wards: [{ _id: 'w1' }, { _id: 'w2' }] })
  })
  protects('aggregate $lookup', 'documents of another encrypted collection are opened', async () => {
    const stages: Stages = [
      { $match: { email: 'ada@example.org' } },
      { $lookup: { from: from(orders), localField: '_id', foreignField: 'patient', as: 'orders' } },
    ]
    const [ada] = await result(stages)
    expect(ada?.['orders']).toMatchObject([{ drug: 'aspirin' }, { drug: 'penicillin' }])
    expect(await result([...stages, { $unwind: '$orders' }])).toHaveLength(2)
    expect(await result([...stages, { $unwind: '$orders' }, { $match: { 'orders.drug': 'aspirin' } }])).toHaveLength(1)
    expect(await result([...stages, { $match: { 'orders.drug': 'penicillin', tags: 'tag-one' } }])).toHaveLength(1)
    expect(await result([...stages, { $unset: 'orders.drug' }])).toHaveLength(1)
    expect(await result([...stages, { $project: { name: 1 } }])).toEqual([{ _id: oid(1), name: 'ada' }])
  })
  protects(
    'aggregate $lookup',
    'a pipeline of its own, conditions on encrypted paths and a projection in it',
    async () => {
      const stages: Stages = [
        {
          $lookup: {
            from: from(orders),
            let: { id: '$_id' },
            pipeline: [
              { $match: { $expr: { $eq: ['$patient', '$$id'] }, drug: 'aspirin' } },
              { $project: { drug: 1, _id: 0 } },
            ],
            as: 'orders',
          },
        },
      ]
      expect(await result(stages)).toContainEqual(
        expect.objectContaining({ name: 'bob', orders: [{ drug: 'aspirin' }] }),
      )
      expect(await result([...stages, { $unwind: '$orders' }])).toHaveLength(2)
    },
  )
  protects('aggregate $lookup', 'of plain documents', async () => {
    expect(
      await result([
        { $lookup: { from: from(wards), localField: 'ward', foreignField: 'ward', as: 'of' } },
        { $match: { 'of.floor': 1 } },
      ]),
    ).toHaveLength(2)
    expect(
      await result([
        {
          $lookup: {
            from: from(wards),
            let: { w: '$ward' },
            pipeline: [{ $match: { $expr: { $eq: ['$ward', '$$w'] } } }, { $project: { floor: 1 } }],
            as: 'of',
          },
        },
      ]),
    ).toHaveLength(3)
  })
  protects('aggregate $lookup', 'from a plain collection the encrypted documents are opened', async () => {
    const stages: Stages = [
      { $lookup: { from: from(patients), localField: 'patient', foreignField: '_id', as: 'who' } },
    ]
    const rows = await result(stages, wards)
    expect(rows[0]?.['who']).toMatchObject([{ ssn: 'ssn-of-ada', tags: ['tag-one', 'tag-two'] }])
    expect(
      await result([...stages, { $unwind: '$who' }, { $match: { 'who.email': 'ada@example.org' } }], wards),
    ).toHaveLength(1)
    expect(
      await result(
        [
          {
            $lookup: {
              from: from(patients),
              let: { p: '$patient' },
              pipeline: [{ $match: { email: 'ada@example.org' } }, { $project: { ssn: 1 } }],
              as: 'who',
            },
          },
        ],
        wards,
      ),
    ).toHaveLength(2)
    expect(await result([{ $group: { _id: '$floor' } }, { $sort: { _id: 1 } }], wards)).toHaveLength(2)
  })
  protects('aggregate $lookup', 'inside the pipeline of another one', async () => {
    const [row] = await result([
      { $match: { name: 'ada' } },
      {
        $lookup: {
          from: from(wards),
          localField: 'ward',
          foreignField: 'ward',
          pipeline: [
            { $lookup: { from: from(orders), localField: 'patient', foreignField: 'patient', as: 'orders' } },
            { $match: { 'orders.drug': 'penicillin' } },
          ],
          as: 'of',
        },
      },
    ])
    expect(row?.['of']).toMatchObject([{ orders: [{ drug: 'aspirin' }, { drug: 'penicillin' }] }])
  })
  protects('aggregate $graphLookup', 'over plain paths, the documents are opened', async () => {
    const [row] = await result([
      { $match: { name: 'eve' } },
      {
        $graphLookup: {
          from: from(patients),
          startWith: '$boss',
          connectFromField: 'boss',
          connectToField: '_id',
          as: 'bosses',
          restrictSearchWithMatch: { email: { $in: ['ada@example.org', 'bob@example.org'] } },
        },
      },
    ])
    expect(
      ((row?.['bosses'] ?? []) as { readonly ssn: string }[])
        .map(({ ssn }) => ssn)
        .toSorted((a, b) => a.localeCompare(b)),
    ).toEqual(['ssn-of-ada', 'ssn-of-bob'])
  })
  protects('aggregate explain', 'shows tokens only', async () => {
    const plan = await patients.sealed.aggregate([{ $match: { email: 'ada@example.org' } }]).explain()
    expect(JSON.stringify(plan)).not.toContain('ada@example.org')
  })
  protects('aggregate hint', 'names the index of a searchable path', async () => {
    const found = await patients.sealed.aggregate([{ $match: { email: 'ada@example.org' } }]).hint({ email: 1 })
    expect(found).toHaveLength(1)
  })
  protects('aggregate', 'reading does not rewrite elements whose place is not told', async () => {
    const { sealed } = patients
    await rotateKek(clinic.fieldseal)
    const before = await sealed.find().lean()
    await sealed.aggregate([{ $unwind: '$notes' }])
    await sealed.aggregate([{ $unwind: '$history' }])
    await sealed.find({}, { notes: { $slice: -1 }, history: { $slice: -1 } })
    await clinic.fieldseal.flush()
    expect(await sealed.find().lean()).toEqual(before)
  })

  const aggregate = (...stages: Stages) => patients.sealed.aggregate(stages as never).exec()
  refuses(
    'aggregate $match',
    'an order over an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'range-on-encrypted' },
    () => aggregate({ $match: { email: { $gt: 'a' } } }),
  )
  refuses(
    'aggregate $lookup',
    'a condition on a path of the other collection that is not searchable',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'not-searchable' },
    () =>
      orders.sealed.aggregate([
        { $lookup: { from: from(patients), pipeline: [{ $match: { ssn: 'ssn-of-ada' } }], as: 'x' } },
      ]),
  )
  refuses(
    'aggregate $group',
    'by an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => aggregate({ $group: { _id: '$email' } }),
  )
  refuses('aggregate $group', 'whole documents', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' }, () =>
    aggregate({ $group: { _id: '$ward', all: { $push: '$$ROOT' } } }),
  )
  refuses(
    'aggregate $sort',
    'by an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' },
    () => aggregate({ $sort: { email: 1 } }),
  )
  refuses(
    'aggregate $set',
    'a copy of an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => aggregate({ $set: { copy: '$ssn' } }),
  )
  refuses(
    'aggregate $set',
    'a value in place of an encrypted one',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () => aggregate({ $set: { ssn: 'x' } }),
  )
  refuses('aggregate $set', 'the row id', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' }, () =>
    aggregate({ $set: { _id: 1 } }),
  )
  refuses('aggregate $unset', 'the row id', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' }, () =>
    aggregate({ $unset: '_id' }),
  )
  refuses(
    'aggregate $unwind',
    'an index in place of an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () => aggregate({ $unwind: { path: '$tags', includeArrayIndex: 'ssn' } }),
  )
  refuses(
    'aggregate $unwind',
    'a container that is one value',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () => aggregate({ $unwind: '$list' }),
  )
  refuses(
    'aggregate $project',
    'a computed copy of an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => aggregate({ $project: { copy: { $concat: ['$ssn', 'x'] } } }),
  )
  refuses(
    'aggregate $project',
    'an encrypted path beside a computed one',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () => aggregate({ $project: { ssn: 1, town: '$address.city' } }),
  )
  refuses(
    'aggregate $replaceRoot',
    'a subdocument with encrypted paths',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => aggregate({ $replaceRoot: { newRoot: '$address' } }),
  )
  refuses(
    'aggregate $bucket',
    'by an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => aggregate({ $bucket: { groupBy: '$email', boundaries: ['a', 'b'] } }),
  )
  refuses(
    'aggregate $sortByCount',
    'of an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => aggregate({ $sortByCount: '$email' }),
  )
  refuses('aggregate $lookup', 'from an encrypted path', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' }, () =>
    aggregate({ $lookup: { from: from(wards), localField: 'doctor', foreignField: '_id', as: 'x' } }),
  )
  refuses('aggregate $lookup', 'to an encrypted path', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' }, () =>
    aggregate({ $lookup: { from: from(orders), localField: 'name', foreignField: 'email', as: 'x' } }),
  )
  refuses(
    'aggregate $lookup',
    'to an encrypted path, from a plain collection',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () =>
      wards.sealed.aggregate([{ $lookup: { from: from(orders), localField: 'ward', foreignField: 'email', as: 'x' } }]),
  )
  refuses(
    'aggregate $lookup',
    'an encrypted path as a variable',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => aggregate({ $lookup: { from: from(wards), let: { x: '$ssn' }, pipeline: [], as: 'x' } }),
  )
  refuses(
    'aggregate $lookup',
    'a result over what says whose document it is',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () => aggregate({ $lookup: { from: from(wards), localField: 'ward', foreignField: 'ward', as: '_id' } }),
  )
  refuses(
    'aggregate $lookup',
    'the row id of what it brought, taken away',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () =>
      aggregate(
        { $lookup: { from: from(orders), localField: '_id', foreignField: 'patient', as: 'o' } },
        { $unset: 'o._id' },
      ),
  )
  refuses(
    'aggregate $graphLookup',
    'along an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () =>
      aggregate({
        $graphLookup: {
          from: from(patients),
          startWith: '$boss',
          connectFromField: 'doctor',
          connectToField: '_id',
          as: 'x',
        },
      }),
  )
  refuses('aggregate $unionWith', 'encrypted documents', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' }, () =>
    aggregate({ $unionWith: from(orders) }),
  )
  refuses(
    'aggregate $unionWith',
    'encrypted documents, to plain ones',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () => wards.sealed.aggregate([{ $unionWith: { coll: from(orders), pipeline: [] } }]),
  )
  refuses(
    'aggregate $facet',
    'a pipeline of it that cannot be protected',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'expr-on-encrypted' },
    () => aggregate({ $facet: { a: [{ $group: { _id: '$ssn' } }] } }),
  )
  refuses('aggregate $out', 'into another collection', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-write' }, () =>
    aggregate({ $out: 'copies' }),
  )
  refuses('aggregate $merge', 'into another collection', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-write' }, () =>
    aggregate({ $match: { name: 'x' } }, { $merge: { into: 'copies' } }),
  )
  refuses(
    'aggregate $merge',
    'plain documents into an encrypted collection',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-write' },
    () => wards.sealed.aggregate([{ $merge: { into: from(patients) } }]),
  )
  refuses(
    'aggregate $out',
    'plain documents into an encrypted collection',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-write' },
    () => wards.sealed.aggregate([{ $out: from(patients) }]),
  )
  refuses(
    'aggregate $redact',
    'and other stages that are not known',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () => aggregate({ $redact: '$$KEEP' }),
  )
  refuses(
    'aggregate $setWindowFields',
    'and other stages that are not known',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'agg-stage' },
    () => aggregate({ $setWindowFields: { sortBy: { beds: 1 }, output: { n: { $sum: '$beds' } } } }),
  )
  refuses(
    'aggregate raw',
    'documents that are not read',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'raw-documents' },
    () => patients.sealed.aggregate([{ $limit: 1 }], { raw: true } as never),
  )

  it('stages added to the cursor of the collection are rewritten too', async () => {
    const cursor = patients.sealed.collection
      .aggregate([{ $sort: { name: 1 } }])
      .match({ email: 'ada@example.org' })
      .project({ ssn: 1, _id: 0 })
    expect(await cursor.toArray()).toEqual([{ ssn: 'ssn-of-ada' }])
    const refused = patients.sealed.collection.aggregate([]).group({ _id: '$email' })
    await expect(refused.toArray()).rejects.toMatchObject({ details: { reason: 'expr-on-encrypted' } })
  })

  it("leaves the caller's pipeline as it was", async () => {
    const stages = [{ $match: { email: 'ada@example.org' } }, { $facet: { a: [{ $project: { email: 1, _id: 0 } }] } }]
    const before = structuredClone(stages)
    await patients.sealed.aggregate(stages)
    expect(stages).toEqual(before)
  })

  describe('of tenants', () => {
    const many = useClinic({ tenancy: 'multi' })
    let Patient: LooseModel
    let Order: LooseModel
    beforeAll(async () => {
      const options = { encrypted: { tenantBy: 'clinicId' } }
      const sealed = { type: String, encrypted: { blindIndex: true } }
      Patient = many.model(new Schema({ clinicId: String, name: String, ssn: sealed }, options as never))
      Order = many.model(new Schema({ clinicId: String, patient: String, drug: sealed }, options as never))
      for (const [tenant, name] of [
        ['clinic-7', 'ada'],
        ['clinic-8', 'bob'],
      ] as const)
        await many.fieldseal.runAs({ tenant }, async () => {
          await Patient.create({ clinicId: tenant, name, ssn: many.secret(`ssn-of-${name}`) })
          await Order.create({ clinicId: tenant, patient: name, drug: many.secret(`drug-of-${name}`) })
          await Order.create({ clinicId: tenant, patient: 'both', drug: many.secret(`shared-of-${name}`) })
        })
    })
    const as7 = <R>(work: () => PromiseLike<R> | R) => many.fieldseal.runAs({ tenant: 'clinic-7' }, async () => work())

    it('another tenant’s documents are not opened, at the root nor looked up', async () => {
      expect(await as7(() => Patient.aggregate([{ $match: { clinicId: 'clinic-7' } }]))).toMatchObject([
        { ssn: 'ssn-of-ada' },
      ])
      await expect(as7(() => Patient.aggregate([{ $limit: 9 }]).exec())).rejects.toMatchObject({
        code: 'ERR_TENANT_MISMATCH',
      })
      const mine = { $match: { clinicId: 'clinic-7' } }
      const lookup = {
        $lookup: { from: Order.collection.name, localField: 'name', foreignField: 'patient', as: 'orders' },
      }
      expect(await as7(() => Patient.aggregate([mine, lookup]))).toMatchObject([{ orders: [{ drug: 'drug-of-ada' }] }])
      const all = { $lookup: { from: Order.collection.name, pipeline: [], as: 'orders' } }
      await expect(as7(() => Patient.aggregate([mine, all]).exec())).rejects.toMatchObject({
        code: 'ERR_TENANT_MISMATCH',
      })
    })
    it('the tenant’s path is read for a projection, and taken away again', async () => {
      const mine = { $match: { clinicId: 'clinic-7' } }
      expect(await as7(() => Patient.aggregate([mine, { $project: { ssn: 1, _id: 0 } }]))).toEqual([
        { ssn: 'ssn-of-ada' },
      ])
      const lookup = {
        $lookup: {
          from: Order.collection.name,
          localField: 'name',
          foreignField: 'patient',
          pipeline: [{ $project: { drug: 1, _id: 0 } }],
          as: 'orders',
        },
      }
      expect(await as7(() => Patient.aggregate([mine, lookup]))).toMatchObject([{ orders: [{ drug: 'drug-of-ada' }] }])
      const [row] = await as7(() => Patient.aggregate([mine, lookup]))
      expect((row as { orders: object[] }).orders).toEqual([{ drug: 'drug-of-ada' }])
    })
    it('system work opens each document under its own tenant’s keys, and may not ask per-tenant indexes', async () => {
      const { fieldseal } = many
      const all = await fieldseal.runAsSystem({ reason: 'test' }, async () =>
        Patient.aggregate([{ $sort: { name: 1 } }]),
      )
      expect(all).toMatchObject([{ ssn: 'ssn-of-ada' }, { ssn: 'ssn-of-bob' }])
      await expect(
        fieldseal.runAsSystem({ reason: 'test' }, () => Patient.aggregate([{ $match: { ssn: 'x' } }]).exec()),
      ).rejects.toMatchObject({ details: { reason: 'system-context' } })
    })
  })
})
