import { inspect } from 'node:util'
import { isFieldsealError } from '@fieldseal/core'
import { hasMongo } from '@fieldseal/servers/vitest'
import fc from 'fast-check'
import { Schema, Types } from 'mongoose'
import { describe, expect, it } from 'vitest'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { comparable } from './support/comparable.ts'
import { protects, refuses } from './support/operation.ts'
import { twinsOf, usePlainConnection, type Sealing } from './support/twin.ts'

describe.runIf(hasMongo())('containers as one encrypted value', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const whole = { encrypted: true }
  const charts = () =>
    clinic.model(
      new Schema({
        tags: { type: [String], ...whole },
        visits: { type: [new Schema({ note: String })], ...whole },
        phones: { type: Map, of: String, ...whole },
        consent: { type: new Schema({ text: String, place: String }, { _id: false }), ...whole },
        chart: { type: Schema.Types.Mixed, ...whole },
        wards: [{ name: String, beds: { type: [String], ...whole } }],
        age: { type: Number, ...whole },
        city: String,
      }),
    )

  protects('save', 'edits of one container by two loaded documents are both kept', async () => {
    const Chart = charts()
    const { _id } = await Chart.create({
      tags: [clinic.secret('tag of both')],
      visits: [{ note: clinic.secret('visit of both') }],
      phones: { work: clinic.secret('phone of both') },
      consent: { text: clinic.secret('consent of both'), place: clinic.secret('place of both') },
      chart: { one: clinic.secret('chart of both') },
    })
    const [one, other] = [await Chart.findById(_id), await Chart.findById(_id)]
    one.tags.push(clinic.secret('tag of the one'))
    other.tags.push(clinic.secret('tag of the other'))
    one.visits.push({ note: clinic.secret('visit of the one') })
    other.visits.push({ note: clinic.secret('visit of the other') })
    one.phones.set('one', clinic.secret('phone of the one'))
    other.phones.set('other', clinic.secret('phone of the other'))
    one.consent.text = clinic.secret('consent of the one')
    other.consent.place = clinic.secret('place of the other')
    one.set('chart.a', clinic.secret('chart of the one'))
    other.set('chart.b', clinic.secret('chart of the other'))
    await one.save()
    await other.save()
    const found = await Chart.findById(_id).lean()
    expect(found).toMatchObject({
      tags: ['tag of both', 'tag of the one', 'tag of the other'],
      visits: [{ note: 'visit of both' }, { note: 'visit of the one' }, { note: 'visit of the other' }],
      phones: { work: 'phone of both', one: 'phone of the one', other: 'phone of the other' },
      consent: { text: 'consent of the one', place: 'place of the other' },
      chart: { one: 'chart of both', a: 'chart of the one', b: 'chart of the other' },
    })
  })

  protects('save', 'edits of a container inside an array of documents meet the version check of Mongoose', async () => {
    const Chart = charts()
    const { _id } = await Chart.create({
      wards: [null, { name: 'a', beds: [] }, { name: 'b', beds: [clinic.secret('bed of both')] }],
    })
    const [one, other] = [await Chart.findById(_id), await Chart.findById(_id)]
    one.wards[2].beds.push(clinic.secret('bed of the one'))
    other.wards[2].beds.push(clinic.secret('bed of the other'))
    await one.save()
    await expect(other.save()).rejects.toMatchObject({ name: 'VersionError' })
    expect((await Chart.findById(_id).lean()).wards[2].beds).toEqual(['bed of both', 'bed of the one'])
    await Chart.updateOne({ _id }, { $push: { 'wards.2.beds': clinic.secret('bed of a query') } })
    expect((await Chart.findById(_id).lean()).wards).toMatchObject([
      null,
      { beds: [] },
      { beds: ['bed of both', 'bed of the one', 'bed of a query'] },
    ])
  })

  protects('save', 'of many writers at once, none is lost', async () => {
    const Chart = charts()
    const { _id } = await Chart.create({ tags: [], chart: { count: 0 }, age: 0 })
    const writers = 8
    const loaded = await Promise.all(Array.from({ length: writers }, () => Chart.findById(_id)))
    await Promise.all(
      loaded.map(async (found, at) => {
        found.tags.push(clinic.secret(`tag of writer ${at}`))
        found.set(`chart.by${at}`, clinic.secret(`chart of writer ${at}`))
        found.$inc('age', 1)
        await found.save()
      }),
    )
    const found = await Chart.findById(_id).lean()
    expect(found.tags.toSorted()).toEqual(Array.from({ length: writers }, (_, at) => `tag of writer ${at}`))
    expect(Object.keys(found.chart)).toHaveLength(writers + 1)
    expect(found.age).toBe(writers)
  })

  protects('save', 'a container that another writer replaces meanwhile takes the edit', async () => {
    const Chart = charts()
    const { _id } = await Chart.create({ chart: { old: clinic.secret('chart that is replaced') } })
    const found = await Chart.findById(_id)
    await Chart.updateOne({ _id }, { $set: { chart: { fresh: clinic.secret('chart that is fresh') } } })
    found.set('chart.added', clinic.secret('chart that is added'))
    await found.save()
    expect((await Chart.findById(_id).lean()).chart).toEqual({
      fresh: 'chart that is fresh',
      added: 'chart that is added',
    })
  })

  protects('save', 'an edit of a container that is missing or null makes it', async () => {
    const Chart = charts()
    const { _id } = await Chart.create({ tags: undefined, chart: null })
    await Chart.collection.updateOne({ _id }, { $unset: { tags: 1, chart: 1 } })
    const found = await Chart.findById(_id)
    found.tags.push(clinic.secret('tag of a new array'))
    found.set('chart.made', clinic.secret('chart that is made'))
    await found.save()
    expect(await Chart.findById(_id).lean()).toMatchObject({
      tags: ['tag of a new array'],
      chart: { made: 'chart that is made' },
    })
  })

  protects('save', 'elements of a whole array are pulled, sorted and moved', async () => {
    const Chart = charts()
    const saved = await Chart.create({
      visits: ['b', 'a', 'c'].map((name) => ({ note: clinic.secret(`visit named ${name}`) })),
      tags: ['y', 'x', 'z'].map((name) => clinic.secret(`tag named ${name}`)),
    })
    saved.visits.pull(saved.visits[1]._id)
    saved.tags.sort()
    await saved.save()
    saved.visits[0].note = clinic.secret('visit renamed')
    saved.tags.splice(1, 1)
    await saved.save()
    const found = await Chart.findById(saved._id).lean()
    expect(found.visits.map(({ note }: { note: string }) => note)).toEqual(['visit renamed', 'visit named c'])
    expect(found.tags).toEqual(['tag named x', 'tag named z'])
  })

  protects('updateOne $pull', 'inside a container equality is that of MongoDB', async () => {
    const Chart = clinic.model(new Schema({ list: { type: Schema.Types.Mixed, ...whole } }))
    const listed = async (list: unknown[], operand: unknown) => {
      await Chart.deleteMany({})
      await Chart.collection.insertOne({ list })
      await Chart.collection.updateOne({}, { $pull: { list: operand as never } })
      return (await Chart.findOne().lean()).list as unknown
    }
    const secret = clinic.secret('element of a list')
    expect(await listed([secret, 'b', [secret]], secret)).toEqual(['b', [secret]])
    expect(await listed([{ a: 1 }, { a: 2, b: 1 }, { b: 1 }], { a: 2 })).toEqual([{ a: 1 }, { b: 1 }])
    expect(await listed([{ a: 1 }, { b: 1 }, { a: null }], { a: null })).toEqual([{ a: 1 }])
    expect(await listed([{ a: { b: secret } }, { a: { b: 'x' } }], { 'a.b': secret })).toEqual([{ a: { b: 'x' } }])
    expect(await listed([{ a: [1, 2] }, { a: [3] }], { a: 2 })).toEqual([{ a: [3] }])
    expect(await listed([1, 2, 3, 2.5], { $in: [2, 2.5] })).toEqual([1, 3])
    expect(await listed([new Types.Decimal128('1'), 1], 1)).toEqual([new Types.Decimal128('1')])
  })

  for (const [what, update] of [
    ['a regular expression', { $pull: { list: /a/ } }],
    ['a range', { $pull: { list: { $gt: 1 } } }],
    ['a name in an array', { $set: { 'list.length': 0 } }],
    ['a place far beyond the end of an array', { $set: { 'list.999999999': 1 } }],
    ['a sum with text', { $inc: { 'list.0': 1 } }],
    ['a positional operator', { $set: { 'list.$[]': 1 } }],
    ['an order', { $push: { list: { $each: ['c'], $sort: 1 } } }],
    ['bits', { $bit: { 'list.0': { and: 1 } } }],
    ['another name', { $rename: { 'list.0': 'city' } }],
  ] as const)
    it(`refuses ${what} inside a container and leaves it as it is`, async () => {
      const Chart = clinic.model(new Schema({ list: { type: Schema.Types.Mixed, ...whole }, city: String }))
      await Chart.collection.insertOne({ list: [clinic.secret('a list to keep'), 'b'] })
      await expect(Chart.collection.updateOne({}, update as never)).rejects.toMatchObject({ kind: 'refused' })
      expect((await Chart.findOne().lean()).list).toEqual(['a list to keep', 'b'])
    })

  it('shows no value in an error of casting, wherever inside a container it is', async () => {
    const Chart = clinic.model(
      new Schema({
        sub: { type: new Schema({ at: Date }), ...whole },
        subs: { type: [new Schema({ of: Number })], ...whole },
        map: { type: Map, of: Number, ...whole },
      }),
    )
    for (const document of [
      { sub: { at: 'a date that is none' } },
      { subs: [{ of: 'a number that is none' }] },
      { map: { key: 'a map value that is none' } },
    ])
      for (const run of [
        () => Chart.create(document),
        () => Chart.updateOne({}, { $set: document as never }),
        () => Chart.findOneAndUpdate({}, document as never),
        () => Chart.bulkWrite([{ updateOne: { filter: {}, update: { $set: document as never } } }]),
      ]) {
        const error: unknown = await Promise.resolve()
          .then(run)
          .catch((thrown: unknown) => thrown)
        expect(error).toBeInstanceOf(Error)
        expect(inspect(error, { depth: 9 }) + JSON.stringify(error)).not.toContain('that is none')
      }
  })

  it('makes nothing of an edit that takes away what is not there', async () => {
    const Chart = charts()
    await Chart.collection.insertOne({ city: 'London' })
    await Chart.collection.updateOne({}, {
      $unset: { 'chart.a.b': 1, 'consent.text': 1 },
      $pull: { tags: 'x' },
      $pop: { visits: 1 },
    } as never)
    const { _id, ...rest } = (await Chart.collection.findOne({})) as Record<string, unknown>
    expect(rest).toEqual({ city: 'London' })
  })
})

