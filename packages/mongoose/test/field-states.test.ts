import { attach, isPlainCell, type FieldState, type PatchedCell } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import mongoose, { Schema } from 'mongoose'
import { beforeEach, describe, expect, it } from 'vitest'
import { jsonSchemaTripwire, mongooseSource } from '../src/index.ts'
import { STATES, useStages, type Deploys } from './support/stages.ts'

const { Binary } = mongoose.mongo
type Stored = Record<string, unknown>

/** In place: `name`, `age`, `born`, `isWell`; beside: `email` with an index, `consent` a container; `history` has both. */
const schemaOf = (state: FieldState) =>
  new Schema({
    kind: String,
    name: { type: String, encrypted: { state } },
    age: { type: Number, encrypted: { state } },
    born: { type: Date, encrypted: { state } },
    isWell: { type: Boolean, encrypted: { state } },
    tags: [{ type: String, encrypted: { state } }],
    phones: { type: Map, of: { type: String, encrypted: { state } } },
    email: {
      type: String,
      encrypted: { state, plaintextIn: 'mail', blindIndex: { normalize: 'email', unique: true } },
    },
    consent: {
      type: new Schema({ text: String, at: Number }, { _id: false }),
      encrypted: { state, plaintextIn: 'agreed' },
    },
    contact: { phone: { type: String, encrypted: { state, plaintextIn: 'contact.tel', blindIndex: true } } },
    history: [
      {
        _id: false,
        note: { type: String, encrypted: { state } },
        doctor: { type: String, encrypted: { state, plaintextIn: 'by', blindIndex: true } },
      },
    ],
  })

const BORN = new Date(0)
const ADA = {
  kind: 'person',
  name: 'Ada',
  age: 36,
  born: BORN,
  isWell: true,
  tags: ['x', 'y'],
  phones: { home: '1' },
  email: 'ada@example.org',
  consent: { text: 'agreed-to', at: 1 },
  contact: { phone: '555-1234' },
  history: [{ note: 'note-1', doctor: 'doctor-1' }, { note: 'note-2' }],
}

