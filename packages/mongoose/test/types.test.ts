import { isEnvelope } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import mongoose, { Schema } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { type LooseModel, useClinic } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { comparable } from './support/comparable.ts'
import { usePlainConnection } from './support/twin.ts'

const { Binary, Decimal128, Double, Int32, Long, ObjectId, UUID } = mongoose.mongo
const { Types } = Schema

/** Everything a query may say about how BSON comes back. */
const READINGS = [
  {},
  { useBigInt64: true },
  { promoteBuffers: true },
  { promoteValues: false },
  { promoteLongs: false },
]

interface TypeCase {
  readonly name: string
  readonly type: unknown
  readonly values: (secret: (text: string) => string) => readonly unknown[]
}

const TYPES: readonly TypeCase[] = [
  {
    name: 'String',
    type: String,
    values: (secret) => [secret('a string of patients'), '', ' ', '\u{1F600} ß\u0000 é', 'fs.+AEB', 'x'.repeat(5000)],
  },
  {
    name: 'Number',
    type: Number,
    values: () => [
      0,
      -0,
      1.5,
      36,
      -1,
      2 ** 31 - 1,
      2 ** 31,
      -(2 ** 31),
      -(2 ** 31) - 1,
      2 ** 53,
      1e300,
      5e-324,
      Infinity,
    ],
  },
  { name: 'Boolean', type: Boolean, values: () => [true, false] },
  {
    name: 'Date',
    type: Date,
    values: () => [
      new Date(0),
      new Date(-1),
      new Date('2020-02-29T12:00:00.123Z'),
      new Date(8.64e15),
      new Date(-8.64e15),
    ],
  },
  {
    name: 'Buffer',
    type: Buffer,
    values: (secret) => [Buffer.from(secret('bytes of a scan')), Buffer.alloc(0), Buffer.from([0, 255, 128])],
  },
  { name: 'BigInt', type: BigInt, values: () => [0n, 1n, -1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n), 128n, -129n] },
  { name: 'ObjectId', type: Types.ObjectId, values: () => [new ObjectId('0123456789abcdef01234567')] },
  { name: 'UUID', type: Types.UUID, values: () => [new UUID('0190d5a2-7f1a-7aaa-8bbb-0123456789ab')] },
  {
    name: 'Decimal128',
    type: Types.Decimal128,
    values: () =>
      ['1.10', '-0', '9.999999999999999999999999999999999E+6144', 'NaN'].map((text) => new Decimal128(text)),
  },
  { name: 'Double', type: Types.Double, values: () => [new Double(1), new Double(1.25), new Double(-0)] },
  { name: 'Int32', type: Types.Int32, values: () => [0, 7, -(2 ** 31), 2 ** 31 - 1] },
  {
    name: 'Mixed',
    type: Types.Mixed,
    values: (secret) => [
      secret('mixed text'),
      7,
      2.5,
      true,
      new Date(5),
      new Binary(Buffer.from(secret('mixed bytes')), 5),
      Long.fromString('9007199254740993'),
      new Double(3),
      {
        text: secret('mixed deep'),
        list: [1, new Int32(2), { deep: new ObjectId('0123456789abcdef01234567') }],
        none: null,
      },
      [secret('mixed list'), 1n, null],
      new mongoose.mongo.Timestamp({ t: 1, i: 2 }),
      new mongoose.mongo.BSONRegExp('^a', 'i'),
    ],
  },
  {
    name: 'Union',
    type: Types.Union,
    values: (secret) => [secret('one of two'), 42, 2.5],
  },
]

function typed({ name, type }: TypeCase, encrypted: boolean): Record<string, unknown> {
  return {
    type,
    ...(name === 'Union' ? { of: [Number, String] } : {}),
    ...(encrypted ? { encrypted: true } : {}),
  }
}

