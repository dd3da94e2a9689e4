import { isUnreadable } from '@fieldseal/core'
import { hasMongo } from '@fieldseal/servers/vitest'
import { mongo, Schema, Types } from 'mongoose'
import { beforeEach, describe, expect, it } from 'vitest'
import { decryptRaw } from '../src/index.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'

const { Binary } = mongo
type Stored = Record<string, never>
const [ONE, TWO] = [new Types.ObjectId('65f000000000000000000001'), new Types.ObjectId('65f000000000000000000002')]

describe.runIf(hasMongo())('whoever can write to the database', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Patient: LooseModel
  let Other: LooseModel
  const schema = () =>
    new Schema({
      name: String,
      email: { type: String, encrypted: { blindIndex: true } },
      ssn: { type: String, encrypted: true },
      pin: { type: String, encrypted: true },
      age: { type: Number, encrypted: true },
      tags: [{ type: String, encrypted: { blindIndex: true } }],
      phones: { type: Map, of: { type: String, encrypted: true } },
      consent: { type: new Schema({ text: String }, { _id: false }), encrypted: true },
      history: [{ _id: false, note: { type: String, encrypted: true } }],
    })
  /** Past everything of ours. */
  const native = (model = Patient) => clinic.connection.db?.collection(model.collection.name) as mongo.Collection<never>
  const stored = async (_id: Types.ObjectId, model = Patient) =>
    (await native(model).findOne({ _id } as never)) as unknown as Record<string, never>
  /** Changes a stored document behind the guard's back: ciphertext only. */
  const put = (_id: Types.ObjectId, set: Record<string, unknown>) => past().updateOne({ _id }, { $set: set })
  const past = () => clinic.direct(Patient)
  let made = 0
  beforeEach(async () => {
    Patient = clinic.model(schema(), `Attacked${++made}`)
    Other = clinic.model(schema(), `Neighbour${made}`)
    const document = (_id: Types.ObjectId, who: string) => ({
      _id,
      name: who,
      email: clinic.secret(`${who}@example.org`),
      ssn: clinic.secret(`ssn-of-${who}`),
      pin: clinic.secret(`pin-of-${who}`),
      age: 36,
      tags: [clinic.secret(`tag-of-${who}`), 'shared-tag'],
      phones: { work: clinic.secret(`work-of-${who}`), home: clinic.secret(`home-of-${who}`) },
      consent: { text: clinic.secret(`consent-of-${who}`) },
      history: [{ note: clinic.secret(`note-of-${who}`) }],
    })
    await Patient.create([document(ONE, 'ada'), document(TWO, 'bob')])
    await Other.create(document(ONE, 'ada'))
  })
  const read = (projection?: string) => Patient.findById(ONE, projection).lean().exec()
  const fails = (code: string, work: () => Promise<unknown> = () => read()) =>
    expect(work()).rejects.toMatchObject({ code })

  it.each<[string, (one: Stored, two: Stored) => Record<string, unknown>]>([
    ['of another document', (_, two) => ({ ssn: two['ssn'] })],
    ['of another document, with its token', (_, two) => ({ email: two['email'] })],
    ['of another path', (one) => ({ ssn: one['pin'], pin: one['ssn'] })],
    ['of another path, out of a searchable leaf', (one) => ({ ssn: one['email']?.['c'] })],
    ['of another type', (one) => ({ age: one['ssn'] })],
    ['of another Map key', (one) => ({ 'phones.work': one['phones']?.['home'] })],
    ['of a container', (one) => ({ ssn: one['consent'] })],
    ['of an array element of another document', (_, two) => ({ tags: two['tags'] })],
    ['of a subdocument of another document', (_, two) => ({ history: two['history'] })],
  ])('cannot put a cell %s in its place', async (_, change) => {
    await put(ONE, change((await stored(ONE)) as never, (await stored(TWO)) as never))
    await fails('ERR_DECRYPT_FAILED')
    await fails('ERR_DECRYPT_FAILED', () => Patient.find().exec())
    await fails('ERR_DECRYPT_FAILED', () => Patient.aggregate([{ $match: { name: 'ada' } }]).exec())
    await fails('ERR_DECRYPT_FAILED', () => Patient.findOneAndUpdate({ _id: ONE }, { $set: { name: 'ada' } }).exec())
    await fails('ERR_DECRYPT_FAILED', async () => decryptRaw(Patient, [(await stored(ONE)) as object]))
  })

  it('cannot put a cell of another collection in its place', async () => {
    await put(ONE, { ssn: (await stored(ONE, Other))['ssn'] })
    await fails('ERR_DECRYPT_FAILED')
  })

  it('cannot give a document another id', async () => {
    const { _id: _, ...rest } = await stored(ONE)
    await past().deleteMany({ _id: { $in: [ONE, TWO] } } as never)
    await past().insertOne({ ...rest, _id: TWO } as never)
    await fails('ERR_DECRYPT_FAILED', () => Patient.find().exec())
  })

  it.each<[string, (bytes: Buffer) => Buffer, string]>([
    ['a flipped bit of the ciphertext', (bytes) => flip(bytes, bytes.length - 20), 'ERR_DECRYPT_FAILED'],
    ['a flipped bit of the tag', (bytes) => flip(bytes, bytes.length - 1), 'ERR_DECRYPT_FAILED'],
    ['a flipped bit of the wrapped key', (bytes) => flip(bytes, 40), 'ERR_DECRYPT_FAILED'],
    ['a flipped bit of the salt', (bytes) => flip(bytes, 19), 'ERR_DECRYPT_FAILED'],
    ['an unknown KEK', (bytes) => flip(bytes, 5), 'ERR_KEY_NOT_FOUND'],
    ['a newer version', (bytes) => at(bytes, 1, 2), 'ERR_ENVELOPE_VERSION'],
    ['an unknown suite', (bytes) => at(bytes, 2, 0x0e), 'ERR_ENVELOPE_VERSION'],
    ['another type tag', (bytes) => at(bytes, 17, 2), 'ERR_DECRYPT_FAILED'],
    ['an unknown flag', (bytes) => at(bytes, 15, 0x80), 'ERR_ENVELOPE_MALFORMED'],
    ['a truncated value', (bytes) => bytes.subarray(0, -1), 'ERR_DECRYPT_FAILED'],
    ['a truncated header', (bytes) => bytes.subarray(0, 60), 'ERR_ENVELOPE_MALFORMED'],
    ['a value with more bytes', (bytes) => Buffer.concat([bytes, Buffer.alloc(4)]), 'ERR_DECRYPT_FAILED'],
  ])('is noticed: %s', async (_, change, code) => {
    const { ssn } = (await stored(ONE)) as unknown as { ssn: mongo.Binary }
    await put(ONE, { ssn: new Binary(change(Buffer.from(ssn.value())), 0x80) })
    await fails(code)
    expect(await read('name email')).toMatchObject({ email: 'ada@example.org' })
  })

  it.each<[string, unknown]>([
    ['text', 'plain text'],
    ['a number', 5],
    ['a document', { text: 'plain' }],
    ['a document that looks like a leaf', { c: 'plain', b: new Binary(Buffer.alloc(17)) }],
    ['an empty document', {}],
    ['a leaf without ciphertext', { b: new Binary(Buffer.alloc(17)) }],
    ['a leaf whose ciphertext is null', { c: null, b: new Binary(Buffer.alloc(17)) }],
    ['false', false],
    ['a date', new Date()],
    ['bytes', new Binary(Buffer.from('plain'))],
  ])('cannot put plaintext there: %s', async (_, value) => {
    for (const path of ['ssn', 'email', 'consent', 'tags.0', 'phones.work', 'history.0.note']) {
      const before = await stored(ONE)
      await past().updateOne({ _id: ONE } as never, { $set: { [path]: value } })
      await expect(read(), path).rejects.toMatchObject({ kind: 'corrupt' })
      await past().replaceOne({ _id: ONE } as never, before as never)
    }
    expect(await read()).toMatchObject({ ssn: 'ssn-of-ada' })
  })

  it('plaintext at rest is ERR_PLAINTEXT_FOUND, wherever it is read', async () => {
    await past().updateOne({ _id: ONE } as never, { $set: { ssn: 'plain text' } })
    for (const work of [
      () => read(),
      () => Patient.find().exec(),
      () => Patient.findOne({ email: 'ada@example.org' }).exec(),
      () => Patient.find().cursor().next(),
      () => Patient.aggregate([{ $match: { name: 'ada' } }]).exec(),
      () =>
        Patient.findOneAndDelete({ _id: TWO, name: 'x' })
          .exec()
          .then(() => read()),
      async () => decryptRaw(Patient, [(await stored(ONE)) as object]),
    ])
      await fails('ERR_PLAINTEXT_FOUND', work)
  })

  it('a token copied to another document is noticed, also where its path is not asked for', async () => {
    const one = await stored(ONE)
    await put(TWO, { 'email.b': one['email']?.['b'] })
    await past().deleteOne({ _id: ONE } as never)
    for (const work of [
      () => Patient.find({ email: 'ada@example.org' }).exec(),
      () => Patient.findOne({ email: 'ada@example.org' }).exec(),
      () => Patient.findOne({ email: 'ada@example.org' }).select('name').lean().exec(),
      () => Patient.find({ email: 'ada@example.org' }).select('-email').lean().exec(),
      () =>
        Patient.find({ $or: [{ email: 'ada@example.org' }, { name: 'x' }] })
          .select({ name: 1, _id: 0 })
          .exec(),
      () => Patient.exists({ email: 'ada@example.org' }).exec(),
      () =>
        Patient.find({ email: { $in: ['ada@example.org', 'x'] } })
          .cursor()
          .next(),
      () => Patient.aggregate([{ $match: { email: 'ada@example.org' } }]).exec(),
      () => Patient.aggregate([{ $match: { email: 'ada@example.org' } }, { $project: { name: 1 } }]).exec(),
    ])
      await fails('ERR_TOKEN_MISMATCH', work)
    // What opens no value cannot notice it.
    expect(await Patient.countDocuments({ email: 'ada@example.org' })).toBe(1)
    expect(await Patient.distinct('name', { email: 'ada@example.org' })).toEqual(['bob'])
    expect(await Patient.findOne({ name: 'bob' }).lean()).toMatchObject({ email: 'bob@example.org' })
  })

  it('a token copied to an element of an array is noticed', async () => {
    const one = await stored(ONE)
    await put(TWO, { 'tags.1.b': (one['tags'] as { b: unknown }[] | undefined)?.[0]?.b })
    await fails('ERR_TOKEN_MISMATCH', () => Patient.find({ tags: 'tag-of-ada' }).exec())
  })

  it('text that looks like an envelope is encrypted like any other', async () => {
    const one = (await stored(ONE)) as unknown as { ssn: mongo.Binary }
    const text = Buffer.from(one.ssn.value()).toString('latin1')
    await Patient.updateOne({ _id: TWO }, { $set: { ssn: text } })
    expect(await Patient.findById(TWO).lean()).toMatchObject({ ssn: text })
    await expect(
      Patient.collection.updateOne({ _id: TWO } as never, { $set: { ssn: one.ssn } } as never),
    ).rejects.toMatchObject({
      code: 'ERR_VALUE_INVALID',
    })
  })

  protects('decryptRaw', 'documents of the driver become those of lean(), in copies', async () => {
    const raw = (await native().find().toArray()) as object[]
    const before = structuredClone(raw.map((each) => Object.keys(each)))
    expect(await decryptRaw(Patient, raw)).toEqual(await Patient.find().lean())
    expect(raw.map((each) => Object.keys(each))).toEqual(before)
    expect(Patient.hydrate((await decryptRaw(Patient, raw))[0])).toMatchObject({ ssn: 'ssn-of-ada' })
  })
  refuses('decryptRaw', 'documents without their _id', { code: 'ERR_ARGUMENT_INVALID' }, async () => {
    const { _id: _, ...rest } = await stored(ONE)
    return decryptRaw(Patient, [rest])
  })
  refuses(
    'hydrate',
    'a document that holds ciphertext',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'hydrate' },
    async () => Patient.hydrate(await stored(ONE)),
  )
  refuses(
    'hydrate',
    'an array element that holds ciphertext',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'hydrate' },
    async () => Patient.hydrate({ _id: ONE, tags: (await stored(ONE))['tags'] }),
  )
  protects('hydrate', 'a document that holds plaintext', async () => {
    expect(Patient.hydrate({ _id: ONE, ssn: 'ssn-of-ada', phones: { work: 'x' } })).toMatchObject({ ssn: 'ssn-of-ada' })
  })
})

