import { hasMongo } from '@fieldseal/servers/vitest'
import mongoose, { Schema } from 'mongoose'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects, refuses } from './support/operation.ts'
import { twinsOf, usePlainConnection, type Sealing, type Twins } from './support/twin.ts'

type Native = Record<'updateOne' | 'findOneAndUpdate', (...args: readonly unknown[]) => Promise<unknown>>

const { Double, Int32, Long } = mongoose.mongo
const nativeOf = (model: LooseModel) => model.collection as unknown as Native
/** With every BSON type spelt out. */
const spelt = (value: unknown) => JSON.parse(mongoose.mongo.BSON.EJSON.stringify(value, { relaxed: false })) as unknown

describe.runIf(hasMongo())('operators that need the present plaintext', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const past = usePlainConnection()
  let twins: Twins
  beforeAll(async () => {
    twins = twinsOf(clinic, past, boxSchema)
    await twins.insert([])
  })

  /** What is in the box of each twin after an update, or that the update failed and left the box as it was. */
  async function after(model: LooseModel, box: object, update: object): Promise<unknown> {
    await model.deleteMany({})
    await model.insertMany([{ _id: 1, ...box }])
    const read = () => model.findOne({}).lean({ defaults: false })
    const before = spelt(await read())
    try {
      const result = (await nativeOf(model).updateOne({ _id: 1 }, update)) as { readonly matchedCount: number }
      return { matched: result.matchedCount, box: spelt(await read()) }
    } catch {
      expect(spelt(await read())).toEqual(before)
      return 'an error, and nothing changed'
    }
  }

  it.each<[string, object, object]>([
    ['a sum', { n: 5 }, { $inc: { n: 3 } }],
    ['a sum with a fraction', { n: 5 }, { $inc: { n: 0.5 } }],
    ['a sum that is missing', {}, { $inc: { n: 3 } }],
    ['a sum with null', { n: null }, { $inc: { n: 3 } }],
    ['a sum with text', { n: 5 }, { $inc: { n: 'three' } }],
    ['a product', { n: 5 }, { $mul: { n: 1.5 } }],
    ['a product that is missing', {}, { $mul: { n: 3 } }],
    ['a least that is lower', { n: 5 }, { $min: { n: 3 } }],
    ['a least that is not', { n: 5 }, { $min: { n: 7 } }],
    ['a least that is missing', {}, { $min: { n: 7 } }],
    ['a greatest that is higher', { n: 5 }, { $max: { n: 7 } }],
    ['a greatest that is not', { n: 5 }, { $max: { n: 3 } }],
    ['a greatest that is missing', {}, { $max: { n: 3 } }],
    ['a later date', { d: new Date(5) }, { $max: { d: new Date(7) } }],
    ['a date that is not later', { d: new Date(5) }, { $max: { d: new Date(3) } }],
    ['a big sum', { b: 2n ** 60n }, { $inc: { b: 1n } }],
    ['a big product', { b: 3n }, { $mul: { b: 5n } }],
    ['a big sum beyond 64 bits', { b: 2n ** 62n }, { $inc: { b: 2n ** 62n } }],
    ['several at once', { n: 1, b: 2n }, { $inc: { n: 1, b: 2n }, $set: { plain: 'x' }, $max: { d: new Date(1) } }],
    ['an element by its index', { list: [1, 2, 3] }, { $inc: { 'list.1': 10 } }],
    ['an element beyond the end', { list: [1] }, { $inc: { 'list.1': 10 } }],
    ['a path of an element', { items: [{ n: 1 }, { n: 2 }] }, { $inc: { 'items.1.n': 10 } }],
    ['a missing path of an element', { items: [{}, { n: 2 }] }, { $inc: { 'items.0.n': 10 } }],
    ['two elements', { items: [{ n: 1 }, { n: 2 }] }, { $inc: { 'items.1.n': 10, 'items.0.n': 20 } }],
    ['a path through an array without index', { items: [{ n: 1 }] }, { $inc: { 'items.n': 10 } }],
    ['a key of a Map', { map: { 7: 1, a: 2 } }, { $inc: { 'map.7': 1, 'map.a': 1, 'map.new': 1 } }],
    ['numbers of a container', { box: { i: 1, f: 1.5 } }, { $inc: { 'box.i': 1, 'box.f': 1, 'box.new': 1 } }],
    [
      'numbers of other types',
      { box: { l: Long.fromNumber(1), f: new Double(1) } },
      { $inc: { 'box.l': 1, 'box.f': 1 } },
    ],
    ['an int32 that is full', { box: { i: 2 ** 31 - 1 } }, { $inc: { 'box.i': new Int32(1) } }],
    [
      'neighbours of other types stay',
      { box: { i: 1, l: Long.fromNumber(1), f: new Double(1) } },
      { $set: { 'box.x': 1 } },
    ],
    ['a new name in a container', { box: { a: 1 } }, { $set: { 'box.b.c': 'deep' } }],
    ['a name in a missing container', {}, { $set: { 'box.b.c': 'deep' } }],
    ['a name in a text', { box: 'text' }, { $set: { 'box.b': 1 } }],
    ['a name of an array', { box: { a: [1] } }, { $set: { 'box.a.name': 1 } }],
    ['a name taken away', { box: { a: 1, b: 2 } }, { $unset: { 'box.a': 1, 'box.none.deep': 1 } }],
    ['an element taken away', { box: { a: [1, 2, 3] } }, { $unset: { 'box.a.1': 1 } }],
    ['everything taken away', { box: { a: 1 } }, { $unset: { box: 1 } }],
    ['a push', { box: { a: [1] } }, { $push: { 'box.a': 2 } }],
    ['a push of an array as one element', { box: { a: [1] } }, { $push: { 'box.a': [2, 3] } }],
    ['a push to a missing array', { box: {} }, { $push: { 'box.a': 2 } }],
    ['a push to what is no array', { box: { a: 1 } }, { $push: { 'box.a': 2 } }],
    ['a push to null', { box: { a: null } }, { $push: { 'box.a': 2 } }],
    [
      'a push of each at a place',
      { box: { a: [1, 4] } },
      { $push: { 'box.a': { $each: [2, 3], $position: 1, $slice: -3 } } },
    ],
    ['a push before the last', { box: { a: [1, 4] } }, { $push: { 'box.a': { $each: [2], $position: -1 } } }],
    ['a push that keeps none', { box: { a: [1, 4] } }, { $push: { 'box.a': { $each: [2], $slice: 0 } } }],
    ['an addition to a set', { box: { a: [1, 2] } }, { $addToSet: { 'box.a': { $each: [2, 3, 3] } } }],
    ['an addition of an array to a set', { box: { a: [1] } }, { $addToSet: { 'box.a': [1] } }],
    ['an addition of an object to a set', { box: { a: [{ x: 1 }] } }, { $addToSet: { 'box.a': { x: 1 } } }],
    ['a pull', { box: { a: [1, 2, 1] } }, { $pull: { 'box.a': 1 } }],
    ['a pull of several', { box: { a: [1, 2, 3] } }, { $pull: { 'box.a': { $in: [1, 3] } } }],
    ['a pull of all', { box: { a: [1, 2, 3] } }, { $pullAll: { 'box.a': [1, 3] } }],
    ['a pull from a missing array', { box: {} }, { $pull: { 'box.a': 1 } }],
    ['a pull from a missing container', {}, { $pull: { 'box.a': 1 } }],
    ['a pull from null', { box: { a: null } }, { $pull: { 'box.a': 1 } }],
    ['a pop', { box: { a: [1, 2] } }, { $pop: { 'box.a': 1 } }],
    ['a pop of the first', { box: { a: [1, 2] } }, { $pop: { 'box.a': -1 } }],
    ['a pop of nothing', { box: {} }, { $pop: { 'box.a': 1 } }],
    ['two operators on one path', { n: 1 }, { $inc: { n: 1 }, $mul: { n: 2 } }],
    ['an operator beside $set of its path', { n: 1 }, { $inc: { n: 1 }, $set: { n: 2 } }],
    ['an operator below another', { box: { a: 1 } }, { $set: { box: { a: 5 } }, $inc: { 'box.a': 1 } }],
    ['a set of elements', { list: [1, 2] }, { $addToSet: { list: { $each: [2, 3] } } }],
    ['a set of elements that are there', { list: [1, 2] }, { $addToSet: { list: 2 } }],
    ['a set of elements that is missing', {}, { $addToSet: { list: 2 } }],
    ['a set of elements that is null', { list: null }, { $addToSet: { list: 2 } }],
    ['elements pulled', { list: [1, 2, 1] }, { $pull: { list: 1 } }],
    ['elements pulled from nothing', {}, { $pull: { list: 1 } }],
    ['elements pulled that are not there', { list: [2] }, { $pullAll: { list: [1] } }],
    ['elements pulled beside a set', { list: [1, 2], n: 1 }, { $pull: { list: 1 }, $set: { n: 2 } }],
    ['subdocuments as a set', { items: [{ n: 1 }] }, { $addToSet: { items: { $each: [{ n: 1 }, { n: 2 }] } } }],
    ['subdocuments pulled', { items: [{ n: 1 }, { n: 2 }] }, { $pullAll: { items: [{ n: 1 }] } }],
    ['elements of an array of arrays', { grid: [[1, 2], [3]] }, { $inc: { 'grid.0.1': 5 } }],
  ])('%s is what MongoDB makes of it', async (_, box, update) => {
    expect(await after(twins.sealed, box, update)).toEqual(await after(twins.plain, box, update))
  })

  describe('of one document', () => {
    let Box: LooseModel
    beforeEach(async () => {
      Box = twins.sealed
      await Box.deleteMany({})
      await Box.create({
        _id: 1,
        n: 0,
        secret: clinic.secret('box-secret'),
        list: [1],
        box: { count: 0, text: clinic.secret('text-in-box') },
        plain: 'p',
      })
    })
    const box = () => Box.findById(1).lean()

    protects('updateOne $inc', 'twenty at once lose nothing', async () => {
      await Promise.all(Array.from({ length: 20 }, () => Box.updateOne({ _id: 1 }, { $inc: { n: 1 } })))
      expect(await box()).toMatchObject({ n: 20 })
    })

    protects('findOneAndUpdate $inc', 'twenty at once lose nothing, and each tells its own number', async () => {
      const seen = await Promise.all(
        Array.from({ length: 20 }, () =>
          Box.findOneAndUpdate({ _id: 1 }, { $inc: { n: 1 } }, { returnDocument: 'after', lean: true }),
        ),
      )
      expect(seen.map(({ n }: { n: number }) => n).toSorted((one, two) => one - two)).toEqual(
        Array.from({ length: 20 }, (__, n) => n + 1),
      )
    })

    it('edits of different parts of one container are all kept', async () => {
      await Promise.all(
        Array.from({ length: 12 }, (__, n) =>
          nativeOf(Box).updateOne(
            { _id: 1 },
            n % 2 === 0 ? { $set: { [`box.part${n}`]: `text-${n}` } } : { $inc: { 'box.count': 1 } },
          ),
        ),
      )
      const { box: found } = await box()
      expect(found).toMatchObject({ count: 6, text: 'text-in-box', part0: 'text-0', part10: 'text-10' })
    })

    it('the other values of the write are those of the last attempt, and the bytes of the rest stay', async () => {
      const bytes = async () => (await clinic.stored(Box))[0]?.['secret'] as unknown
      const before = await bytes()
      await Box.updateOne(
        { plain: 'p' },
        { $inc: { n: 1 }, $set: { plain: 'q' }, $push: { list: 9 }, $unset: { d: 1 } },
      )
      expect(await box()).toMatchObject({ n: 1, plain: 'q', list: [1, 9] })
      expect(await bytes()).toEqual(before)
    })

    it('a filter that no longer matches when the value was read changes nothing', async () => {
      const [one, two] = await Promise.all([
        Box.updateOne({ _id: 1, plain: 'p' }, { $inc: { n: 1 }, $set: { plain: 'q' } }),
        Box.updateOne({ _id: 1, plain: 'p' }, { $inc: { n: 1 }, $set: { plain: 'q' } }),
      ])
      expect(one.matchedCount + two.matchedCount).toBe(1)
      expect(await box()).toMatchObject({ n: 1 })
    })

    it('a name that every object inherits is data, and changes no prototype', async () => {
      for (const name of ['__proto__', 'constructor', 'toString'])
        await nativeOf(Box).updateOne({ _id: 1 }, { $set: { [`box.${name}.polluted`]: 'x' } })
      expect(Reflect.get({}, 'polluted')).toBeUndefined()
      const { box: found } = await box()
      for (const name of ['__proto__', 'constructor', 'toString'])
        expect(Object.getOwnPropertyDescriptor(found, name)?.value).toEqual({ polluted: 'x' })
    })

    refuses(
      'updateOne $push $sort',
      'inside an encrypted container',
      { code: 'ERR_WRITE_UNSUPPORTED', reason: 'needs-emulation' },
      () => nativeOf(Box).updateOne({ _id: 1 }, { $push: { 'box.a': { $each: [2], $sort: 1 } } }),
    )
    refuses(
      'updateOne $set',
      'a positional operator inside an encrypted container',
      { code: 'ERR_WRITE_UNSUPPORTED', reason: 'needs-emulation' },
      () => nativeOf(Box).updateOne({ _id: 1 }, { $set: { 'box.a.$[]': 1 } }),
    )
    refuses(
      'updateOne $setOnInsert',
      'a part of an encrypted container',
      { code: 'ERR_WRITE_UNSUPPORTED', reason: 'unsupported-op' },
      () => nativeOf(Box).updateOne({ _id: 1 }, { $setOnInsert: { 'box.a': 1 } }, { upsert: true }),
    )
    refuses(
      'updateOne',
      'two operators about one encrypted path',
      { code: 'ERR_WRITE_UNSUPPORTED', reason: 'update-conflict' },
      () => nativeOf(Box).updateOne({ _id: 1 }, { $inc: { n: 1 }, $set: { n: 2 } }),
    )

    it('reads the primary whatever the connection prefers, and the bytes as they are', async () => {
      const uri = clinic.connection.getClient().options.hosts[0]?.toString() ?? ''
      const other = new mongoose.Mongoose()
      other.plugin((await import('../src/index.ts')).fieldsealPlugin as never, { fieldseal: clinic.fieldseal })
      await other.connect(`mongodb://${uri}/${clinic.connection.name}?directConnection=true`, {
        monitorCommands: true,
        readPreference: 'secondaryPreferred',
        promoteBuffers: true,
        useBigInt64: true,
      })
      try {
        const Same = other.model(
          'Same',
          boxSchema((options) => ({ encrypted: options ?? true })),
          Box.collection.collectionName,
        )
        await Same.updateOne({ _id: 1 }, { $inc: { n: 2, 'box.count': 1 }, $addToSet: { list: 5 } } as never)
        expect(await box()).toMatchObject({ n: 2, list: [1, 5], box: { count: 1 } })
      } finally {
        await other.disconnect()
      }
    })

    it('a value that cannot be opened is an error, not something to compute with', async () => {
      const [stored] = await clinic.stored(Box)
      const bytes = Buffer.from((Reflect.get(Object(stored), 'n') as mongoose.mongo.Binary).value())
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
      const direct = clinic.connection.getClient().db(clinic.connection.name).collection(Box.collection.collectionName)
      await direct.updateOne({ _id: 1 as never }, { $set: { n: new mongoose.mongo.Binary(bytes, 0x80) } })
      for (const update of [{ $inc: { n: 1 } }, { $max: { n: 1 } }])
        await expect(
          clinic.fieldseal.runAs({ onUnreadable: 'mark' }, () => nativeOf(Box).updateOne({ _id: 1 }, update)),
        ).rejects.toMatchObject({ kind: 'corrupt' })
      await Box.updateOne({ _id: 1 }, { n: 3 })
      expect(await box()).toMatchObject({ n: 3 })
    })
  })
})

