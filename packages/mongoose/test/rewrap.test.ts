import { rotateKek, type KekId, type RecordWriter } from '@fieldseal/core/adapter'
import { createFieldseal, type FieldsealEvents } from '@fieldseal/core'
import { hasMongo, mongoCan, useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms } from '@fieldseal/testkit'
import mongoose, { Schema } from 'mongoose'
import { beforeEach, describe, expect, it } from 'vitest'
import { stateOf } from '../src/install/intercept.ts'
import { fieldsealPlugin, mongoKeyStore, mongooseSource } from '../src/index.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'

interface Stored {
  readonly name: string
  readonly email: { readonly c: mongoose.mongo.Binary; readonly b: mongoose.mongo.Binary }
  readonly ssn: mongoose.mongo.Binary
  readonly history: { readonly note: mongoose.mongo.Binary }[]
  readonly phones: Record<string, mongoose.mongo.Binary>
  readonly updatedAt: Date
  readonly __v: number
  readonly __fieldseal: { readonly k: mongoose.mongo.Binary[] }
}

const kekOf = (value: mongoose.mongo.Binary) => Buffer.from(value.value()).toString('hex', 3, 15)
/** The value part: it is never encrypted again. */
const body = (value: mongoose.mongo.Binary) => Buffer.from(value.value()).toString('hex', 84)
const cellsOf = ({ email, ssn, history, phones }: Stored) => [
  email.c,
  ssn,
  ...history.map(({ note }) => note),
  ...Object.values(phones),
]