/** One type in every place that a value can have. `encrypted: false` gives the twin. */
function shapeOf(each: TypeCase, encrypted: boolean): Schema {
  const leaf = typed(each, encrypted)
  const whole = encrypted ? { encrypted: true } : {}
  const plain = typed(each, false)
  const sub = (of: unknown) => new Schema({ leaf: of as never }, { _id: false })
  return new Schema(
    {
      scalar: leaf,
      nested: { leaf },
      elements: [leaf],
      matrix: [[leaf]],
      map: { type: Map, of: leaf },
      sub: sub(leaf),
      subs: [sub(leaf)],
      mapOfSubs: { type: Map, of: sub(leaf) },
      mapOfLists: { type: Map, of: [leaf] },
      wholeArray: { type: [plain], ...whole },
      wholeMatrix: { type: [[plain]], ...whole },
      wholeMap: { type: Map, of: plain, ...whole },
      wholeSub: { type: sub(plain), ...whole },
      wholeSubs: { type: [sub(plain)], ...whole },
      wholeInList: [new Schema({ list: { type: [plain], ...whole } }, { _id: false })],
    } as never,
    { minimize: false },
  )
}

function documentOf(values: readonly unknown[]): Record<string, unknown> {
  const named = Object.fromEntries(values.map((value, at) => [`key${at}`, value]))
  const leaves = values.map((leaf) => ({ leaf }))
  return {
    scalar: values[0],
    nested: { leaf: values.at(-1) },
    elements: values,
    matrix: [values, [], [values[0]]],
    map: named,
    sub: { leaf: values[0] },
    subs: leaves,
    mapOfSubs: Object.fromEntries(leaves.map((value, at) => [`key${at}`, value])),
    mapOfLists: { one: values, none: [] },
    wholeArray: values,
    wholeMatrix: [values, []],
    wholeMap: named,
    wholeSub: { leaf: values[0] },
    wholeSubs: leaves,
    wholeInList: [{ list: values }, { list: [] }],
  }
}

/** Paths and values of all that is no container, of a document as the driver gives it. */
function leavesOf(value: unknown, path = ''): [string, unknown][] {
  if (Array.isArray(value)) return value.flatMap((each) => leavesOf(each, `${path}.$`))
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype)
    return Object.entries(value).flatMap(([key, each]) => leavesOf(each, `${path}.${key}`))
  return [[path, value]]
}

async function expectAlike(encrypted: LooseModel, plain: LooseModel, _id: unknown): Promise<void> {
  const [one, other] = [await encrypted.findById(_id), await plain.findById(_id)]
  expect(comparable(one.toObject())).toEqual(comparable(other.toObject()))
  for (const reading of READINGS) {
    const [ours, theirs] = await Promise.all(
      [encrypted, plain].map((model) => model.findById(_id, null, { ...reading }).lean()),
    )
    expect(comparable(ours), JSON.stringify(reading)).toEqual(comparable(theirs))
  }
}

describe.runIf(hasMongo())('every schema type in every place', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const plain = usePlainConnection()
  let models = 0

  for (const each of TYPES) {
    const twins = (): readonly [LooseModel, LooseModel] => [
      clinic.model(shapeOf(each, true)),
      plain.connection.model(`Plain${++models}`, shapeOf(each, false) as never) as LooseModel,
    ]

    it(`stores nothing of ${each.name} but envelopes, and gives it back as a plain schema does, however it is read`, async () => {
      const [Encrypted, Plain] = twins()
      const _id = new ObjectId()
      const document = { _id, ...documentOf(each.values(clinic.secret)) }
      const saved = await Encrypted.create(document)
      const twin = await Plain.create(document)
      expect(comparable(saved.toObject())).toEqual(comparable(twin.toObject()))
      const [raw] = await clinic.stored(Encrypted)
      const { _id: _, __v, __fieldseal, ...content } = raw as Record<string, unknown>
      for (const [path, leaf] of leavesOf(content)) {
        expect(leaf, path).toBeInstanceOf(Binary)
        expect(isEnvelope((leaf as InstanceType<typeof Binary>).value()), path).toBe(true)
      }
      await expectAlike(Encrypted, Plain, _id)
    })

    it(`keeps ${each.name} through changes of each place as a plain schema does`, async () => {
      const [Encrypted, Plain] = twins()
      const _id = new ObjectId()
      const values = each.values(clinic.secret)
      const [value] = values
      await Promise.all([Encrypted, Plain].map((model) => model.create({ _id, ...documentOf(values) })))
      const change = async (model: typeof Encrypted) => {
        const found = await model.findById(_id)
        found.set('scalar', values.at(-1))
        found.nested.leaf = value
        found.elements.push(value)
        found.matrix[1].push(value)
        found.map.set('added', value)
        found.sub.leaf = values.at(-1)
        found.subs[0].leaf = values.at(-1)
        found.subs.push({ leaf: value })
        found.mapOfSubs.set('key0', { leaf: values.at(-1) })
        found.mapOfLists.get('none').push(value)
        found.wholeArray.push(value)
        found.wholeMatrix[1].push(value)
        found.wholeMap.set('added', value)
        found.wholeSub.leaf = values.at(-1)
        found.wholeSubs.push({ leaf: value })
        found.wholeInList[1].list.push(value)
        await found.save()
        return comparable(found.toObject())
      }
      expect(await change(Encrypted)).toEqual(await change(Plain))
      await expectAlike(Encrypted, Plain, _id)
    })
  }
})