describe.runIf(hasMongo())('a truncated index', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const schema = () =>
    new Schema({
      tags: [{ type: String, encrypted: { blindIndex: { bits: 16 } } }],
      items: [{ code: { type: String, encrypted: { blindIndex: { bits: 16 } } }, kind: String }],
      plan: String,
    })
  refuses(
    'updateOne $pull',
    'elements by a truncated index could be other ones',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'truncated-index' },
    () => clinic.model(schema()).updateOne({}, { $pull: { tags: clinic.secret('tag-truncated') } }),
  )
  refuses(
    'updateOne arrayFilters',
    'elements by a truncated index could be other ones',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'truncated-index' },
    () =>
      clinic
        .model(schema())
        .updateOne(
          {},
          { $set: { 'items.$[e].kind': 'x' } },
          { arrayFilters: [{ 'e.code': clinic.secret('code-truncated') }] },
        ),
  )
  refuses(
    'updateOne',
    'documents by a truncated index could be other ones',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'truncated-index' },
    () => clinic.model(schema()).updateOne({ tags: 'tag-truncated' }, { plan: 'x' }),
  )
  refuses(
    'deleteMany',
    'documents by a truncated index could be other ones',
    { code: 'ERR_QUERY_UNSUPPORTED', reason: 'truncated-index' },
    () => clinic.model(schema()).deleteMany({ tags: 'tag-truncated' }),
  )
  protects('updateOne $addToSet', 'elements with a truncated index are compared themselves', async () => {
    const Tagged = clinic.model(schema())
    const { _id } = await Tagged.create({ tags: ['tag-truncated'] })
    await Tagged.updateOne({ _id }, { $addToSet: { tags: { $each: ['tag-truncated', clinic.secret('tag-other')] } } })
    expect(await Tagged.findById(_id).lean()).toMatchObject({ tags: ['tag-truncated', 'tag-other'] })
  })
})

function boxSchema(seal: Sealing): Schema {
  return new Schema(
    {
      _id: Number,
      n: { type: Number, ...seal() },
      b: { type: BigInt, ...seal() },
      d: { type: Date, ...seal() },
      secret: { type: String, ...seal() },
      list: { type: [{ type: Number, ...seal() }], default: undefined },
      items: { type: [new Schema({ n: { type: Number, ...seal() } }, { _id: false })], default: undefined },
      grid: { type: [[{ type: Number, ...seal() }]], default: undefined },
      map: { type: Map, of: { type: Number, ...seal() } },
      box: { type: Schema.Types.Mixed, ...seal() },
      plain: String,
    },
    { minimize: false, versionKey: false },
  )
}
