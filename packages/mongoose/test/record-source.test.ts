import { rotateKek, type KekId, type PageOptions, type PatchedCell, type StoredRow } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import mongoose, { Schema, Types } from 'mongoose'
import { beforeEach, describe, expect, it } from 'vitest'
import { mongooseSource } from '../src/index.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { envelope } from './support/sealed.ts'

const { BSON, BSONSymbol, Decimal128, Long, Timestamp } = mongoose.mongo
const { EJSON } = BSON

describe.runIf(hasMongo())('record source', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Person: LooseModel
  beforeEach(() => {
    Person = clinic.model(
      new Schema({
        name: String,
        email: { type: String, encrypted: { blindIndex: true } },
        ssn: { type: String, encrypted: true },
        tags: [{ type: String, encrypted: { blindIndex: true } }],
        history: [{ _id: false, note: { type: String, encrypted: true } }],
        phones: { type: Map, of: { type: String, encrypted: true } },
      }),
    )
  })
  const source = () => mongooseSource(clinic.connection)
  const mapOf = (model = Person) => {
    const map = source().models.find(({ id }) => id === model.collection.collectionName)
    if (map === undefined) throw new Error('no such model')
    return map
  }
  const walk = async (options: PageOptions, model = Person) => {
    const pages: (readonly StoredRow[])[] = []
    for await (const page of source().pages(mapOf(model), options)) pages.push(page)
    return pages
  }
  const save = (count: number) =>
    Person.insertMany(
      Array.from({ length: count }, (_unused, at) => ({
        name: `n${at}`,
        email: clinic.secret(`person-${at}@example.org`),
        ssn: at % 2 === 0 ? clinic.secret(`ssn-number-${at}`) : null,
        tags: [clinic.secret('tag-alpha'), clinic.secret('tag-beta')],
        history: [{ note: clinic.secret('note-alpha') }, {}],
        phones: { work: clinic.secret('phone-work'), 'at home': clinic.secret('phone-home') },
      })),
    )
  const kekOf = (value: unknown) => Buffer.from(value as Uint8Array).toString('hex', 3, 15) as KekId

  it('knows the encrypted models of a connection, and none of another', async () => {
    clinic.model(new Schema({ name: String }))
    expect(source().models.map(({ id }) => id)).toContain(Person.collection.collectionName)
    expect(source().models.map(({ id }) => id)).toEqual([...new Set(source().models.map(({ id }) => id))])
    const empty = mongoose.createConnection()
    expect(() => mongooseSource(empty)).toThrow(/no encrypted model/)
    await empty.close()
  })

  it('walks all documents once, in pages, from any position and in shards', async () => {
    await save(25)
    const pages = await walk({ size: 10 })
    expect(pages.map((page) => page.length)).toEqual([10, 10, 5])
    const ids = pages.flat().map(({ columns }) => String(columns['_id']))
    expect(new Set(ids).size).toBe(25)
    expect(ids).toEqual(ids.toSorted())
    const after = pages[0]?.at(-1)?.after as Uint8Array
    expect((await walk({ size: 100, after })).flat().map(({ columns }) => String(columns['_id']))).toEqual(
      ids.slice(10),
    )
    const shards = await Promise.all([1, 2, 3].map((at) => walk({ size: 4, shard: [at, 3] })))
    expect(
      shards
        .flat(2)
        .map(({ columns }) => String(columns['_id']))
        .toSorted(),
    ).toEqual(ids)
    expect(shards.every((shard) => shard.flat().length > 0)).toBe(true)
    expect((await walk({ size: 5 })).map((page) => page.length)).toEqual([5, 5, 5, 5, 5])
  })

  it.each([
    ['size', { size: 0 }],
    ['size', { size: 1.5 }],
    ['shard', { size: 1, shard: [0, 2] }],
    ['shard', { size: 1, shard: [3, 2] }],
    ['after', { size: 1, after: Buffer.from('{"a":1}') }],
    ['after', { size: 1, after: mongoose.mongo.BSON.serialize({ $where: 'x' }) }],
  ] as const)('refuses a wrong %s', async (field, options) => {
    await expect(walk(options as PageOptions)).rejects.toMatchObject({
      code: 'ERR_ARGUMENT_INVALID',
      details: { field },
    })
  })

  it('walks ids of every type, in one collection', async () => {
    const Mixed = clinic.model(new Schema({ _id: Schema.Types.Mixed, ssn: { type: String, encrypted: true } }))
    const ids = [
      1,
      2.5,
      Decimal128.fromString('1.5'),
      Long.fromString('9007199254740993'),
      Number.NaN,
      null,
      'text',
      '',
      'zzz',
      new BSONSymbol('uuu'),
      new Types.ObjectId(),
      new Types.UUID(),
      Buffer.from('a longer id, of bytes'),
      new Date(5),
      new Timestamp({ t: 1, i: 1 }),
      true,
      { a: 1 },
      { b: '$x' },
    ]
    const collection = clinic.connection.db?.collection(Mixed.collection.collectionName)
    for (const _id of ids) await collection?.insertOne({ _id } as never)
    const inOrder = (await collection?.find({}, { sort: { _id: 1 } }).toArray())?.map(({ _id }) => EJSON.stringify(_id))
    for (const options of [{ size: 1 }, { size: 2 }, { size: 5 }, { size: 4, shard: [1, 1] }] as const) {
      const rows = (await walk(options, Mixed)).flat()
      expect(rows.map(({ after }) => EJSON.stringify(BSON.deserialize(after)['_id']))).toEqual(inOrder)
    }
  })

  it('goes on from a position by the index of ids, so that a page costs the same wherever it stands', async () => {
    const collection = clinic.connection.db?.collection(Person.collection.collectionName)
    await collection?.insertMany(Array.from({ length: 2_000 }, (_unused, at) => ({ name: `n${at}` })))
    const [page] = await walk({ size: 1_000 })
    const finds: Record<string, unknown>[] = []
    const listen = ({ commandName, command }: { commandName: string; command: Record<string, unknown> }) => {
      if (commandName === 'find') finds.push(command)
    }
    const client = clinic.connection.getClient().on('commandStarted', listen)
    for await (const next of source().pages(mapOf(), { size: 10, after: page?.at(-1)?.after as Uint8Array })) {
      expect(next).toHaveLength(10)
      break
    }
    client.off('commandStarted', listen)
    expect(finds).toHaveLength(1)
    const { find, filter, projection, sort, limit } = finds[0] ?? {}
    const plan = await clinic.connection.db?.command({ explain: { find, filter, projection, sort, limit } })
    expect(plan?.['queryPlanner'].winningPlan.stage).not.toBe('COLLSCAN')
  })

  it('tells every cell with its field and Map keys, and the tokens when they are asked for', async () => {
    await save(1)
    const [row] = (await walk({ size: 5, tokens: true })).flat()
    expect(Object.keys(row?.cells ?? {}).toSorted()).toEqual(
      ['email', 'ssn', 'tags.0', 'tags.1', 'history.0.note', 'phones.work', 'phones.at home'].toSorted(),
    )
    const places = row?.occurrences?.map(({ field, mapKeys = [] }) => [field.path, ...mapKeys].join(' '))
    expect(places?.toSorted()).toEqual(
      ['email', 'ssn', 'tags.$', 'tags.$', 'history.$.note', 'phones.$* work', 'phones.$* at home'].toSorted(),
    )
    const tokens = [...(row?.tokens ?? [])].map(([index, lists]) => [index.id, lists.map((list) => list.length)])
    expect(Object.fromEntries(tokens)).toEqual({ email: [1], 'tags.$': [1, 1] })
    expect((await walk({ size: 5 })).flat()[0]?.tokens).toBeUndefined()
  })

  it('counts all documents, those under a KEK, and those with plaintext', async () => {
    await save(7)
    const [row] = (await walk({ size: 1 })).flat()
    const kekId = kekOf(row?.cells['email'])
    expect(await source().count(mapOf(), 'all')).toEqual({ rows: 7, exact: true })
    expect(await source().count(mapOf(), { kekId })).toEqual({ rows: 7, exact: true })
    const rotated = await rotateKek(clinic.fieldseal)
    expect(await source().count(mapOf(), { kekId: rotated.kekId })).toEqual({ rows: 0, exact: true })
    await Person.updateOne({ name: 'n0' }, { $set: { ssn: 'newly set' } })
    expect(await source().count(mapOf(), { kekId: rotated.kekId })).toEqual({ rows: 1, exact: true })
    expect((await walk({ size: 3, kekId: rotated.kekId })).flat()).toHaveLength(1)
    expect((await walk({ size: 3, kekId })).flat()).toHaveLength(7)
    expect(await source().count(mapOf(), 'plaintext')).toEqual({ rows: 0, exact: true })
  })

  it('does not count a document that keeps the id of a KEK after its last value under it', async () => {
    await save(1)
    const [row] = (await walk({ size: 1 })).flat()
    const kekId = kekOf(row?.cells['email'])
    await rotateKek(clinic.fieldseal)
    const email = clinic.secret('again@example.org')
    await Person.updateOne(
      { name: 'n0' },
      { $set: { email, ssn: 'nothing old', tags: [], history: [] }, $unset: { phones: 1 } },
    )
    expect(await source().count(mapOf(), { kekId })).toEqual({ rows: 0, exact: true })
    expect((await walk({ size: 1, kekId })).flat()).toEqual([])
  })

  it('finds plaintext wherever it stands, Maps and arrays too', async () => {
    const stored = [
      { email: 'plain-1' },
      { tags: ['plain-2'] },
      { history: [{}, { note: 'plain-3' }] },
      { phones: { work: 'plain-4' } },
      { ssn: 5 },
      { name: 'not encrypted' },
    ]
    const { hosts } = clinic.connection.getClient().options
    const past = await new mongoose.mongo.MongoClient(`mongodb://${hosts.map(String).join(',')}/`).connect()
    await past
      .db(clinic.connection.name)
      .collection(Person.collection.collectionName)
      .insertMany(stored as never)
    await past.close()
    expect(await source().count(mapOf(), 'plaintext')).toEqual({ rows: 5, exact: true })
  })
  it('replaces cells only while all of them are what they were', async () => {
    await save(2)
    const map = mapOf()
    const [one, two] = (await walk({ size: 2 })).flat()
    const { field } = map.at('ssn')
    const email = map.at('email').field
    if (one === undefined || two === undefined || field === undefined || email === undefined)
      return expect.unreachable()
    const before = one.cells['ssn'] as never
    const after = Buffer.from(before as Uint8Array)
    after[20] = (after[20] ?? 0) ^ 1
    const patch = { key: one.key, cells: [{ field, before, after: after as never }] }
    expect(await source().compareAndSet(map, [])).toEqual([])
    expect(await source().compareAndSet(map, [patch, { ...patch, key: two.key }])).toEqual(['updated', 'changed'])
    expect(await source().compareAndSet(map, [patch])).toEqual(['changed'])
    const [again] = (await walk({ size: 1 })).flat()
    if (again === undefined) return expect.unreachable()
    const both = {
      key: again.key,
      cells: [
        { field, before: after as never, after: before },
        { field: email, before: two.cells['email'] as never, after: before },
      ],
    }
    await Person.updateOne({ _id: two.columns['_id'] }, { $set: { email: clinic.secret('moved@example.org') } })
    expect(await source().compareAndSet(map, [{ ...both, cells: both.cells.slice(0, 1) }])).toEqual(['updated'])
    expect(await source().compareAndSet(map, [both])).toEqual(['changed'])
  })

  it('replaces the ciphertext of a searchable leaf, and keeps its token', async () => {
    await save(1)
    const map = mapOf()
    const [row] = (await walk({ size: 1 })).flat()
    const { field } = map.at('email')
    if (row === undefined || field === undefined) return expect.unreachable()
    const before = row.cells['email'] as Uint8Array
    const after = Buffer.from(before)
    after[20] = (after[20] ?? 0) ^ 1
    const [stored] = await clinic.stored(Person)
    const cells = [{ field, before: before as never, after: after as never }]
    expect(await source().compareAndSet(map, [{ key: row.key, cells }])).toEqual(['updated'])
    const [changed] = await clinic.stored(Person)
    expect(changed?.['email'].b).toEqual(stored?.['email'].b)
    expect(Buffer.from(changed?.['email'].c.value())).toEqual(after)
  })

  it('clears the tokens of documents, and leaves what they stand for', async () => {
    await save(2)
    const [one] = (await walk({ size: 1 })).flat()
    await source().clearTokens?.(mapOf(), [one?.key])
    expect(await Person.countDocuments({ email: 'person-0@example.org' })).toBe(0)
    expect(await Person.countDocuments({ tags: 'tag-alpha' })).toBe(1)
    expect(await Person.findById(one?.columns['_id']).lean()).toMatchObject({ email: 'person-0@example.org' })
  })

  it('keeps checkpoints, compared by version', async () => {
    const { checkpoints } = source()
    const job = `job of ${Person.modelName}`
    expect(await checkpoints.load(job)).toBeUndefined()
    expect(await checkpoints.save(job, 1, Buffer.from('one'))).toBe('saved')
    expect(await checkpoints.save(job, 1, Buffer.from('again'))).toBe('changed')
    expect(await checkpoints.save(job, 2, Buffer.from('two'))).toBe('saved')
    expect(await checkpoints.save(job, 2, Buffer.from('late'))).toBe('changed')
    expect(await checkpoints.save(job, 4, Buffer.from('early'))).toBe('changed')
    const stored = await checkpoints.load(job)
    expect([stored?.version, Buffer.from(stored?.state ?? []).toString()]).toEqual([2, 'two'])
  })

  it('inspects the indexes of a collection', async () => {
    const NotMade = clinic.model(
      new Schema({ ssn: { type: String, encrypted: true } }, { autoCreate: false, autoIndex: false }),
    )
    expect(await source().inspect(mapOf(NotMade))).toEqual([])
    await Person.init()
    expect(await source().inspect(mapOf())).toEqual([])
    await Person.collection.dropIndex('email.b_1')
    await Person.collection.dropIndex('__fieldseal.k_1')
    expect(await source().inspect(mapOf())).toMatchObject([
      { problem: 'index {"email.b":1} is missing' },
      { problem: 'index {"__fieldseal.k":1} is missing' },
    ])
  })

  it('serves the leak oracle', async () => {
    await save(3)
    expect(await clinic.leaksIn(source())).toEqual([])
  })
})