type Edit = readonly [what: string, at: number, value: string]
const EDITS: Record<string, (found: Editable, at: number, value: string) => void> = {
  push: ({ tags }, _at, value) => void tags.push(value),
  unshift: ({ tags }, _at, value) => void tags.unshift(value),
  pull: ({ tags }, _at, value) => tags.pull(value),
  set: ({ tags }, at, value) => void (at < tags.length && (tags[at] = value)),
  splice: ({ tags }, at, value) => void tags.splice(at, 1, value),
  pop: ({ tags }) => tags.$pop(),
  addToSet: ({ tags }, _at, value) => tags.addToSet(value),
  replace: (found, at, value) => found.set('tags', [value, String(at)]),
  visit: ({ visits }, at, value) => void visits.push({ _id: at, note: value }),
  note: (found, at, value) => at < found.visits.length && found.set(`visits.${at}.note`, value),
  leave: ({ visits }, at) => visits.pull(at),
  phone: ({ phones }, at, value) => void phones.set(`k${at}`, value),
  hangUp: ({ phones }, at) => void phones.delete(`k${at}`),
  consent: (found, at, value) => found.set(at % 2 === 0 ? 'consent.text' : 'consent.place', value),
  chart: (found, at, value) => found.set(`chart.p${at}.q`, value),
  name: (found, _at, value) => found.set('name', value),
  grow: (found, at) => found.$inc('age', at),
}
interface Editable {
  readonly tags: string[] & { pull(tag: string): void; $pop(): void; addToSet(tag: string): void }
  readonly visits: unknown[] & { pull(id: number): void }
  readonly phones: Map<string, string>
  set(path: string, value: unknown): void
  $inc(path: string, by: number): void
}