describe.runIf(hasMongo())('a field on its way from plaintext', () => {
  const stages = useStages('single')
  let deploys: Deploys
  beforeEach(() => {
    deploys = stages.deploy(schemaOf)
  })
  const read = async (state: FieldState, filter: Stored = {}) => {
    const found: Stored[] = await deploys[state].find(filter).sort({ _id: 1 }).lean()
    return found.map(({ _id, __v, ...content }) => content)
  }
  const stored = async () => {
    const [document] = await stages.direct(deploys).find().toArray()
    return document as Stored
  }

  it('is stored as plaintext, with its tokens, in state plaintext', async () => {
    await deploys.plaintext.create(ADA)
    const { _id, __v, ...content } = await stored()
    const token = { b: expect.any(Binary) }
    const { kind, name, age, born, isWell, tags, phones, email, consent } = ADA
    expect(content).toEqual({
      kind,
      name,
      age,
      born,
      isWell,
      tags,
      phones,
      mail: email,
      email: token,
      agreed: consent,
      contact: { tel: '555-1234', phone: token },
      history: [{ note: 'note-1', by: 'doctor-1', doctor: token }, { note: 'note-2' }],
    })
    expect(await read('plaintext')).toEqual([ADA])
  })

  it.each(['migrating', 'encrypted'] as const)('is stored encrypted alone in state %s', async (state) => {
    await deploys[state].create(ADA)
    const document = await stored()
    const text = JSON.stringify(mongoose.mongo.BSON.EJSON.serialize(document))
    for (const secret of ['"Ada"', 'ada@', 'agreed-to', '555-1234', 'note-1', 'doctor-1'])
      expect(text).not.toContain(secret)
    expect(document).not.toHaveProperty('mail')
    expect(document['name']).toBeInstanceOf(Binary)
    expect(document['email']).toEqual({ c: expect.any(Binary), b: expect.any(Binary) })
    expect(await read('encrypted')).toEqual([ADA])
  })

  it.each(['plaintext', 'migrating'] as const)('reads plaintext and envelopes in state %s', async (state) => {
    await deploys.plaintext.create(ADA)
    await deploys.migrating.create({ ...ADA, email: 'two@example.org' })
    expect(await read(state)).toEqual([ADA, { ...ADA, email: 'two@example.org' }])
    for await (const { name } of deploys[state].find().cursor()) expect(name).toBe('Ada')
    const aggregated = await deploys[state].aggregate([{ $match: { kind: 'person' } }, { $sort: { _id: 1 } }])
    expect(aggregated.map(({ consent, email }: Stored) => [consent, email])).toEqual([
      [ADA.consent, ADA.email],
      [ADA.consent, 'two@example.org'],
    ])
  })

  it.each(['name', 'age', 'isWell', 'tags', 'phones', 'email', 'consent', 'contact', 'history'])(
    'finds plaintext of %s to be an error in state encrypted',
    async (path) => {
      await deploys.plaintext.create({ [path]: ADA[path as keyof typeof ADA] })
      await expect(read('encrypted')).rejects.toMatchObject({ code: 'ERR_PLAINTEXT_FOUND' })
    },
  )

  it('reads what builds without Fieldseal write: their plaintext is newer than an envelope', async () => {
    await deploys.migrating.create(ADA)
    await stages.direct(deploys).updateOne({}, { $set: { mail: 'new@example.org', name: 'Eve', 'contact.tel': '7' } })
    for (const state of ['plaintext', 'migrating'] as const)
      expect(await read(state)).toEqual([{ ...ADA, email: 'new@example.org', name: 'Eve', contact: { phone: '7' } }])
  })

  it('is not found by the token of a value that a build without Fieldseal has replaced', async () => {
    await deploys.plaintext.create({ ...ADA, kind: 'plain' })
    await deploys.migrating.create({ ...ADA, kind: 'sealed', email: 'two@example.org' })
    await stages.direct(deploys).updateOne({ kind: 'plain' }, { $set: { mail: 'new-1@example.org' } })
    await stages.direct(deploys).updateOne({ kind: 'sealed' }, { $set: { mail: 'new-2@example.org' } })
    const { migrating } = deploys
    for (const email of ['ada@example.org', 'two@example.org']) {
      expect(await migrating.find({ email })).toEqual([])
      expect(await migrating.countDocuments({ email })).toBe(0)
      expect((await migrating.deleteMany({ email })).deletedCount).toBe(0)
    }
    expect(await migrating.countDocuments({ email: { $in: ['new-1@example.org', 'new-2@example.org'] } })).toBe(2)
  })

  it('is found in state plaintext, by equality, where a newer build has encrypted it', async () => {
    const { plaintext, migrating } = deploys
    const [old, fresh] = [plaintext, migrating]
    await old.create({ ...ADA, kind: 'old' })
    await old.create({ kind: 'other', email: 'bob@example.org', contact: { phone: '1' } })
    await old.create({ kind: 'none' })
    const { kind: _, ...more } = ADA
    await fresh.create({ ...more, kind: 'new', email: 'eve@example.org' })
    const kinds = async (filter: Stored) => {
      const found: Stored[] = await old.find(filter).lean()
      expect(await old.countDocuments(filter)).toBe(found.length)
      return found.map(({ kind }) => String(kind)).toSorted()
    }
    expect(await kinds({ email: 'eve@example.org' })).toEqual(['new'])
    expect(await kinds({ email: { $in: ['ada@example.org', 'eve@example.org', 'x'] } })).toEqual(['new', 'old'])
    expect(await kinds({ 'contact.phone': ADA.contact.phone })).toEqual(['new', 'old'])
    expect(await kinds({ 'contact.phone': { $ne: ADA.contact.phone } })).toEqual(['none', 'other'])
    expect(await kinds({ 'contact.phone': { $nin: [ADA.contact.phone, '1'] } })).toEqual(['none'])
    expect(await kinds({ $nor: [{ 'contact.phone': ADA.contact.phone }] })).toEqual(['none', 'other'])
    expect(await kinds({ 'contact.phone': null })).toEqual(['none'])
    expect(await kinds({ 'contact.phone': { $exists: true } })).toEqual(['new', 'old', 'other'])
    expect(await kinds({ consent: null })).toEqual(['none', 'other'])
    expect(await kinds({ 'history.doctor': 'doctor-1' })).toEqual(['new', 'old'])
    expect(await kinds({ history: { $elemMatch: { doctor: 'doctor-1' } } })).toEqual(['new', 'old'])
    expect(await old.aggregate([{ $match: { email: 'eve@example.org' } }, { $project: { kind: 1 } }])).toMatchObject([
      { kind: 'new' },
    ])
    // Other operators see plaintext alone.
    expect(await kinds({ 'contact.phone': /^555/ })).toEqual(['old'])
    expect(await kinds({ email: { $gt: 'a' } })).toEqual(['old', 'other'])
    await expect(old.create({ email: 'EVE@example.org' })).rejects.toMatchObject({ code: 11000 })
    await old.updateOne({ email: 'eve@example.org' }, { kind: 'newer' })
    await old.updateOne({ email: 'eve@example.org' }, { kind: 'newest' }, { upsert: true })
    await old.updateOne({ email: 'cy@example.org' }, { kind: 'upserted' }, { upsert: true })
    expect(await kinds({ email: { $in: ['eve@example.org', 'cy@example.org'] } })).toEqual(['newest', 'upserted'])
    expect(await fresh.find({ email: 'cy@example.org' }).lean()).toMatchObject([{ kind: 'upserted' }])
    await old.deleteOne({ email: 'eve@example.org' })
    expect(await kinds({ email: 'eve@example.org' })).toEqual([])
    expect(await old.countDocuments()).toBe(4)
  })

  it('clears the other place of a value with every write', async () => {
    await deploys.plaintext.create(ADA)
    const update = {
      name: 'B',
      email: 'b@example.org',
      consent: { text: 'no' },
      'contact.phone': '8',
      'history.0.doctor': 'doctor-2',
    }
    const { modifiedCount } = await deploys.migrating.updateOne({ kind: 'person' }, { $set: update })
    expect(modifiedCount).toBe(1)
    const document = await stored()
    for (const path of ['mail', 'agreed']) expect(document).not.toHaveProperty(path)
    expect(document['contact']).toEqual({ phone: { c: expect.any(Binary), b: expect.any(Binary) } })
    expect((document['history'] as Stored[])[0]).toEqual({
      note: 'note-1',
      doctor: { c: expect.any(Binary), b: expect.any(Binary) },
    })
    const [after] = await read('migrating')
    expect(after).toMatchObject({ name: 'B', email: 'b@example.org', consent: { text: 'no' }, contact: { phone: '8' } })
    await deploys.plaintext.updateOne({ kind: 'person' }, { $set: update })
    const plain = await stored()
    expect(plain).toMatchObject({ name: 'B', mail: 'b@example.org', agreed: { text: 'no' }, contact: { tel: '8' } })
    expect(plain).not.toHaveProperty('consent')
    expect(plain['email']).toEqual({ b: expect.any(Binary) })
    expect(await read('plaintext')).toEqual([after])
  })

  it.each(STATES)('takes a value away from both places in state %s', async (state) => {
    for (const from of ['plaintext', 'migrating'] as const) {
      if (state === 'encrypted' && from === 'plaintext') continue
      const { _id } = await deploys[from].create({ ...ADA, email: `${from}@example.org` })
      await deploys[state].updateOne({ _id }, { $unset: { email: 1, consent: 1, name: 1, 'contact.phone': 1 } })
      const document = await stages.direct(deploys).findOne({ _id })
      for (const path of ['email', 'mail', 'consent', 'agreed', 'name']) expect(document).not.toHaveProperty(path)
      expect(document?.['contact']).toEqual({})
    }
  })

  it.each(['plaintext', 'migrating'] as const)(
    'saves loaded documents in state %s, whatever they were',
    async (state) => {
      await deploys.plaintext.create(ADA)
      await deploys.migrating.create({ ...ADA, email: 'two@example.org' })
      for (const document of await deploys[state].find()) {
        expect(document.modifiedPaths()).toEqual([])
        document.name = 'Changed'
        document.consent.text = 'changed'
        document.email = `changed-${document.email}`
        document.history[0].doctor = 'changed'
        document.phones.set('home', 'changed')
        await document.save()
      }
      const expected = {
        ...ADA,
        name: 'Changed',
        consent: { text: 'changed', at: 1 },
        history: [{ note: 'note-1', doctor: 'changed' }, { note: 'note-2' }],
        phones: { home: 'changed' },
      }
      expect(await read(state)).toEqual([
        { ...expected, email: 'changed-ada@example.org' },
        { ...expected, email: 'changed-two@example.org' },
      ])
    },
  )

  describe('queries', () => {
    beforeEach(async () => {
      await deploys.plaintext.create({ ...ADA, kind: 'plain' })
      await deploys.migrating.create({ ...ADA, kind: 'sealed', email: 'two@example.org', contact: { phone: '2' } })
      // A build without Fieldseal has made this one: no tokens.
      await stages.direct(deploys).insertOne({ kind: 'bare', mail: 'bare@example.org', name: 'Ada' })
      await deploys.migrating.create({ kind: 'none' })
    })
    const kinds = async (state: FieldState, filter: Stored) =>
      (await deploys[state].find(filter).sort({ _id: 1 })).map(({ kind }: Stored) => kind)

    it('find by token or by old plaintext in state migrating, and negate all of it', async () => {
      const all = ['plain', 'sealed', 'bare', 'none']
      const found: readonly (readonly [Stored, readonly string[]])[] = [
        [{ email: 'ada@example.org' }, ['plain']],
        [{ email: 'ADA@example.org' }, []], // of plaintext, equality is the database's
        [{ email: 'TWO@example.org' }, ['sealed']],
        [{ email: 'two@example.org' }, ['sealed']],
        [{ email: 'bare@example.org' }, ['bare']],
        [{ email: { $in: ['bare@example.org', 'two@example.org'] } }, ['sealed', 'bare']],
        [{ email: { $ne: 'bare@example.org' } }, ['plain', 'sealed', 'none']],
        [{ email: { $nin: ['bare@example.org', 'two@example.org'] } }, ['plain', 'none']],
        [{ email: { $not: { $eq: 'two@example.org' } } }, ['plain', 'bare', 'none']],
        [{ email: null }, ['none']],
        [{ email: { $ne: null } }, ['plain', 'sealed', 'bare']],
        [{ email: { $exists: true } }, ['plain', 'sealed', 'bare']],
        [{ email: { $exists: false } }, ['none']],
        [{ $or: [{ email: 'bare@example.org' }, { email: 'two@example.org' }] }, ['sealed', 'bare']],
        [{ $nor: [{ email: 'bare@example.org' }, { email: 'two@example.org' }] }, ['plain', 'none']],
        [{ 'contact.phone': { $in: ['2', '555-1234'] } }, ['plain', 'sealed']],
        [{ 'history.doctor': 'doctor-1' }, ['plain', 'sealed']],
        [{ 'history.doctor': { $ne: 'doctor-1' } }, ['bare', 'none']],
        [{ history: { $elemMatch: { doctor: 'doctor-1' } } }, ['plain', 'sealed']],
        [{ history: { $elemMatch: { doctor: null } } }, ['plain', 'sealed']],
        [{ email: { $in: [] } }, []],
        [{ email: { $nin: [] } }, all],
        [{ name: { $exists: true } }, ['plain', 'sealed', 'bare']],
      ]
      for (const [filter, expected] of found)
        expect([filter, await kinds('migrating', filter)]).toEqual([filter, expected])
      expect(await deploys.migrating.countDocuments({ email: 'bare@example.org' })).toBe(1)
    })

    it('refuse in state migrating what they refuse for encrypted values', async () => {
      const { migrating } = deploys
      const refused: readonly (() => PromiseLike<unknown>)[] = [
        () => migrating.find({ email: /ada/ }),
        () => migrating.find({ email: { $gt: 'a' } }),
        () => migrating.find({ 'history.doctor': null }),
        () => migrating.find({ name: 'Ada' }),
        () => migrating.find().sort({ email: 1 }),
        () => migrating.find().sort({ age: 1 }),
        () => migrating.distinct('name'),
        () => migrating.aggregate([{ $group: { _id: '$name' } }]),
        () => migrating.aggregate([{ $group: { _id: '$mail' } }]),
        () => migrating.find({ $expr: { $eq: ['$mail', 'x'] } }),
        () => migrating.find().sort({ mail: 1 }),
        () => migrating.collection.find({ mail: 'bare@example.org' }).toArray(),
        () => migrating.collection.updateOne({}, { $set: { mail: 'x' } }),
        () => migrating.collection.insertOne({ mail: 'x' }),
      ]
      for (const [at, run] of refused.entries())
        await expect(run(), String(at)).rejects.toMatchObject({ kind: 'refused' })
    })

    it('meet the plaintext in state plaintext as the database does', async () => {
      const { plaintext } = deploys
      const found: readonly (readonly [Stored, readonly string[]])[] = [
        [{ email: 'ada@example.org' }, ['plain']],
        [{ email: /example/ }, ['plain', 'bare']],
        [{ email: { $gt: 'b' } }, ['bare']],
        [{ name: { $regex: '^A' }, age: { $lt: 40 } }, ['plain']],
        [{ 'consent.text': 'agreed-to' }, ['plain']],
        [{ 'contact.phone': '555-1234' }, ['plain']],
        [{ history: { $elemMatch: { doctor: 'doctor-1', note: 'note-1' } } }, ['plain']],
        [{ tags: 'x' }, ['plain']],
      ]
      for (const [filter, expected] of found)
        expect([filter, await kinds('plaintext', filter)]).toEqual([filter, expected])
      const byMail = await plaintext.find({ email: /@/ }).sort({ email: -1 })
      expect(byMail.map(({ email }: Stored) => email)).toEqual(['bare@example.org', 'ada@example.org'])
      expect(await plaintext.distinct('email', { email: /@/ })).toEqual(['ada@example.org', 'bare@example.org'])
      const groups = await plaintext.aggregate([
        { $match: { email: /@/ } },
        { $group: { _id: { $toUpper: '$email' }, texts: { $push: '$consent.text' }, ages: { $sum: '$age' } } },
        { $sort: { _id: 1 } },
      ])
      expect(groups).toEqual([
        { _id: 'ADA@EXAMPLE.ORG', texts: ['agreed-to'], ages: 36 },
        { _id: 'BARE@EXAMPLE.ORG', texts: [], ages: 0 },
      ])
      const added = await plaintext.aggregate([
        { $match: { email: /ada/ } },
        { $sort: { _id: 1 } },
        { $addFields: { shout: { $toUpper: '$name' } } },
        { $project: { kind: 1, email: 1, shout: 1 } },
        { $match: { kind: 'plain' } },
      ])
      expect(added).toEqual([{ _id: expect.anything(), kind: 'plain', email: 'ada@example.org', shout: 'ADA' }])
    })

    it('project both places of a value, and show neither where it is not asked for', async () => {
      for (const state of ['plaintext', 'migrating'] as const) {
        const show = async (projection: Stored | string) =>
          (await deploys[state]
            .find({ kind: { $in: ['plain', 'sealed'] } }, projection)
            .sort({ _id: 1 })
            .lean()) as Stored[]
        expect(await show({ email: 1, _id: 0 })).toEqual([{ email: 'ada@example.org' }, { email: 'two@example.org' }])
        expect(await show({ 'contact.phone': 1, name: 1, _id: 0 })).toEqual([
          { name: 'Ada', contact: { phone: '555-1234' } },
          { name: 'Ada', contact: { phone: '2' } },
        ])
        expect(await show({ 'history.doctor': 1, _id: 0 })).toEqual([
          { history: [{ doctor: 'doctor-1' }, {}] },
          { history: [{ doctor: 'doctor-1' }, {}] },
        ])
        expect(await show({ 'consent.text': 1, _id: 0 })).toEqual([
          { consent: { text: 'agreed-to' } },
          { consent: { text: 'agreed-to' } },
        ])
        for (const document of await show({ email: 0, consent: 0 }))
          for (const path of ['email', 'mail', 'consent', 'agreed']) expect(document).not.toHaveProperty(path)
        const unset = await deploys[state].aggregate([{ $unset: ['email', 'consent'] }])
        for (const document of unset as Stored[])
          for (const path of ['email', 'mail', 'consent', 'agreed']) expect(document).not.toHaveProperty(path)
        await expect(deploys[state].find({}, { mail: 1 })).rejects.toMatchObject({ code: 'ERR_QUERY_UNSUPPORTED' })
      }
    })

    it('upserts store what they look for at the right place', async () => {
      for (const state of STATES) {
        const email = `${state}-upsert@example.org`
        const model = state === 'encrypted' ? deploys.migrating : deploys[state]
        await model.updateOne(
          { email },
          { $set: { kind: state }, $setOnInsert: { 'contact.phone': state } },
          { upsert: true },
        )
        await model.updateOne({ email }, { $set: { kind: `${state}!` } }, { upsert: true })
        const [found, ...more] = await model.find({ email }).lean()
        expect(more).toEqual([])
        expect(found).toMatchObject({ email, kind: `${state}!`, contact: { phone: state } })
        const raw = await stages.direct(deploys).findOne({ kind: `${state}!` })
        expect(raw?.['mail']).toBe(state === 'plaintext' ? email : undefined)
      }
    })
  })

  it('computes updates from either form', async () => {
    for (const from of ['plaintext', 'migrating'] as const)
      for (const to of ['plaintext', 'migrating'] as const) {
        await stages.direct(deploys).deleteMany({})
        await deploys[from].create(ADA)
        const model = deploys[to]
        await model.updateOne({ kind: 'person' }, { $set: { 'consent.at': 5 } })
        await model.updateOne({ kind: 'person' }, { $inc: { 'consent.at': 2 } })
        await model.updateOne({ kind: 'person' }, { $max: { age: 40 } })
        await model.updateOne({ kind: 'person' }, { $unset: { 'consent.text': 1 } })
        expect(await read(to)).toEqual([{ ...ADA, consent: { at: 7 }, age: 40 }])
        if (from === to || to === 'migrating') {
          await model.updateOne({ kind: 'person' }, { $inc: { age: 1 } })
          await model.updateOne({ kind: 'person' }, { $push: { tags: 'z' } })
          await model.updateOne({ kind: 'person' }, { $pull: { tags: 'x' } })
          expect(await read(to)).toEqual([{ ...ADA, consent: { at: 7 }, age: 41, tags: ['y', 'z'] }])
        }
        // The server refuses to compute with an envelope.
        else
          await expect(
            model
              .updateOne({ kind: 'person' }, { $inc: { age: 1 } })
              .exec()
              .then(() => read(to)),
          ).resolves.toBeDefined()
      }
  })

  it('computes an update that changes nothing', async () => {
    for (const state of ['plaintext', 'migrating'] as const) {
      const { _id } = await deploys[state].create({ ...ADA, email: `${state}@example.org` })
      const taken = { $unset: { 'consent.text': 1 } }
      const changes = [{ $inc: { 'consent.at': 0 } }, taken, taken, { $max: { age: 1 } }]
      for (const change of changes) {
        const found = await deploys[state].findOneAndUpdate({ _id }, change, { projection: { kind: 1 } }).lean()
        expect(found).toEqual({ _id, kind: 'person' })
        expect(await deploys[state].updateOne({ _id }, change)).toMatchObject({ matchedCount: 1 })
      }
    }
  })

  it('keeps its tokens when a migration seals it and gives no others', async () => {
    await deploys.plaintext.create({ email: 'ada@example.org', contact: { phone: '1' } })
    const before = await stored()
    await deploys.migrating.init()
    const source = mongooseSource(stages.connections.migrating)
    const { migrating } = deploys
    const map = source.models.find(({ id }) => id === migrating.collection.collectionName) ?? expect.unreachable()
    const host = attach(stages.fieldseals.migrating, { name: 'test', ormVersion: '0' })
    for await (const [row] of source.pages(map, { size: 10 })) {
      const plain = (row?.occurrences ?? []).filter(({ value }) => isPlainCell(value))
      const values = plain.map((cell) => ({ ...cell, value: Reflect.get(Object(cell.value), 'value') as unknown }))
      const context = host.capture()
      const facts = map.facts(row?.columns ?? {}, context)
      const [sealed] = await host.cipher.seal([{ map, facts, cells: values }], context)
      const cells = plain.map(({ field, value }, at) => ({ field, before: value, after: sealed?.envelopes[at] }))
      const patch = { key: row?.key, cells: cells as readonly PatchedCell[] }
      expect(await source.convert?.(map, [patch])).toEqual(['updated'])
      expect(await source.convert?.(map, [patch])).toEqual(['changed'])
    }
    const after = await stored()
    for (const path of ['email', 'contact.phone'] as const) {
      const [one, other] = [before, after].map((document) =>
        path.split('.').reduce((at, name) => at[name] as Stored, document),
      )
      expect(other).toEqual({ c: expect.any(Binary), b: one?.['b'] })
    }
    expect(await migrating.findOne({ email: 'ADA@example.org' })).not.toBeNull()
  })

  it('lets the server compute with what is stored as plaintext, and never with an envelope', async () => {
    const { plaintext, migrating } = deploys
    for (const email of ['a@example.org', 'b@example.org']) await plaintext.create({ ...ADA, email })
    const change = { $inc: { 'consent.at': 2 }, $max: { age: 50 }, $set: { 'contact.phone': '9' } }
    expect(await plaintext.updateMany({ kind: 'person' }, change)).toMatchObject({ modifiedCount: 2 })
    const expected = { ...ADA, consent: { ...ADA.consent, at: 3 }, age: 50, contact: { phone: '9' } }
    expect(await read('plaintext')).toEqual([
      { ...expected, email: 'a@example.org' },
      { ...expected, email: 'b@example.org' },
    ])
    await plaintext.updateOne({ kind: 'new' }, { $inc: { 'consent.at': 1 }, $max: { age: 3 } }, { upsert: true })
    expect(await read('plaintext', { kind: 'new' })).toMatchObject([{ consent: { at: 1 }, age: 3 }])
    const { _id } = await migrating.create({ ...ADA, email: 'c@example.org' })
    await expect(plaintext.updateMany({ kind: 'person' }, change)).rejects.toMatchObject({
      code: 'ERR_WRITE_UNSUPPORTED',
      details: { reason: 'update-many' },
    })
    expect(await read('plaintext', { _id })).toEqual([{ ...ADA, email: 'c@example.org' }])
    await expect(migrating.updateMany({}, { $inc: { 'consent.at': 2 } })).rejects.toMatchObject({ kind: 'refused' })
  })

  it.each([
    [{ type: Schema.Types.ObjectId, encrypted: { state: 'migrating' } }, /plaintextIn/],
    [{ type: [String], encrypted: { state: 'plaintext' } }, /plaintextIn/],
    [{ type: String, encrypted: { state: 'plaintext', blindIndex: true } }, /plaintextIn/],
    [{ type: String, encrypted: { state: 'plaintext', plaintextIn: 'other.old' } }, /same parent/],
    [{ type: String, encrypted: { state: 'plaintext', plaintextIn: '' } }, /same parent/],
    [[{ type: String, encrypted: { state: 'plaintext', plaintextIn: 'old' } }], /same parent/],
    [{ type: Map, of: { type: String, encrypted: { state: 'plaintext', plaintextIn: 'old' } } }, /same parent/],
    [{ type: String, encrypted: { state: 'plaintext', plaintextIn: '_id' } }, /plaintextIn|_id/],
    [{ type: String, encrypted: { state: 'plaintext', plaintextIn: 'kind' } }, /plaintextIn|kind/],
    [{ type: String, encrypted: { state: 'plaintext', plaintextIn: 'sealed' } }, /another field/],
    [{ type: String, encrypted: { state: 'soon' } }, /state/],
  ])('refuses at start-up what it could not tell apart: %#', (path, message) => {
    const schema = new Schema(
      { path, sealed: { type: String, encrypted: true } } as never,
      { discriminatorKey: 'kind' } as never,
    )
    const { connection } = { connection: stages.connections.plaintext }
    expect(() => connection.model(`Refused${Math.random()}`, schema as never)).toThrow(message)
  })

  it('takes no bytes for an envelope that a pipeline brings from beside', async () => {
    const scans = stages.deploy(
      (state) => new Schema({ scan: { type: Buffer, encrypted: { state, plaintextIn: 'old' } }, kind: String }),
    )
    await scans.migrating.create({ scan: Buffer.from('secret'), kind: 'sealed' })
    const [sealed] = await stages.direct(scans).find().toArray()
    const stolen = Buffer.from((sealed as never as { scan: { buffer: Uint8Array } }).scan.buffer)
    await scans.plaintext.create({ scan: stolen, kind: 'thief' })
    const found = await scans.plaintext.aggregate([
      { $addFields: { upper: { $toUpper: '$kind' } } },
      { $sort: { kind: 1 } },
    ])
    const [first, second] = found.map(({ scan }: Stored) => Buffer.from((scan as { buffer: Uint8Array }).buffer))
    expect([first?.toString(), second?.equals(stolen)]).toEqual(['secret', true])
    const [, thief] = await scans.plaintext.find().sort({ kind: 1 })
    expect(thief.scan.equals(stolen)).toBe(true)
  })

  it('lets the wire guard pass what the state allows, and nothing else', async () => {
    const native = (state: FieldState) =>
      stages.connections[state]
        .getClient()
        .db(stages.connections[state].name)
        .collection(deploys[state].collection.collectionName)
    await native('plaintext').insertOne({ name: 'x', mail: 'y', tags: ['z'] })
    await native('plaintext').updateOne({ mail: 'y' }, { $set: { mail: 'z' }, $push: { tags: 'q' } as never })
    const blocked = { code: 'ERR_PLAINTEXT_BLOCKED' }
    await expect(native('plaintext').insertOne({ email: 'y' })).rejects.toMatchObject(blocked)
    for (const state of ['migrating', 'encrypted'] as const)
      for (const path of ['name', 'mail', 'email', 'tags', 'agreed', 'contact.tel', 'history.0.by', 'phones.home']) {
        const write = native(state).updateOne({}, { $set: { [path]: 'plain' } })
        await expect(write, `${state} ${path}`).rejects.toMatchObject(blocked)
      }
    await native('migrating').findOne({ mail: 'z' })
    await expect(native('encrypted').findOne({ mail: 'z' })).rejects.toMatchObject(blocked)
  })

  it('has a tripwire for encrypted fields alone', () => {
    const properties = (state: FieldState) => jsonSchemaTripwire(deploys[state]).$jsonSchema['properties'] as Stored
    expect(properties('plaintext')).toEqual({})
    expect(properties('migrating')).toEqual({})
    expect(properties('encrypted')).toMatchObject({
      mail: { bsonType: ['null'] },
      name: { bsonType: ['binData', 'object', 'null'] },
    })
  })

  it('unsets both places in an update pipeline', async () => {
    for (const state of ['plaintext', 'migrating'] as const) {
      const { _id } = await deploys[state].create({ ...ADA, email: undefined, contact: {} })
      await deploys[state].updateOne({ _id }, [{ $unset: ['consent', 'name'] }], { updatePipeline: true })
      const document = await stages.direct(deploys).findOne({ _id })
      for (const path of ['consent', 'agreed', 'name']) expect(document).not.toHaveProperty(path)
    }
  })
})