describe.runIf(hasMongo())('lazy rewrap', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Person: LooseModel
  const updates: unknown[] = []
  beforeEach(async () => {
    await clinic.fieldseal.flush()
    Person = clinic.model(
      new Schema(
        {
          name: String,
          age: { type: Number, encrypted: true },
          email: { type: String, encrypted: { blindIndex: true } },
          ssn: { type: String, encrypted: true },
          history: [{ note: { type: String, encrypted: true } }],
          phones: { type: Map, of: { type: String, encrypted: true } },
        },
        { timestamps: true },
      ),
    )
    clinic.connection.getClient().removeAllListeners('commandStarted')
    clinic.connection.getClient().on('commandStarted', ({ commandName, command }) => {
      if (commandName === 'update') updates.push(command)
    })
  })
  const save = async (count: number) => {
    await Person.insertMany(
      Array.from({ length: count }, (_unused, at) => ({
        name: `n${at}`,
        email: clinic.secret(`rewrapped-${at}@example.org`),
        ssn: clinic.secret(`rewrapped-ssn-${at}`),
        age: 0,
        history: [{ note: clinic.secret('rewrapped note one') }, { note: clinic.secret('rewrapped note two') }],
        phones: { work: clinic.secret('rewrapped phone') },
      })),
    )
    updates.length = 0
  }
  /** Writes of rewraps wait until they are let go; what is to be written is known by then. */
  const hold = () => {
    const writer = stateOf(Person.collection)?.writer as { compareAndSet: RecordWriter['compareAndSet'] }
    const { compareAndSet } = writer
    let release = () => {}
    const gate = new Promise<void>((resolve) => (release = resolve))
    writer.compareAndSet = async (...args) => {
      await gate
      return compareAndSet(...args)
    }
    return release
  }
  const rows = async () => (await clinic.stored(Person)) as unknown as Stored[]

  it('a read finds what is under an old KEK, and the queue wraps it anew without touching the data', async () => {
    await save(3)
    const before = await rows()
    const { kekId } = await rotateKek(clinic.fieldseal)
    expect(await Person.find()).toHaveLength(3)
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 3, changed: 0 })
    const after = await rows()
    for (const [at, row] of after.entries()) {
      const old = before[at] as Stored
      expect(cellsOf(row).map(kekOf)).toEqual(cellsOf(row).map(() => kekId))
      expect(cellsOf(row).map(body)).toEqual(cellsOf(old).map(body))
      expect(row.email.b).toEqual(old.email.b)
      expect([row.updatedAt, row.__v, row.name]).toEqual([old.updatedAt, old.__v, old.name])
      expect(row.__fieldseal.k.map((id) => id.toString('hex'))).toEqual([kekId])
    }
    expect(await Person.findOne({ email: 'rewrapped-1@example.org' }).lean()).toMatchObject({
      ssn: 'rewrapped-ssn-1',
      history: [{ note: 'rewrapped note one' }, { note: 'rewrapped note two' }],
      phones: { work: 'rewrapped phone' },
    })
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 0, changed: 0 })
  })

  it('each document is written once, however many read it at the same time', async () => {
    await save(40)
    await rotateKek(clinic.fieldseal)
    const release = hold()
    await Promise.all(Array.from({ length: 10 }, () => Person.find().lean()))
    release()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 40, changed: 0 })
    const statements = updates.map((command) => (command as { readonly updates: readonly unknown[] }).updates.length)
    expect(statements).toEqual([40]) // in one command: the pool of the application is not taken from it
    await Person.find()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 0, changed: 0 })
  })

  it('a part of a document that was read is wrapped anew, and the keys of the other part are kept', async () => {
    await save(1)
    const [before] = await rows()
    const { kekId } = await rotateKek(clinic.fieldseal)
    await Person.find({}, { ssn: 1 }).lean()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 1, changed: 0 })
    const [row] = await rows()
    if (row === undefined || before === undefined) return expect.unreachable()
    expect(kekOf(row.ssn)).toBe(kekId)
    expect(kekOf(row.email.c)).toBe(kekOf(before.email.c))
    expect(row.__fieldseal.k.map((id) => id.toString('hex')).toSorted()).toEqual([kekId, kekOf(before.ssn)].toSorted())
    await Person.find()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 1, changed: 0 })
    const [whole] = await rows()
    expect(whole?.__fieldseal.k.map((id) => id.toString('hex'))).toEqual([kekId])
  })

  it('a writer in between wins, and nothing of its is lost', async () => {
    await save(5)
    await rotateKek(clinic.fieldseal)
    const release = hold()
    await Person.find()
    await Person.updateOne({ name: 'n0' }, { $set: { ssn: clinic.secret('written in between'), email: 'new@x.org' } })
    await Person.replaceOne({ name: 'n1' }, { name: 'n1', ssn: clinic.secret('replaced in between') })
    await Person.deleteOne({ name: 'n2' })
    await Person.updateOne({ name: 'n4' }, { $push: { history: { note: clinic.secret('added in between') } } })
    release()
    const outcome = await clinic.fieldseal.flush()
    expect(outcome).toEqual({ updated: 2, changed: 3 })
    expect(await Person.findOne({ name: 'n0' }).lean()).toMatchObject({ ssn: 'written in between', email: 'new@x.org' })
    expect(await Person.findOne({ name: 'n1' }).lean()).toMatchObject({ ssn: 'replaced in between' })
    await clinic.fieldseal.flush()
    expect(await Person.countDocuments()).toBe(4)
  })

  it('elements that moved within their array are left for the next read', async () => {
    await save(1)
    const { kekId } = await rotateKek(clinic.fieldseal)
    const release = hold()
    await Person.find()
    await Person.updateOne(
      {},
      { $push: { history: { $each: [{ note: clinic.secret('pushed in front') }], $position: 0 } } },
    )
    release()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 0, changed: 1 })
    await Person.find()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 1, changed: 0 })
    const [row] = await rows()
    expect(row?.history.map(({ note }) => kekOf(note))).toEqual([kekId, kekId, kekId])
    expect((await Person.findOne().lean()).history.map(({ note }: { note: string }) => note)).toEqual([
      'pushed in front',
      'rewrapped note one',
      'rewrapped note two',
    ])
  })

  it('a projection that shows elements under other positions changes nothing wrongly', async () => {
    await save(1)
    await rotateKek(clinic.fieldseal)
    await Person.find({}, { history: { $slice: -1 } }).lean()
    await Person.find({ 'history.0': { $exists: true } }, { history: { $slice: [1, 1] } }).lean()
    await clinic.fieldseal.flush()
    expect(await Person.findOne().lean()).toMatchObject({
      history: [{ note: 'rewrapped note one' }, { note: 'rewrapped note two' }],
    })
  })

  it('aggregations, raw reads and counts offer nothing', async () => {
    await save(2)
    await rotateKek(clinic.fieldseal)
    await Person.aggregate([{ $match: { name: 'n0' } }])
    await Person.aggregate([{ $unwind: '$history' }])
    await Person.countDocuments({ email: 'rewrapped-0@example.org' })
    await clinic.connection.db?.collection(Person.collection.collectionName).find().toArray()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 0, changed: 0 })
  })

  it('under writers that count and save, no value is lost and all end under the newest KEK', async () => {
    await save(20)
    let kekId = ''
    for (let round = 0; round < 2; round++) {
      ;({ kekId } = await rotateKek(clinic.fieldseal))
      await Promise.all([
        ...Array.from({ length: 4 }, async () => {
          for (let at = 0; at < 20; at++) await Person.updateOne({ name: `n${at}` }, { $inc: { age: 1 } })
        }),
        ...Array.from({ length: 2 }, async () => {
          for (let at = 0; at < 20; at++) {
            const document = await Person.findOne({ name: `n${at}` })
            document.ssn = clinic.secret(`saved-ssn-${round}-${at}`)
            await document.save()
          }
        }),
        ...Array.from({ length: 3 }, async () => {
          for (let times = 0; times < 5; times++) {
            await Person.find().lean()
            await clinic.fieldseal.flush()
          }
        }),
      ])
    }
    await Person.find()
    await clinic.fieldseal.flush()
    const people = await Person.find().lean()
    expect(people.map(({ age }) => age)).toEqual(people.map(() => 8))
    expect(people.every(({ ssn }) => String(ssn).startsWith('saved-ssn-1-'))).toBe(true)
    expect((await rows()).flatMap(cellsOf).map(kekOf)).toEqual((await rows()).flatMap(cellsOf).map(() => kekId))
  })

  it('runs without being asked, and keeps no caller waiting', async () => {
    await save(2)
    const done: FieldsealEvents['rewrap.done'][] = []
    clinic.fieldseal.on('rewrap.done', (event) => void done.push(event))
    await rotateKek(clinic.fieldseal)
    await Person.find()
    await expect.poll(() => done.length, { timeout: 5_000 }).toBeGreaterThan(0)
  })

  it.runIf(mongoCan('transactions'))('nothing is written for a read in a transaction', async () => {
    await save(1)
    await rotateKek(clinic.fieldseal)
    await clinic.connection.transaction(async (session) => {
      await Person.find().session(session)
      await Person.findOneAndUpdate({ name: 'n0' }, { $set: { name: 'm0' } }, { session })
    })
    updates.length = 0
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 0, changed: 0 })
    expect(updates).toEqual([])
  })

  it('a sweep finds what no one reads, and then the old KEK has no document left', async () => {
    await save(12)
    const [first] = (await rows()) as [Stored]
    const old = kekOf(first.ssn) as KekId
    await rotateKek(clinic.fieldseal)
    const source = mongooseSource(clinic.connection)
    const map = source.models.find(({ id }) => id === Person.collection.collectionName)
    if (map === undefined) return expect.unreachable()
    expect(await source.count(map, { kekId: old })).toEqual({ rows: 12, exact: true })
    await Person.find()
    await clinic.fieldseal.flush()
    expect(await source.count(map, { kekId: old })).toEqual({ rows: 0, exact: true })
  })
})