const flip = (bytes: Buffer, position: number) => at(bytes, position, (bytes[position] ?? 0) ^ 1)
function at(bytes: Buffer, position: number, value: number): Buffer {
  bytes[position] = value
  return bytes
}

describe.runIf(hasMongo())("another tenant's documents", () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const as = <R>(tenant: string, work: () => Promise<R>, more: object = {}) =>
    clinic.fieldseal.runAs({ tenant, ...more }, work)
  let Patient: LooseModel
  let made = 0
  beforeEach(async () => {
    Patient = clinic.model(
      new Schema(
        {
          _id: Number,
          clinicId: String,
          name: String,
          ssn: { type: String, encrypted: { blindIndex: true } },
          pin: { type: String, encrypted: true },
        },
        { encrypted: { tenantBy: 'clinicId' } },
      ),
      `Tenant${++made}`,
    )
    for (const [tenant, _id] of [
      ['clinic-7', 1],
      ['clinic-8', 2],
    ] as const)
      await as(tenant, () =>
        Patient.create({
          _id,
          clinicId: tenant,
          name: `n${_id}`,
          ssn: clinic.secret(`ssn-in-${tenant}`),
          pin: clinic.secret(`pin-in-${tenant}`),
        }),
      )
  })
  const direct = () => clinic.direct(Patient)
  const row = async (_id: number) => (await direct().findOne({ _id } as never)) as unknown as Record<string, never>

  it.each<[string, () => Promise<unknown>]>([
    ['find', () => Patient.find().exec()],
    ['find, lean', () => Patient.find().lean().exec()],
    ['find, projected', () => Patient.find({}, 'name').exec()],
    ['findOne', () => Patient.findOne({ _id: 2 }).exec()],
    ['findById, only the id', () => Patient.findById(2, '_id').exec()],
    ['exists', () => Patient.exists({ _id: 2 }).exec()],
    ['cursor', () => Patient.find({ _id: 2 }).cursor().next()],
    ['aggregate', () => Patient.aggregate([{ $match: { _id: 2 } }]).exec()],
    [
      'aggregate, projected',
      () => Patient.aggregate([{ $match: { _id: 2 } }, { $project: { name: 1, _id: 0 } }]).exec(),
    ],
    ['decryptRaw', async () => decryptRaw(Patient, [await row(2)])],
  ])('%s refuses to hand them out', async (_, work) => {
    await expect(as('clinic-7', work)).rejects.toMatchObject({ code: 'ERR_TENANT_MISMATCH' })
  })

  it('are not found by their values, and are not changed', async () => {
    await as('clinic-7', async () => {
      expect(await Patient.find({ ssn: 'ssn-in-clinic-8' })).toEqual([])
      expect(await Patient.countDocuments({ ssn: 'ssn-in-clinic-8' })).toBe(0)
      expect(await Patient.updateOne({ _id: 2 }, { $set: { ssn: 'x-of-7' } })).toMatchObject({ matchedCount: 0 })
      expect(await Patient.updateMany({}, { $set: { name: 'x' } })).toMatchObject({ matchedCount: 1 })
      expect(await Patient.findOneAndUpdate({ _id: 2 }, { $set: { name: 'x' } })).toBeNull()
      expect(await Patient.findOneAndDelete({ _id: 2 })).toBeNull()
      expect(await Patient.deleteMany({ _id: 2 })).toMatchObject({ deletedCount: 0 })
    })
    expect(await as('clinic-8', () => Patient.findOne({ ssn: 'ssn-in-clinic-8' }).lean().exec())).toMatchObject({
      name: 'n2',
    })
  })

  it('cells do not open when they are copied over, nor does a document that was renamed', async () => {
    const [one, two] = [await row(1), await row(2)]
    await direct().updateOne({ _id: 1 } as never, { $set: { ssn: two['ssn'], pin: two['pin'] } })
    await expect(as('clinic-7', () => Patient.findById(1).exec())).rejects.toMatchObject({ kind: 'corrupt' })
    await direct().updateOne({ _id: 1 } as never, { $set: { ssn: one['ssn'], pin: one['pin'], clinicId: 'clinic-8' } })
    await expect(as('clinic-8', () => Patient.findById(1).exec())).rejects.toMatchObject({ kind: 'corrupt' })
  })

  it('a token of another tenant finds nothing', async () => {
    await direct().updateOne({ _id: 1 } as never, { $set: { 'ssn.b': (await row(2))['ssn']?.['b'] } })
    expect(await as('clinic-7', () => Patient.find({ ssn: 'ssn-in-clinic-7' }).exec())).toEqual([])
    await expect(as('clinic-8', () => Patient.find({ ssn: 'ssn-in-clinic-8', _id: 1 }).exec())).rejects.toMatchObject({
      code: 'ERR_TENANT_MISMATCH',
    })
  })

  describe("with onUnreadable: 'mark'", () => {
    const mark = { onUnreadable: 'mark' }
    const mine = { clinicId: 'clinic-7' } as never
    beforeEach(() =>
      direct().updateOne({ _id: 1 } as never, { $set: { pin: new Binary(Buffer.from('not an envelope'), 0x80) } }),
    )

    protects('find lean', 'a value that cannot be opened is marked, its neighbours are there', async () => {
      const found = await as('clinic-7', () => Patient.find(mine).lean().exec(), mark)
      expect(found).toMatchObject([{ ssn: 'ssn-in-clinic-7' }])
      expect(isUnreadable((found as unknown as { pin: unknown }[])[0]?.pin)).toBe(true)
      const [row] = await as('clinic-7', () => Patient.aggregate([{ $match: mine }]).exec(), mark)
      expect(isUnreadable((row as { pin: unknown }).pin)).toBe(true)
      const one = await as('clinic-7', () => Patient.findOne({ ssn: 'ssn-in-clinic-7' }).lean().cursor().next(), mark)
      expect(isUnreadable((one as { pin: unknown }).pin)).toBe(true)
      await expect(
        as('clinic-7', () => Patient.updateOne({ _id: 1 }, { $set: { pin: (row as { pin: string }).pin } }).exec()),
      ).rejects.toThrow(/Cast to string failed/)
    })
    refuses(
      'find',
      'hydrated documents, which have no place for a mark',
      { code: 'ERR_QUERY_UNSUPPORTED', reason: 'mark-needs-lean' },
      () => as('clinic-7', () => Patient.find(mine).exec(), mark),
    )
    refuses(
      'findOne',
      'a hydrated document, which has no place for a mark',
      { code: 'ERR_QUERY_UNSUPPORTED', reason: 'mark-needs-lean' },
      () => as('clinic-7', () => Patient.findOne(mine).exec(), mark),
    )
    refuses(
      'cursor',
      'hydrated documents, which have no place for a mark',
      { code: 'ERR_QUERY_UNSUPPORTED', reason: 'mark-needs-lean' },
      () => as('clinic-7', async () => Patient.find(mine).cursor().next(), mark),
    )
    it('throws for everybody who does not ask for it', async () => {
      await expect(as('clinic-7', () => Patient.find(mine).lean().exec())).rejects.toMatchObject({ kind: 'corrupt' })
    })
    it('another tenant’s document is never marked, it throws', async () => {
      await expect(as('clinic-7', () => Patient.find().lean().exec(), mark)).rejects.toMatchObject({
        code: 'ERR_TENANT_MISMATCH',
      })
    })
  })
})