describe.runIf(hasMongo())('any edits of two loaded documents', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const plain = usePlainConnection()
  const values = ['alpha of edits', 'beta of edits', 'gamma of edits']
  const define = (seal: Sealing) =>
    new Schema({
      name: { type: String, ...seal() },
      tags: { type: [String], ...seal() },
      visits: { type: [new Schema({ _id: Number, note: String })], ...seal() },
      phones: { type: Map, of: String, ...seal() },
      consent: { type: new Schema({ text: String, place: String }, { _id: false }), ...seal() },
      chart: { type: Schema.Types.Mixed, ...seal() },
      age: { type: Number, ...seal() },
    } as never)

  it('give the documents and the errors that they give in plain, saved one by one or in bulk', async () => {
    const { both } = twinsOf(clinic, plain, define)
    for (const value of values) clinic.secret(value)
    const edit = fc.tuple(
      fc.constantFrom(...Object.keys(EDITS)),
      fc.nat({ max: 2 }),
      fc.constantFrom(...values),
    ) as fc.Arbitrary<Edit>
    const edits = fc.array(edit, { minLength: 1, maxLength: 3 })
    await fc.assert(
      fc.asyncProperty(edits, edits, fc.boolean(), async (ofOne, ofOther, inBulk) => {
        const _id = new Types.ObjectId()
        const [ours, theirs] = await both(async (model) => {
          await model.create({
            _id,
            tags: ['alpha of edits', 'beta of edits'],
            visits: [{ _id: 0, note: 'alpha of edits' }],
            phones: { k0: 'beta of edits' },
            consent: { text: 'gamma of edits' },
            chart: { p0: { q: 'alpha of edits' }, other: [1] },
            age: 1,
          })
          const loaded = [await model.findById(_id), await model.findById(_id)]
          const outcomes: unknown[] = []
          for (const [at, found] of loaded.entries()) {
            for (const [what, place, value] of at === 0 ? ofOne : ofOther) EDITS[what]?.(found, place, value)
            outcomes.push(await attempt(() => (inBulk ? model.bulkSave([found]) : found.save())))
            outcomes.push(found.modifiedPaths().length, found.__v)
          }
          return { outcomes, stored: comparable(await model.findById(_id).lean()) }
        })
        expect(ours).toEqual(theirs)
      }),
      { numRuns: 60 },
    )
  }, 120_000)

  const attempt = (run: () => Promise<unknown>) =>
    run().then(
      () => 'done',
      (error: Error) => error.name,
    )
})

