import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { beforeAll, describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

const COUNT = 200
interface Row {
  readonly _id: number
  readonly ssn: string
  readonly at?: number
}

describe.runIf(hasMongo())('cursors', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Patient: LooseModel
  beforeAll(async () => {
    Patient = clinic.model(
      new Schema({
        _id: Number,
        email: { type: String, encrypted: { blindIndex: true } },
        ssn: { type: String, encrypted: true },
        at: Number,
      }),
    )
    await Patient.init()
    clinic.secret('ssn-number-')
    clinic.secret('@example.org')
    await Patient.insertMany(
      Array.from({ length: COUNT }, (_, at) => ({
        _id: at,
        email: `${at % 10}@example.org`,
        ssn: `ssn-number-${at}`,
        at,
      })) as never,
    )
  })
  const ssns = (rows: readonly unknown[]) => rows.map((row) => (row as Row).ssn)
  const expected = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => `ssn-number-${from + at}`)
  const sorted = () => Patient.find().sort({ _id: 1 })

  protects('cursor next', 'document by document, null at the end', async () => {
    const cursor = sorted().limit(3).batchSize(2).cursor()
    const rows = [await cursor.next(), await cursor.next(), await cursor.next()]
    expect(ssns(rows)).toEqual(expected(0, 3))
    expect(await cursor.next()).toBeNull()
    await cursor.close()
  })
  protects('cursor for await', 'every document, in batches', async () => {
    const rows: unknown[] = []
    for await (const row of sorted().batchSize(60)) rows.push(row)
    expect(ssns(rows)).toEqual(expected(0, COUNT))
  })
  protects('cursor lean', 'plain objects', async () => {
    const rows: unknown[] = []
    for await (const row of sorted().lean().limit(5).cursor()) rows.push(row)
    expect(rows[4]).toEqual({ _id: 4, email: '4@example.org', ssn: 'ssn-number-4', at: 4, __v: 0 })
  })
  protects('cursor eachAsync', 'in order, in parallel, in batches', async () => {
    const [rows, sizes]: [unknown[], number[]] = [[], []]
    await sorted()
      .limit(20)
      .cursor()
      .eachAsync((row: unknown) => void rows.push(row))
    expect(ssns(rows)).toEqual(expected(0, 20))
    const seen = new Set<string>()
    await sorted()
      .limit(100)
      .cursor({ batchSize: 30 })
      .eachAsync(async (row: unknown) => void seen.add((row as Row).ssn), { parallel: 8 })
    expect(seen.size).toBe(100)
    await sorted()
      .limit(25)
      .cursor()
      .eachAsync((batch: unknown) => void sizes.push((batch as unknown[]).length), { batchSize: 10 })
    expect(sizes).toEqual([10, 10, 5])
  })
  protects('cursor stream', 'as a readable stream', async () => {
    const rows: unknown[] = []
    for await (const row of sorted()
      .limit(10)
      .cursor()
      .pipe(new (await import('node:stream')).PassThrough({ objectMode: true })))
      rows.push(row)
    expect(ssns(rows)).toEqual(expected(0, 10))
    const native: unknown[] = []
    for await (const row of Patient.collection.find({}, { sort: { _id: 1 }, limit: 10, batchSize: 4 }).stream())
      native.push(row)
    expect(ssns(native)).toEqual(expected(0, 10))
  })
  protects('cursor map', 'transforms see opened documents', async () => {
    const cursor = sorted()
      .limit(3)
      .cursor()
      .map((row: unknown) => (row as Row).ssn.length)
    expect([await cursor.next(), await cursor.next()]).toEqual([12, 12])
    await cursor.close()
    const transformed = sorted()
      .limit(2)
      .cursor({ transform: (row: unknown) => (row as Row).ssn } as never)
    expect(await transformed.next()).toBe('ssn-number-0')
    await transformed.close()
    const native = Patient.collection
      .find({}, { sort: { _id: 1 }, limit: 3 })
      .map(({ ssn }) => ssn as string)
      .map(async (ssn) => [ssn])
    expect(await native.toArray()).toEqual(expected(0, 3).map((ssn) => [ssn]))
  })
  protects('cursor close', 'early, within a batch', async () => {
    const cursor = sorted().batchSize(10).cursor()
    expect(ssns([await cursor.next()])).toEqual(['ssn-number-0'])
    await cursor.close()
    await expect(cursor.next()).rejects.toThrow(/closed/)
    for await (const row of sorted().batchSize(10)) if ((row as Row)._id === 3) break
    await using disposed = Patient.collection.find({}, { batchSize: 10 })
    expect(await disposed.next()).toHaveProperty('ssn')
  })
  protects('cursor of the collection', 'next, tryNext, hasNext, forEach, buffered documents, rewind', async () => {
    const cursor = Patient.collection.find({ email: '1@example.org' } as never, { sort: { _id: 1 }, batchSize: 4 })
    expect(await cursor.hasNext()).toBe(true)
    expect(await cursor.next()).toHaveProperty('ssn', 'ssn-number-1')
    expect(cursor.bufferedCount()).toBe(3)
    expect(ssns(cursor.readBufferedDocuments(2))).toEqual(['ssn-number-11', 'ssn-number-21'])
    expect(await cursor.tryNext()).toHaveProperty('ssn', 'ssn-number-31')
    cursor.rewind()
    expect(await cursor.toArray()).toHaveLength(COUNT / 10)
    const seen: unknown[] = []
    cursor.rewind()
    await cursor.forEach((row) => {
      seen.push(row)
      return seen.length < 5
    })
    expect(seen).toHaveLength(5)
  })
  protects('cursor of the collection', 'what is said of it after it was made', async () => {
    const cursor = Patient.collection
      .find()
      .filter({ email: '7@example.org' })
      .sort({ _id: -1 })
      .skip(1)
      .limit(2)
      .project({ ssn: 1 })
      .hint({ email: 1 })
    expect(await cursor.toArray()).toEqual([
      { _id: 187, ssn: 'ssn-number-187' },
      { _id: 177, ssn: 'ssn-number-177' },
    ])
  })
  protects('cursor session', 'reads in the session of the caller', async () => {
    await clinic.connection.transaction(async (session) => {
      await Patient.updateOne({ _id: 0 }, { $set: { at: -1 } } as never, { session })
      const rows: unknown[] = []
      for await (const row of Patient.find({ at: -1 } as never)
        .session(session)
        .cursor())
        rows.push(row)
      expect(ssns(rows)).toEqual(['ssn-number-0'])
      await Patient.updateOne({ _id: 0 }, { $set: { at: 0 } } as never, { session })
    })
  })
  protects('aggregate cursor', 'next, for await, eachAsync, close', async () => {
    const pipeline = [{ $match: { email: '3@example.org' } }, { $sort: { _id: 1 } }] as never
    const cursor = Patient.aggregate(pipeline).cursor({ batchSize: 7 })
    expect(await cursor.next()).toHaveProperty('ssn', 'ssn-number-3')
    await cursor.close()
    const rows: unknown[] = []
    for await (const row of Patient.aggregate(pipeline)) rows.push(row)
    expect(rows).toHaveLength(COUNT / 10)
    let visited = 0
    await Patient.aggregate(pipeline)
      .cursor()
      .eachAsync(() => void visited++)
    expect(visited).toBe(COUNT / 10)
  })
  protects('explain', 'shows tokens only', async () => {
    const plan = await Patient.find({ email: '1@example.org' }).explain()
    expect(JSON.stringify(plan)).not.toContain('example.org')
  })
  protects('hint', 'a searchable path names the index of its tokens', async () => {
    expect(await Patient.find({ email: '1@example.org' }).hint({ email: 1 }).lean()).toHaveLength(COUNT / 10)
    expect(await Patient.findOne({ email: '1@example.org' }).hint('email.b_1').lean()).toHaveProperty('email')
    expect(await Patient.countDocuments({ email: '1@example.org' }).hint({ email: 1 })).toBe(COUNT / 10)
  })
  protects('countDocuments', 'by an encrypted path', async () => {
    expect(await Patient.countDocuments({ email: '1@example.org' })).toBe(COUNT / 10)
    expect(await Patient.countDocuments({ email: { $in: ['1@example.org', '2@example.org'] } }).limit(25)).toBe(25)
  })
  protects('estimatedDocumentCount', 'of the collection', async () => {
    expect(await Patient.estimatedDocumentCount()).toBe(COUNT)
  })
  protects('exists', 'by an encrypted path', async () => {
    expect(await Patient.exists({ email: '1@example.org' })).toEqual({ _id: expect.any(Number) })
    expect(await Patient.exists({ email: 'nobody' })).toBeNull()
  })
  protects('distinct', 'of a plain path, by an encrypted one', async () => {
    expect(await Patient.distinct('at', { email: '1@example.org' })).toHaveLength(COUNT / 10)
  })
  protects('sort', 'by plain paths, in every form', async () => {
    for (const order of [{ at: -1 }, '-at', [['at', -1]], new Map([['at', -1]])])
      expect(
        ssns(
          await Patient.find()
            .sort(order as never)
            .limit(1)
            .lean(),
        ),
      ).toEqual(['ssn-number-199'])
  })

  refuses('distinct', 'of an encrypted path', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'distinct' }, () =>
    Patient.distinct('email'),
  )
  refuses('sort', 'by an encrypted path', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' }, () =>
    Patient.find().sort({ email: 1 }),
  )
  refuses(
    'sort',
    'by an encrypted path beside a plain one',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' },
    () => Patient.find().sort('at -ssn'),
  )
  refuses('sort', 'by a token', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' }, () =>
    Patient.collection.find({}, { sort: { 'email.b': 1 } }).toArray(),
  )
  refuses('sort', 'of a cursor that exists', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' }, () =>
    Patient.collection.find().sort('ssn', 1).toArray(),
  )
  refuses(
    'cursor',
    'an order over an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' },
    () => Patient.find().sort({ ssn: 1 }).cursor().next(),
  )
  refuses('findOne sort', 'by an encrypted path', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' }, () =>
    Patient.findOne().sort({ ssn: 1 }),
  )
  refuses(
    'findOneAndUpdate sort',
    'by an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' },
    () => Patient.findOneAndUpdate({}, { at: 1 } as never, { sort: { ssn: 1 } }),
  )
  refuses('min', 'a bound of an encrypted path', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' }, () =>
    Patient.collection.find({}, { min: { email: 'a' }, hint: { email: 1 } }).toArray(),
  )
  refuses(
    'max',
    'a bound of an encrypted path, on a cursor that exists',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'sort-on-encrypted' },
    () => Patient.collection.find().max({ email: 'a' }).toArray(),
  )
  refuses('hint', 'the index of a path that has none', { code: 'ERR_QUERY_UNSUPPORTED', reason: 'index' }, () =>
    Patient.find().hint({ ssn: 1 }),
  )
  refuses(
    'cursor clone',
    'a cursor of the collection',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-method' },
    () => Patient.collection.find().clone(),
  )
  refuses(
    'cursor count',
    'on a cursor of the collection',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-method' },
    () => Patient.collection.find({ email: '1@example.org' } as never).count(),
  )
  refuses(
    'cursor addQueryModifier',
    'on a cursor of the collection',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'unsupported-method' },
    () => Patient.collection.find().addQueryModifier('$orderby', { ssn: 1 }),
  )
  refuses(
    'find raw',
    'documents that nobody has read',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'raw-documents' },
    () => Patient.collection.find({}, { raw: true }).toArray(),
  )
  refuses(
    'find collation',
    'text of an encrypted path under a collation',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'collation' },
    () => Patient.find({ email: 'A@example.org' }).collation({ locale: 'en', strength: 2 }),
  )
  refuses(
    'find collation',
    'said of a cursor that exists',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'collation' },
    () =>
      Patient.collection
        .find({ email: 'A@example.org' } as never)
        .collation({ locale: 'en' })
        .toArray(),
  )
  refuses(
    'countDocuments collation',
    'text of an encrypted path',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'collation' },
    () => Patient.countDocuments({ email: 'A@example.org' }).collation({ locale: 'en', strength: 2 }),
  )

  it('making a cursor never throws: what is wrong with it is an error of its first use', async () => {
    const cursors = [
      Patient.collection.find({}, { sort: { ssn: 1 } }),
      Patient.collection.find({}, { hint: { ssn: 1 } }),
      Patient.collection.aggregate([{ $limit: 1 }], { raw: true }),
      Patient.collection.aggregate([{ $sort: { ssn: 1 } }]),
    ]
    for (const cursor of cursors) {
      await expect(cursor.next()).rejects.toMatchObject({ code: 'ERR_QUERY_UNSUPPORTED' })
      expect(cursor.closed).toBe(true)
    }
  })

  it('text of an encrypted path is compared byte by byte under the simple collation', async () => {
    const query = Patient.find({ email: '1@example.org' }).collation({ locale: 'simple' })
    expect(await query.lean()).toHaveLength(COUNT / 10)
  })

  it('a normaliser does what a collation would', async () => {
    const Person = clinic.model(
      new Schema(
        {
          login: { type: String, encrypted: { blindIndex: { normalize: 'lower' } } },
          digits: { type: String, encrypted: { blindIndex: { normalize: 'digits' } } },
        },
        { autoIndex: false, autoCreate: false },
      ),
    )
    await Person.create({ login: clinic.secret('Ada Lovelace'), digits: clinic.secret('+44 555-1234') })
    expect(await Person.findOne({ login: 'ADA LOVELACE' })).toHaveProperty('login', 'Ada Lovelace')
    expect(await Person.countDocuments({ login: { $in: ['ada lovelace', 'x'] } })).toBe(1)
    expect(await Person.countDocuments({ login: { $ne: 'ADA lovelace' } })).toBe(0)
    expect(await Person.exists({ digits: '+44 5551234' })).not.toBeNull()
    expect(await Person.findOne({ login: 'ADA LOVELACE' }).collation({ locale: 'en', strength: 2 })).not.toBeNull()
  })

  it('a document that cannot be opened ends the cursor with its error, and the server’s cursor with it', async () => {
    const rows = clinic.connection.db?.collection(Patient.collection.name)
    const [stored] = (await rows?.find({ _id: 150 } as never).toArray()) ?? []
    await rows?.updateOne({ _id: 150 } as never, { $set: { ssn: null } })
    await rows?.updateOne({ _id: 151 } as never, { $set: { ssn: stored?.['ssn'] as unknown } })
    const read: unknown[] = []
    const cursor = Patient.collection.find({}, { sort: { _id: 1 }, batchSize: 100 })
    await expect(
      (async () => {
        for await (const row of cursor) read.push(row)
      })(),
    ).rejects.toMatchObject({ code: 'ERR_DECRYPT_FAILED' })
    expect(read, 'whole batches').toHaveLength(100)
    expect(cursor.closed).toBe(true)
    for await (const row of Patient.find({ _id: { $lt: 151 } } as never)
      .lean()
      .cursor())
      read.push(row)
    await Patient.updateOne({ _id: 150 }, { $set: { ssn: 'ssn-number-150' } } as never)
    await Patient.updateOne({ _id: 151 }, { $set: { ssn: 'ssn-number-151' } } as never)
    expect(ssns(await sorted())).toEqual(expected(0, COUNT))
  })
})