describe.runIf(hasMongo())('truncated indexes', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Caller: LooseModel
  let made = 0
  beforeEach(async () => {
    const short = { type: String, encrypted: { blindIndex: { bits: 16 } } }
    Caller = clinic.model(
      new Schema({
        _id: Number,
        name: String,
        phone: short,
        tags: [short],
        notes: [{ _id: false, at: Number, text: short }],
        lines: { type: Map, of: short },
      }),
      `Caller${++made}`,
    )
    clinic.secret('phone-')
    await Caller.create([
      {
        _id: 1,
        name: 'twin',
        phone: 'phone-200',
        tags: ['phone-200', 'phone-300'],
        notes: [{ at: 1, text: 'phone-200' }],
      },
      {
        _id: 2,
        name: 'real',
        phone: 'phone-100',
        tags: ['phone-100', 'phone-300'],
        notes: [{ at: 1, text: 'phone-100' }],
      },
      { _id: 3, name: 'other', phone: 'phone-300' },
    ])
    // Tokens that are equal by force, as they are by chance once in 65,536.
    const rows = clinic.direct(Caller)
    const real = (await rows.findOne({ _id: 2 } as never)) as unknown as {
      phone: { b: unknown }
      tags: { b: unknown }[]
      notes: { text: { b: unknown } }[]
    }
    await rows.updateOne({ _id: 1 } as never, {
      $set: { 'phone.b': real.phone.b, 'tags.0.b': real.tags[0]?.b, 'notes.0.text.b': real.notes[0]?.text.b },
    })
  })
  const names = async (query: Promise<unknown>) => ((await query) as { name: string }[]).map(({ name }) => name)

  protects('find on a truncated index', 'documents that were found in vain are left out', async () => {
    expect(await names(Caller.find({ phone: 'phone-100' }).exec())).toEqual(['real'])
    expect(
      await names(
        Caller.find({ phone: { $in: ['phone-100', 'phone-300'] } })
          .sort({ _id: 1 })
          .lean()
          .exec(),
      ),
    ).toEqual(['real', 'other'])
    expect(await names(Caller.find({ phone: 'phone-100', name: 'twin' }).exec())).toEqual([])
    expect(await names(Caller.find({ phone: 'phone-100' }).select('name').lean().exec())).toEqual(['real'])
    expect(await names(Caller.find({ phone: 'phone-100' }, { phone: 0 }).lean().exec())).toEqual(['real'])
    expect(await names(Caller.find({ tags: 'phone-100' }).exec())).toEqual(['real'])
    expect(await names(Caller.find({ 'notes.text': 'phone-100' }).select('name').exec())).toEqual(['real'])
    const read: unknown[] = []
    for await (const row of Caller.find({ phone: 'phone-100' }).lean().cursor({ batchSize: 1 })) read.push(row)
    expect(read).toMatchObject([{ name: 'real' }])
  })
  protects('findOne on a truncated index', 'the first that really has the value', async () => {
    expect(await Caller.findOne({ phone: 'phone-100' })).toMatchObject({ name: 'real' })
    expect(await Caller.findOne({ phone: 'phone-100' }).sort({ _id: 1 }).select('name').lean()).toEqual({
      _id: 2,
      name: 'real',
    })
    expect(await Caller.findOne({ phone: 'phone-400' })).toBeNull()
    expect(await Caller.exists({ phone: 'phone-100' })).toEqual({ _id: 2 })
  })
  it.each<[string, () => unknown]>([
    ['count', () => Caller.countDocuments({ phone: 'phone-100' })],
    ['count of the driver', () => Caller.collection.count({ phone: 'phone-100' } as never)],
    ['$count', () => Caller.aggregate([{ $match: { phone: 'phone-100' } }, { $count: 'n' }])],
    ['a count of groups', () => Caller.aggregate([{ $match: { phone: 'phone-100' } }]).sortByCount('name')],
    ['limit', () => Caller.find({ phone: 'phone-100' }).limit(2)],
    ['skip', () => Caller.find({ phone: 'phone-100' }).skip(1)],
    ['findOne with skip', () => Caller.findOne({ phone: 'phone-100' }).skip(1)],
    [
      'limit of a cursor that exists',
      () =>
        Caller.collection
          .find({ phone: 'phone-100' } as never)
          .limit(1)
          .toArray(),
    ],
    ['$ne', () => Caller.find({ phone: { $ne: 'phone-100' } })],
    ['$nin', () => Caller.find({ phone: { $nin: ['phone-100'] } })],
    ['$not', () => Caller.find({ phone: { $not: { $eq: 'phone-100' } } })],
    ['$or', () => Caller.find({ $or: [{ phone: 'phone-100' }, { name: 'x' }] })],
    ['$nor', () => Caller.find({ $nor: [{ phone: 'phone-100' }] })],
    ['$all of several', () => Caller.find({ tags: { $all: ['phone-100', 'phone-300'] } })],
    ['two conditions on one index', () => Caller.find({ $and: [{ tags: 'phone-100' }, { tags: 'phone-300' }] })],
    ['$elemMatch', () => Caller.find({ notes: { $elemMatch: { text: 'phone-100', at: 1 } } })],
    ['$elemMatch of elements', () => Caller.find({ tags: { $elemMatch: { $eq: 'phone-100' } } })],
    ['an element by its place', () => Caller.find({ 'tags.0': 'phone-100' })],
    ['a value of a Map', () => Caller.find({ 'lines.work': 'phone-100' })],
    ['a part of the array', () => Caller.find({ 'notes.text': 'phone-100' }, { notes: { $slice: 1 } })],
    ['the element that was met', () => Caller.find({ tags: 'phone-100' }, { 'tags.$': 1 })],
    ['aggregate', () => Caller.aggregate([{ $match: { phone: 'phone-100' } }])],
    ['distinct', () => Caller.distinct('name', { phone: 'phone-100' })],
    ['updateOne', () => Caller.updateOne({ phone: 'phone-100' }, { name: 'x' })],
    ['deleteOne', () => Caller.deleteOne({ phone: 'phone-100' })],
    ['findOneAndUpdate', () => Caller.findOneAndUpdate({ phone: 'phone-100' }, { name: 'x' })],
    ['bulkWrite', () => Caller.bulkWrite([{ deleteOne: { filter: { phone: 'phone-100' } } }])],
  ])('%s is refused', async (_, work) => {
    await expect((async () => work())()).rejects.toMatchObject({
      code: 'ERR_QUERY_UNSUPPORTED',
      details: { reason: 'truncated-index' },
    })
  })
})