describe.runIf(hasMongo())('bulkSave', () => {
  const clinic = useClinic({ tenancy: 'single' })
  const people = (): LooseModel =>
    clinic.model(
      new Schema({
        email: { type: String, encrypted: { blindIndex: { normalize: 'email', unique: true } } },
        name: { type: String, encrypted: true, maxlength: 40 },
        tags: { type: [String], encrypted: true },
        chart: { type: Schema.Types.Mixed, encrypted: true },
        age: { type: Number, encrypted: true },
        city: String,
      }),
    )
  const inOrder = async (Person: LooseModel) => Person.find().sort({ city: 1 }).lean()

  protects('bulkSave', 'new documents, changed ones, edited containers and unchanged ones, in one call', async () => {
    const Person = people()
    const [one, two, three] = await Person.create(
      ['a', 'b', 'c'].map((city) => ({
        city,
        name: clinic.secret(`name of ${city}`),
        tags: [clinic.secret(`tag of ${city}`)],
        age: 1,
      })),
    )
    one.name = clinic.secret('new name of a')
    two.tags.push(clinic.secret('another tag of b'))
    two.name = clinic.secret('new name of b')
    two.$inc('age', 4)
    const fresh = new Person({ city: 'd', name: clinic.secret('name of d'), tags: [clinic.secret('tag of d')] })
    const result = await Person.bulkSave([one, two, three, fresh])
    expect(result).toMatchObject({ matchedCount: 2, modifiedCount: 2, insertedCount: 1 })
    expect([one, two, three, fresh].map((each) => each.isModified() || each.isNew)).toEqual([
      false,
      false,
      false,
      false,
    ])
    expect(await inOrder(Person)).toMatchObject([
      { name: 'new name of a', tags: ['tag of a'] },
      { name: 'new name of b', tags: ['tag of b', 'another tag of b'], age: 5 },
      { name: 'name of c', tags: ['tag of c'] },
      { name: 'name of d', tags: ['tag of d'] },
    ])
    expect(two.__v).toBe((await Person.findById(two._id)).__v)
    two.tags.push(clinic.secret('third tag of b'))
    await two.save()
    expect((await Person.findById(two._id)).tags).toHaveLength(3)
  })

  protects('bulkSave', 'edits of one container by two loaded documents are both kept', async () => {
    const Person = people()
    const { _id } = await Person.create({ tags: [clinic.secret('bulk tag of both')] })
    const [one, other] = [await Person.findById(_id), await Person.findById(_id)]
    one.tags.push(clinic.secret('bulk tag of the one'))
    other.tags.push(clinic.secret('bulk tag of the other'))
    await Promise.all([Person.bulkSave([one]), Person.bulkSave([other])])
    expect((await Person.findById(_id)).tags).toHaveLength(3)
  })

  protects(
    'bulkSave',
    'in order, it stops at the first failure; what was written counts as saved, the rest does not',
    async () => {
      const Person = people()
      await Person.init()
      const [one, two, three, four] = await Person.create(
        ['a', 'b', 'c', 'd'].map((city) => ({
          city,
          email: clinic.secret(`${city}@bulk.example`),
          tags: [clinic.secret(`bulk tag ${city}`)],
        })),
      )
      one.tags.push(clinic.secret('written tag'))
      two.city = 'b2'
      three.tags.push(clinic.secret('tag that is not written'))
      three.email = 'A@bulk.example'
      clinic.secret('A@bulk.example')
      four.tags.push(clinic.secret('tag that is not reached'))
      const error: unknown = await Person.bulkSave([one, two, three, four]).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({
        name: 'MongoBulkWriteError',
        code: 11000,
        writeErrors: [{ index: 2 }],
        matchedCount: 2,
      })
      expect(`${String(error)} ${JSON.stringify(error)}`).not.toMatch(/bulk\.example/i)
      expect([one, two, three].map((each) => each.isModified())).toEqual([false, false, true])
      three.email = clinic.secret('free@bulk.example')
      await Person.bulkSave([three])
      expect((await inOrder(Person)).map(({ tags }: { tags: string[] }) => tags.length)).toEqual([2, 1, 2, 1])
    },
  )

  protects('bulkSave', 'unordered, it goes on after a failure and tells each', async () => {
    const Person = people()
    await Person.init()
    const [one, two, three] = await Person.create(
      ['a', 'b', 'c'].map((city) => ({ city, email: clinic.secret(`${city}@any.example`), tags: [] })),
    )
    one.tags.push(clinic.secret('unordered tag that fails'))
    one.email = 'b@any.example'
    two.tags.push(clinic.secret('unordered tag of two'))
    three.tags.push(clinic.secret('unordered tag of three'))
    const error: unknown = await Person.bulkSave([one, two, three], { ordered: false } as never).catch(
      (thrown: unknown) => thrown,
    )
    expect(error).toMatchObject({ name: 'MongoBulkWriteError', writeErrors: [{ index: 0 }], matchedCount: 2 })
    expect([one, two, three].map((each) => each.isModified())).toEqual([true, false, false])
    expect((await inOrder(Person)).map(({ tags }: { tags: string[] }) => tags)).toEqual([
      [],
      ['unordered tag of two'],
      ['unordered tag of three'],
    ])
  })

  protects(
    'bulkSave',
    'a key that fails half-way leaves the documents before it saved and the others changed',
    async () => {
      const Person = people()
      const [one, two, three] = await Person.create(
        ['a', 'b', 'c'].map((city) => ({ city, tags: [clinic.secret(`half-way tag ${city}`)] })),
      )
      for (const each of [one, two, three]) each.tags.push(clinic.secret(`pushed half-way to ${each.city}`))
      const name = Person.collection.collectionName
      // Its stored container becomes one that nobody can open.
      const [{ tags: foreign }] = (await clinic.stored(Person)) as unknown as [{ tags: unknown }]
      await clinic.connection.db?.collection(name).updateOne({ _id: two._id }, { $set: { tags: foreign } })
      const error = (await Person.bulkSave([one, two, three]).catch((thrown: unknown) => thrown)) as Error
      expect(error).toMatchObject({
        name: 'MongoBulkWriteError',
        writeErrors: [{ index: 1 }, { index: 2 }],
        matchedCount: 1,
      })
      expect(isFieldsealError(error.cause)).toBe(true)
      expect([one, two, three].map((each) => each.isModified())).toEqual([false, true, true])
      expect((await Person.findById(three._id)).tags).toHaveLength(1)
    },
  )

  protects('bulkSave', 'a key that fails before anything is written fails all of it', async () => {
    const Person = people()
    const documents = await Person.create([
      { tags: [clinic.secret('first of none')] },
      { tags: [clinic.secret('second of none')] },
    ])
    for (const each of documents) each.tags.push(clinic.secret('never before the key'))
    clinic.kms.disconnect()
    clinic.fieldseal.purge()
    await expect(Person.bulkSave(documents)).rejects.toMatchObject({ kind: 'unavailable' })
    clinic.kms.restore()
    clinic.fieldseal.purge()
    expect(documents.map((each: { isModified(): boolean }) => each.isModified())).toEqual([true, true])
    await Person.bulkSave(documents)
    for (const { tags } of await Person.find().lean()) expect(tags).toHaveLength(2)
  })

  protects(
    'bulkSave',
    'a version that is outdated is told as incomplete, and nothing of the document is written',
    async () => {
      const Person = people()
      const { _id } = await Person.create({ tags: [clinic.secret('versioned tag')] })
      const [one, other] = [await Person.findById(_id), await Person.findById(_id)]
      one.tags = [clinic.secret('versioned tag, new')]
      await one.save()
      other.tags[0] = clinic.secret('versioned tag, late')
      await expect(Person.bulkSave([other])).rejects.toMatchObject({ name: 'MongooseBulkSaveIncompleteError' })
      expect((await Person.findById(_id)).tags).toEqual(['versioned tag, new'])
    },
  )

  protects('bulkSave', 'a value that does not validate is in no error', async () => {
    const Person = people()
    const document = new Person({ name: clinic.secret('a name that is much too long for its path, by far') })
    const error: unknown = await Person.bulkSave([document]).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ name: 'ValidationError' })
    expect(`${String(error)} ${JSON.stringify(error)}`).not.toContain('much too long')
    expect(document.isNew).toBe(true)
  })

  protects('bulkWrite', 'an edit sees what operations before it have written, and ids keep their index', async () => {
    const Person = people()
    const _id = new Types.ObjectId()
    const other = new Types.ObjectId()
    const result = await Person.bulkWrite([
      { insertOne: { document: { _id, tags: [clinic.secret('bulk write tag')], age: 1 } } },
      {
        updateOne: {
          filter: { _id },
          update: { $push: { tags: clinic.secret('bulk write tag two') }, $inc: { age: 1 } },
        },
      },
      { updateOne: { filter: { _id }, update: { $inc: { age: 5 } } } },
      { insertOne: { document: { _id: other, city: 'x' } } },
      { updateOne: { filter: { city: 'nowhere' }, update: { $set: { city: 'y' } }, upsert: true } },
      { deleteOne: { filter: { _id: other } } },
    ])
    expect(result).toMatchObject({
      insertedCount: 2,
      matchedCount: 2,
      modifiedCount: 2,
      deletedCount: 1,
      upsertedCount: 1,
    })
    expect(result.insertedIds).toEqual({ 0: _id, 3: other })
    expect(Object.keys(result.upsertedIds)).toEqual(['4'])
    expect(await Person.findById(_id).lean()).toMatchObject({ tags: ['bulk write tag', 'bulk write tag two'], age: 7 })
  })

  refuses(
    'bulkWrite updateMany',
    'an edit of the containers of many documents',
    { code: 'ERR_WRITE_UNSUPPORTED', reason: 'update-many' },
    () =>
      people().bulkWrite([{ updateMany: { filter: {}, update: { $push: { tags: clinic.secret('tag for many') } } } }]),
  )
})