describe.runIf(hasMongo())('lazy rewrap and a KEK that is gone', () => {
  const database = useMongoDatabase()

  it('everything stays readable after the old record is removed', async () => {
    const kms = fakeKms()
    const start = async () => {
      const fieldseal = createFieldseal({
        app: 'gone',
        tenancy: 'single',
        keyStore: mongoKeyStore(database.uri),
        keys: { cmks: [kms.cmk('key')] },
      })
      const own = new mongoose.Mongoose()
      own.plugin(fieldsealPlugin as never, { fieldseal })
      await own.connect(database.uri, { monitorCommands: true })
      const Model = own.model(
        'Gone',
        new Schema({
          email: { type: String, encrypted: { blindIndex: true } },
          ssn: { type: String, encrypted: true },
        }),
      ) as unknown as LooseModel
      return { fieldseal, own, Model, stop: async () => (await own.disconnect(), await fieldseal.close()) }
    }
    const first = await start()
    await first.Model.insertMany([
      { email: 'a@x.org', ssn: 'one' },
      { email: 'b@x.org', ssn: 'two' },
    ])
    const found = await first.own.connection.db?.collection(first.Model.collection.collectionName).findOne()
    const old = kekOf(found?.['ssn'])
    await rotateKek(first.fieldseal)
    await first.Model.find()
    expect(await first.fieldseal.flush()).toEqual({ updated: 2, changed: 0 })
    const { deletedCount } =
      (await first.own.connection.db?.collection('fieldseal_keys').deleteOne({ _id: old as never })) ?? {}
    expect(deletedCount).toBe(1)
    await first.stop()
    const second = await start()
    expect(await second.Model.find().sort({ _id: 1 }).lean()).toMatchObject([
      { email: 'a@x.org', ssn: 'one' },
      { email: 'b@x.org', ssn: 'two' },
    ])
    expect(await second.Model.findOne({ email: 'b@x.org' })).toMatchObject({ ssn: 'two' })
    await second.stop()
  })
})