describe.runIf(hasMongo())('record source of many tenants', () => {
  const clinic = useClinic({ tenancy: 'multi' })

  it('walks the documents of all tenants or of one, without being one of them', async () => {
    const Visit = clinic.model(
      new Schema(
        { clinic: Schema.Types.ObjectId, note: { type: String, encrypted: true } },
        { encrypted: { tenantBy: 'clinic' } },
      ),
    )
    const [one, two] = [new Types.ObjectId(), new Types.ObjectId()]
    for (const tenant of [one, two, one])
      await clinic.fieldseal.runAs({ tenant: tenant.toHexString() }, () =>
        Visit.create({ clinic: tenant, note: clinic.secret('a note of somebody') }),
      )
    const source = mongooseSource(clinic.connection)
    const [map] = source.models
    if (map === undefined) return expect.unreachable()
    const rows = async (options: PageOptions) => {
      const found: StoredRow[] = []
      for await (const page of source.pages(map, options)) found.push(...page)
      return found
    }
    expect(await rows({ size: 2 })).toHaveLength(3)
    const own = await rows({ size: 2, tenant: one.toHexString() })
    expect(own.map(({ columns }) => columns['clinic'])).toEqual([one.toHexString(), one.toHexString()])
    expect(await source.count(map, 'all')).toEqual({ rows: 3, exact: true })
  })

  it('leaves a document that has become the one of another tenant since it was read', async () => {
    const Letter = clinic.model(
      new Schema(
        {
          _id: Number,
          clinicId: String,
          code: { type: String, encrypted: { blindIndex: true } },
          note: { type: String, encrypted: { state: 'migrating' } },
        },
        { encrypted: { tenantBy: 'clinicId' } },
      ),
    )
    const source = mongooseSource(clinic.connection)
    const map = source.models.find(({ id }) => id === Letter.collection.collectionName) ?? expect.unreachable()
    const note = map.at('note').field ?? expect.unreachable()
    const as = <R>(tenant: string, run: () => R) => clinic.fieldseal.runAs({ tenant }, run)
    await as('a', () => Letter.create({ _id: 1, clinicId: 'a', code: clinic.secret('code of a') }))
    await clinic.direct(Letter).updateOne({}, { $set: { note: 'public' } })
    const [row] = (await source.pages(map, { size: 1 })[Symbol.asyncIterator]().next()).value ?? []
    await as('a', () => Letter.deleteOne({ _id: 1, clinicId: 'a' }))
    await as('b', () => Letter.create({ _id: 1, clinicId: 'b', code: clinic.secret('code of b') }))
    await clinic.direct(Letter).updateOne({}, { $set: { note: 'public' } })
    const before = (row as StoredRow).occurrences?.find(({ field }) => field === note)?.value ?? expect.unreachable()
    const cells = [{ field: note, before, after: envelope().value() as never }] as readonly PatchedCell[]
    expect(await source.convert?.(map, [{ key: row?.key, cells }])).toEqual(['changed'])
    await source.clearTokens?.(map, [row?.key])
    const found = as('b', () => Letter.findOne({ clinicId: 'b', code: 'code of b' }).lean())
    expect(await found).toMatchObject({ code: 'code of b', note: 'public' })
  })
})