describe.runIf(hasMongo())('types at the edge', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const plain = usePlainConnection()
  const readBack = async (model: LooseModel, reading: Record<string, unknown> = {}) =>
    comparable(await model.findOne({}, { _id: 0, __v: 0 }, reading).lean())

  protects('save', 'a Map as one value keeps keys that look like numbers, in any order', async () => {
    const Patient = clinic.model(new Schema({ rooms: { type: Map, of: String, encrypted: true } }))
    await Patient.create({ rooms: { b: clinic.secret('room named'), 20: clinic.secret('room twenty'), 3: 'three' } })
    expect((await Patient.findOne()).rooms.get('20')).toBe('room twenty')
    expect(await readBack(Patient)).toEqual({
      rooms: { b: 'string room named', 20: 'string room twenty', 3: 'string three' },
    })
  })

  protects('save', 'a Buffer with a subtype of its own, declared by its path, comes back with it', async () => {
    const Patient = clinic.model(new Schema({ scan: { type: Buffer, subtype: 5, encrypted: true } }))
    await Patient.create({ scan: Buffer.from(clinic.secret('bytes under a subtype')) })
    const found = await Patient.findOne()
    expect(found.scan._subtype).toBe(5)
    expect(await readBack(Patient)).toEqual({
      scan: comparable(new Binary(Buffer.from('bytes under a subtype'), 5)),
    })
  })

  refuses('save', 'a Buffer with a subtype that its path does not declare', { code: 'ERR_VALUE_INVALID' }, async () => {
    const Patient = clinic.model(new Schema({ scan: { type: Buffer, encrypted: true } }))
    await Patient.create({ scan: new Binary(Buffer.from(clinic.secret('bytes of another kind')), 5) })
  })

  protects('save', 'an edit inside a container leaves the BSON types of its neighbours as they are', async () => {
    const Patient = clinic.model(new Schema({ chart: { type: Types.Mixed, encrypted: true } }))
    const neighbours = {
      whole: new Double(3),
      long: Long.fromNumber(5),
      small: new Int32(6),
      exact: new Decimal128('1.10'),
      bytes: new Binary(Buffer.from(clinic.secret('neighbouring bytes')), 4),
      pattern: new mongoose.mongo.BSONRegExp('^a', 'i'),
      at: new mongoose.mongo.Timestamp({ t: 1, i: 2 }),
      none: null,
    }
    await Patient.collection.insertOne({ chart: { ...neighbours, note: clinic.secret('first chart note') } })
    const found = await Patient.findOne()
    found.set('chart.note', clinic.secret('second chart note'))
    await found.save()
    expect(await readBack(Patient, { promoteValues: false, bsonRegExp: true })).toEqual({
      chart: comparable({ ...neighbours, note: 'second chart note' }),
    })
  })

  protects('updateOne $inc', 'inside a container the result has the type that MongoDB gives it', async () => {
    const Patient = clinic.model(new Schema({ chart: { type: Types.Mixed, encrypted: true } }))
    await Patient.collection.insertOne({
      chart: { double: new Double(1), long: Long.fromNumber(1), int: new Int32(1), top: new Int32(2 ** 31 - 1) },
    })
    const $inc = { 'chart.double': 1, 'chart.long': 1, 'chart.int': 1, 'chart.top': 1, 'chart.missing': 2 }
    await Patient.updateOne({}, { $inc, $mul: { 'chart.half': 2.5 } })
    expect(await readBack(Patient, { promoteValues: false })).toEqual({
      chart: comparable({
        double: new Double(2),
        long: Long.fromNumber(2),
        int: new Int32(2),
        top: Long.fromNumber(2 ** 31),
        missing: new Int32(2),
        half: new Double(0),
      }),
    })
  })

  it('makes no property of every object from a path inside a container', async () => {
    const Patient = clinic.model(new Schema({ chart: { type: Types.Mixed, encrypted: true } }))
    await Patient.collection.insertOne({ chart: { a: 1 } })
    await Patient.collection.updateOne(
      {},
      { $set: { 'chart.__proto__.polluted': 1, 'chart.constructor.prototype.x': 1 } },
    )
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false)
    expect(Object.hasOwn(Object.prototype, 'x')).toBe(false)
    const [found] = (await Patient.collection.find({}).toArray()) as unknown as { chart: Record<string, unknown> }[]
    expect(Object.keys(found?.chart ?? {})).toEqual(['a', '__proto__', 'constructor'])
  })

  it('takes text and bytes that look like an envelope for the text and the bytes that they are', async () => {
    const Patient = clinic.model(
      new Schema({
        name: { type: String, encrypted: true },
        scan: { type: Buffer, encrypted: true },
        any: { type: Types.Mixed, encrypted: true },
      }),
    )
    await Patient.create({ name: clinic.secret('to be copied') })
    const [{ name: envelope }] = (await clinic.stored(Patient)) as unknown as [{ name: InstanceType<typeof Binary> }]
    const bytes = Buffer.from(envelope.value())
    await Patient.deleteMany({})
    const text = `fs.${bytes.toString('base64url')}`
    await Patient.create({ name: text, scan: bytes, any: new Binary(bytes, 128) })
    expect(await readBack(Patient)).toEqual({
      name: `string ${text}`,
      scan: comparable(new Binary(bytes)),
      any: comparable(new Binary(bytes, 128)),
    })
  })

  refuses(
    'save',
    'text with half of a surrogate pair, which BSON would replace',
    { code: 'ERR_VALUE_INVALID' },
    async () => {
      const Patient = clinic.model(new Schema({ name: { type: String, encrypted: true } }))
      await Patient.create({ name: 'half \ud800' })
    },
  )

  protects('save', 'what is stored is the value behind a getter, in every place', async () => {
    const Plain = plain.connection.model('Getters', getters(false) as never) as LooseModel
    const Encrypted = clinic.model(getters(true))
    const _id = new ObjectId()
    const value = clinic.secret('value behind a getter')
    const document = {
      _id,
      name: value,
      list: [value],
      map: { a: value },
      lists: { a: [value] },
      sub: { name: value },
    }
    const stored = await Promise.all(
      [Encrypted, Plain].map(async (model: LooseModel) => {
        await model.create(document)
        const found = await model.findById(_id)
        found.list.push(value)
        found.map.set('b', value)
        found.lists.get('a').push(value)
        found.lists.set('b', [value])
        found.whole = [value]
        await found.save()
        return comparable(await model.findById(_id).lean())
      }),
    )
    expect(stored[0]).toEqual(stored[1])
    expect((await Encrypted.findById(_id)).name).toBe('shown: value behind a getter')
  })

  function getters(encrypted: boolean): Schema {
    const get = (value: unknown) => (typeof value === 'string' ? `shown: ${value}` : value)
    const text = { type: String, get, ...(encrypted ? { encrypted } : {}) }
    return new Schema(
      {
        name: text,
        list: [text],
        map: { type: Map, of: text },
        lists: { type: Map, of: [text] },
        sub: new Schema({ name: text } as never, { _id: false }),
        whole: { type: [{ type: String, get }], ...(encrypted ? { encrypted } : {}) },
      } as never,
      { toObject: { getters: true }, toJSON: { getters: true } },
    )
  }
})