describe.runIf(hasMongo())('a field of many tenants on its way from plaintext', () => {
  const stages = useStages('multi')

  it('is sought as plaintext alone in state plaintext where no token answers: across tenants, or in a truncated index', async () => {
    const deploys = stages.deploy(
      (state) =>
        new Schema(
          {
            tenant: String,
            email: { type: String, encrypted: { state, plaintextIn: 'mail', blindIndex: true } },
            city: { type: String, encrypted: { state, plaintextIn: 'town', blindIndex: { bits: 24 } } },
          },
          { encrypted: { tenantBy: 'tenant' } } as never,
        ),
    )
    const { plaintext: own } = stages.fieldseals
    for (const state of ['plaintext', 'migrating'] as const)
      await stages.fieldseals[state].runAs({ tenant: 'a' }, () =>
        deploys[state].create({ tenant: 'a', email: 'ada@example.org', city: 'rome' }),
      )
    const count = (filter: Stored) => async () => deploys.plaintext.countDocuments({ tenant: 'a', ...filter })
    expect(await own.runAs({ tenant: 'a' }, count({ email: 'ada@example.org' }))).toBe(2)
    expect(await own.runAs({ tenant: 'a' }, count({ city: 'rome' }))).toBe(1)
    expect(await own.runAsSystem({ reason: 'test' }, count({ email: 'ada@example.org' }))).toBe(1)
  })
})
