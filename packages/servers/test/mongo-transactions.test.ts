import { MongoClient, MongoServerError, type MongoError, type Collection, type Document } from 'mongodb'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { hasMongo, mongoCan, useMongoDatabase } from '../vitest/index.ts'

describe.runIf(hasMongo() && mongoCan('transactions'))('transactions', () => {
  const database = useMongoDatabase()
  let client: MongoClient
  let c: Collection<Document>
  let collections = 0

  beforeAll(async () => {
    client = await new MongoClient(database.uri).connect()
  })
  afterAll(() => client.close())
  beforeEach(async () => {
    c = client.db().collection(`c${++collections}`)
    await c.insertOne({ _id: 1 as never, n: 0 })
  })

  it('shows their writes to others when they commit, all at once', async () => {
    const session = client.startSession()
    session.startTransaction({ readConcern: { level: 'snapshot' }, writeConcern: { w: 'majority' } })
    await c.insertOne({ _id: 2 as never }, { session })
    await c.updateOne({ _id: 1 as never }, { $set: { n: 1 } }, { session })
    expect(await c.countDocuments({}, { session })).toBe(2)
    expect(await c.find().toArray()).toEqual([{ _id: 1, n: 0 }])
    await session.commitTransaction()
    await session.commitTransaction()
    await session.endSession()
    expect(await c.find().sort({ _id: 1 }).toArray()).toEqual([{ _id: 1, n: 1 }, { _id: 2 }])
  })

  it('leave nothing when they are aborted, or when their session ends', async () => {
    const session = client.startSession()
    session.startTransaction()
    await c.insertOne({ _id: 2 as never }, { session })
    await session.abortTransaction()
    session.startTransaction()
    await c.insertOne({ _id: 3 as never }, { session })
    await session.endSession()
    expect(await c.countDocuments()).toBe(1)
  })

  it('read one snapshot', async () => {
    const session = client.startSession()
    session.startTransaction()
    await c.findOne({}, { session })
    await c.updateOne({}, { $set: { n: 5 } })
    expect(await c.findOne({}, { session })).toMatchObject({ n: 0 })
    await session.abortTransaction()
    await session.endSession()
  })

  it('read in pages', async () => {
    await c.insertMany(Array.from({ length: 300 }, (_, n) => ({ n })))
    await client.withSession((session) =>
      session.withTransaction(async () => {
        for (const sort of [{}, { n: 1 }] as const) {
          expect(await c.find({}, { session, batchSize: 50, sort }).toArray()).toHaveLength(301)
        }
      }),
    )
  })

  it('fail at once when they write what another has written, and may be run again', async () => {
    const [one, other] = [client.startSession(), client.startSession()]
    one.startTransaction()
    other.startTransaction()
    await c.updateOne({ _id: 1 as never }, { $inc: { n: 1 } }, { session: one })
    const error = await c
      .updateOne({ _id: 1 as never }, { $inc: { n: 1 } }, { session: other })
      .catch((e: unknown) => e)
    expect(error).toBeInstanceOf(MongoServerError)
    expect(error).toMatchObject({ code: 112, codeName: 'WriteConflict' })
    expect((error as MongoError).hasErrorLabel('TransientTransactionError')).toBe(true)
    await one.commitTransaction()
    await other.abortTransaction()
    await Promise.all([one.endSession(), other.endSession()])
  })

  it('fail when what they write has changed since their snapshot', async () => {
    const session = client.startSession()
    session.startTransaction()
    await c.findOne({}, { session })
    await c.updateOne({}, { $inc: { n: 1 } })
    const error = await c.updateOne({}, { $inc: { n: 1 } }, { session }).catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 112 })
    expect((error as MongoError).hasErrorLabel('TransientTransactionError')).toBe(true)
    await session.abortTransaction()
    await session.endSession()
  })

  it('add up when many run at once and the driver repeats them', async () => {
    const increment = () =>
      client.withSession((session) =>
        session.withTransaction(async () => {
          const { n } = (await c.findOne({}, { session })) as unknown as { n: number }
          await c.updateOne({}, { $set: { n: n + 1 } }, { session })
        }),
      )
    await Promise.all(Array.from({ length: 8 }, increment))
    expect(await c.findOne()).toMatchObject({ n: 8 })
  })

  it('are over after a write that failed', async () => {
    const session = client.startSession()
    session.startTransaction()
    await c.insertOne({ _id: 2 as never }, { session })
    await expect(c.insertOne({ _id: 1 as never }, { session })).rejects.toMatchObject({ code: 11000 })
    const error = await c.insertOne({ _id: 3 as never }, { session }).catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 251, codeName: 'NoSuchTransaction' })
    await session.abortTransaction()
    await session.endSession()
    expect(await c.countDocuments()).toBe(1)
  })

  it('make collections that they write to first', async () => {
    const fresh = client.db().collection(`fresh${collections}`)
    await client.withSession((session) =>
      session.withTransaction(async () => {
        await fresh.insertOne({ n: 1 }, { session })
      }),
    )
    expect(await fresh.countDocuments()).toBe(1)
  })
})