describe.runIf(hasMongo())('containers of several tenants and data subjects', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const people = (): LooseModel =>
    clinic.model(
      new Schema(
        {
          clinicId: String,
          patientId: String,
          tags: { type: [String], encrypted: true },
          name: { type: String, encrypted: true },
          city: String,
        },
        { encrypted: { tenantBy: 'clinicId', keyspace: { per: 'patientId', of: 'patient' } } },
      ),
    )
  const as = <R>(tenant: string, run: () => Promise<R>): Promise<R> => clinic.fieldseal.runAs({ tenant }, run)

  protects('bulkSave', 'each document under the keys of its own data subject', () =>
    as('clinic-a', async () => {
      const Person = people()
      const documents = ['p1', 'p2'].map(
        (patientId) =>
          new Person({ clinicId: 'clinic-a', patientId, tags: [clinic.secret(`subject tag ${patientId}`)] }),
      )
      await Person.bulkSave(documents)
      for (const each of documents) each.tags.push(clinic.secret(`subject tag two of ${each.patientId}`))
      documents[0].name = clinic.secret('subject with a name')
      await Person.bulkSave(documents)
      const found = await Person.find({ clinicId: 'clinic-a' }).sort({ patientId: 1 }).lean()
      expect(found).toMatchObject([
        { tags: ['subject tag p1', 'subject tag two of p1'], name: 'subject with a name' },
        { tags: ['subject tag p2', 'subject tag two of p2'] },
      ])
      const keks = (await clinic.stored(Person)).map(({ __fieldseal }) =>
        String((__fieldseal as { k: unknown[] }).k[0]),
      )
      expect(new Set(keks).size).toBe(2)
    }),
  )

  it("leaves another tenant's containers alone, by document and in bulk", async () => {
    const Person = people()
    const saved = await as('clinic-b', () =>
      Person.create({ clinicId: 'clinic-b', patientId: 'p', tags: [clinic.secret('tag of clinic b')] }),
    )
    const before = await clinic.stored(Person)
    for (const write of [(found: typeof saved) => found.save(), (found: typeof saved) => Person.bulkSave([found])]) {
      const found = await as('clinic-b', () => Person.findOne({ clinicId: 'clinic-b' }))
      found.tags.push(clinic.secret('tag by clinic a'))
      await expect(as('clinic-a', () => write(found))).rejects.toThrow()
      expect(await clinic.stored(Person)).toEqual(before)
      expect(found.isModified('tags')).toBe(true)
    }
  })

  protects('save', 'work across tenants edits each container under its own keys', async () => {
    const Person = people()
    for (const clinicId of ['clinic-c', 'clinic-d'])
      await as(clinicId, () => Person.create({ clinicId, patientId: 'p', tags: [clinic.secret(`tag of ${clinicId}`)] }))
    await clinic.fieldseal.runAsSystem({ reason: 'test' }, async () => {
      const found = await Person.find()
      for (const each of found) each.tags.push(clinic.secret('tag of the system'))
      await found[0].save()
      await Person.bulkSave([found[1]])
    })
    for (const clinicId of ['clinic-c', 'clinic-d'])
      expect((await as(clinicId, () => Person.findOne({ clinicId }))).tags).toEqual([
        `tag of ${clinicId}`,
        'tag of the system',
      ])
  })
})