describe.runIf(hasMongo())('keys of a result set', () => {
  const clinic = useClinic({ tenancy: 'single' })

  it('one answer may bring more documents than a function takes arguments', async () => {
    const count = 150_000
    const Patient = clinic.model(new Schema({ ssn: { type: String, encrypted: true } }))
    await Patient.create({ ssn: 'ssn-number' })
    const all = () => Patient.aggregate([{ $project: { n: { $range: [0, count] } } }, { $unwind: '$n' }])
    expect((await all()).length).toBe(count)
    let read = 0
    for await (const _ of all().cursor({ batchSize: count })) read++
    expect(read).toBe(count)
  })

  it('one call of the KMS opens a cold result of 1,000 documents, however it is read', async () => {
    const schema = () => new Schema({ ssn: { type: String, encrypted: true } })
    const Patient = clinic.model(schema())
    await Patient.insertMany(Array.from({ length: 1000 }, (_, at) => ({ ssn: `ssn-${at}` })))
    const reads: (() => Promise<number>)[] = [
      async () => (await Patient.find()).length,
      async () => (await Patient.aggregate([{ $match: {} }])).length,
      async () => {
        let read = 0
        for await (const _ of Patient.find().lean().batchSize(50)) read++
        return read
      },
      async () => (await Promise.all(Array.from({ length: 1000 }, () => Patient.findOne().lean()))).length,
    ]
    for (const read of reads) {
      clinic.fieldseal.purge('$single' as never)
      clinic.kms.calls.length = 0
      expect(await read()).toBe(1000)
      expect(clinic.kms.calls.map(({ operation }) => operation)).toEqual(['unwrap'])
    }
  })

  it('reading fails closed while the customer denies, and goes on afterwards', async () => {
    const Patient = clinic.model(new Schema({ ssn: { type: String, encrypted: { blindIndex: true } }, name: String }))
    await Patient.create({ ssn: clinic.secret('ssn-number-1'), name: 'ada' })
    clinic.fieldseal.purge('$single' as never)
    clinic.kms.deny('test-key')
    const reads: (() => Promise<unknown>)[] = [
      () => Patient.find().exec(),
      () => Patient.findOne({ ssn: 'ssn-number-1' }).exec(),
      () => Patient.countDocuments({ ssn: 'ssn-number-1' }).exec(),
      () => Patient.find().lean().cursor().next(),
      () => Patient.aggregate([{ $match: { name: 'ada' } }]).exec(),
      () => Patient.findOneAndUpdate({ name: 'ada' }, { $set: { name: 'ada' } }).exec(),
    ]
    for (const read of reads) await expect(read()).rejects.toMatchObject({ kind: 'denied' })
    clinic.kms.restore()
    clinic.fieldseal.purge('$single' as never)
    expect(await Patient.find()).toMatchObject([{ ssn: 'ssn-number-1' }])
  })
})
