import { hasMongo, mongoCan, useMongoDatabase } from '@fieldseal/servers/vitest'
import { rotateKek } from '@fieldseal/core/adapter'
import mongoose, { Schema } from 'mongoose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { fieldsealPlugin } from '../src/index.ts'
import { useClinic, type LooseModel } from './support/clinic.ts'
import { protects } from './support/operation.ts'

describe.runIf(hasMongo() && mongoCan('transactions'))('transactions', () => {
  const clinic = useClinic({ tenancy: 'single' })
  let Account: LooseModel
  beforeEach(async () => {
    Account = clinic.model(
      new Schema({
        owner: { type: String, encrypted: { blindIndex: { unique: true } } },
        balance: { type: Number, encrypted: true },
        log: [{ text: { type: String, encrypted: true } }],
      }),
    )
    await Account.init()
    await Account.create({ owner: clinic.secret('first owner'), balance: 100 })
  })
  const balanceOf = async (owner: string) => (await Account.findOne({ owner }).lean())?.balance

  protects('withTransaction', 'a commit makes writes of every kind visible, and nobody sees them before', async () => {
    const session = await clinic.connection.startSession()
    await session.withTransaction(async () => {
      await Account.create([{ owner: clinic.secret('second owner'), balance: 1 }], { session })
      await Account.updateOne({ owner: 'first owner' }, { $inc: { balance: 5 } }, { session })
      await Account.updateOne(
        { owner: 'second owner' },
        { $push: { log: { text: clinic.secret('opened') } } },
        { session },
      )
      await Account.insertMany([{ owner: clinic.secret('third owner'), balance: 3 }], { session })
      await Account.bulkWrite([{ deleteOne: { filter: { owner: 'third owner' } } }] as never, { session })
      const document = await Account.findOne({ owner: 'second owner' }).session(session)
      document.balance += 1
      await document.save()
      expect(await Account.findOne({ owner: 'second owner' })).toBeNull()
      expect(await balanceOf('first owner')).toBe(100)
      expect(await Account.findOne({ owner: 'first owner' }).session(session).lean()).toMatchObject({ balance: 105 })
      expect(await Account.aggregate([{ $match: { owner: 'second owner' } }]).session(session)).toMatchObject([
        { balance: 2, log: [{ text: 'opened' }] },
      ])
    })
    await session.endSession()
    expect(await balanceOf('first owner')).toBe(105)
    expect(await balanceOf('second owner')).toBe(2)
    expect(await Account.countDocuments()).toBe(2)
  })

  protects('abortTransaction', 'takes everything back, and the documents can be written again', async () => {
    const session = await clinic.connection.startSession()
    session.startTransaction()
    const document = new Account({ owner: clinic.secret('never owner'), balance: 1 })
    await document.save({ session })
    await Account.updateOne({ owner: 'first owner' }, { $set: { balance: 0 } }, { session })
    await Account.findOneAndUpdate({ owner: 'never owner' }, { $inc: { balance: 1 } }, { session })
    await session.abortTransaction()
    await session.endSession()
    expect(await balanceOf('first owner')).toBe(100)
    expect(await Account.findOne({ owner: 'never owner' })).toBeNull()
    await new Account({ owner: 'never owner', balance: 2 }).save()
    expect(await balanceOf('never owner')).toBe(2)
  })

  protects(
    'connection.transaction',
    'a document whose transaction failed is new again, with its plaintext',
    async () => {
      const document = new Account({ owner: clinic.secret('undone owner'), balance: 7 })
      await expect(
        clinic.connection.transaction(async (session) => {
          await document.save({ session })
          throw new Error('undo')
        }),
      ).rejects.toThrow('undo')
      expect(document.isNew).toBe(true)
      expect(document.toObject()).toMatchObject({ owner: 'undone owner', balance: 7 })
      await document.save()
      expect(await balanceOf('undone owner')).toBe(7)
    },
  )

  protects('withTransaction', 'an attempt that is made again writes once', async () => {
    const session = await clinic.connection.startSession()
    let attempts = 0
    await session.withTransaction(async () => {
      await Account.updateOne({ owner: 'first owner' }, { $inc: { balance: 1 } }, { session })
      if (++attempts < 3) {
        const error = new mongoose.mongo.MongoServerError({ message: 'again', code: 112 })
        error.addErrorLabel('TransientTransactionError')
        throw error
      }
    })
    await session.endSession()
    expect(attempts).toBe(3)
    expect(await balanceOf('first owner')).toBe(101)
  })

  protects('withTransaction', 'two transactions that change one value: both changes are kept', async () => {
    const add = async (amount: number) => {
      const session = await clinic.connection.startSession()
      await session.withTransaction(async () => {
        await Account.updateOne({ owner: 'first owner' }, { $inc: { balance: amount } }, { session })
      })
      await session.endSession()
    }
    await Promise.all([add(1), add(10)])
    expect(await balanceOf('first owner')).toBe(111)
  })

  protects(
    'withTransaction',
    'a session from AsyncLocalStorage is used for every read that a write needs',
    async () => {
      clinic.mongoose.set('transactionAsyncLocalStorage', true)
      try {
        await clinic.connection.transaction(async () => {
          await Account.create({ owner: clinic.secret('stored locally'), balance: 1 })
          await Account.updateOne({ owner: 'stored locally' }, { $inc: { balance: 1 } })
          expect(await balanceOf('stored locally')).toBe(2)
        })
      } finally {
        clinic.mongoose.set('transactionAsyncLocalStorage', false)
      }
      expect(await balanceOf('stored locally')).toBe(2)
    },
  )

  protects('unique', 'a duplicate inside a transaction ends it, and says so without the value', async () => {
    const session = await clinic.connection.startSession()
    const error: unknown = await session
      .withTransaction(() => Account.create([{ owner: 'first owner', balance: 1 }], { session }))
      .catch((thrown: unknown) => thrown)
    await session.endSession()
    expect(error).toMatchObject({ code: 11000, keyPattern: { owner: 1 } })
    expect(String(error)).not.toContain('first owner')
    expect(await Account.countDocuments()).toBe(1)
  })

  it('reads inside a transaction rewrap nothing, the next read outside does', async () => {
    await rotateKek(clinic.fieldseal)
    const session = await clinic.connection.startSession()
    await session.withTransaction(async () => {
      await Account.findOne({ owner: 'first owner' }).session(session)
      await Account.find().session(session).lean()
      await Account.aggregate([{ $match: { owner: 'first owner' } }]).session(session)
    })
    await session.endSession()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 0, changed: 0 })
    await Account.find()
    expect(await clinic.fieldseal.flush()).toEqual({ updated: 1, changed: 0 })
  })

  it('a new KEK is durable before it is used, whatever becomes of the transaction', async () => {
    const session = await clinic.connection.startSession()
    session.startTransaction()
    const Keyed = clinic.model(
      new Schema({ secret: { type: String, encrypted: true } }, { encrypted: { keyspace: 'vault' } }),
    )
    await Keyed.createCollection()
    await Keyed.create([{ secret: clinic.secret('under a new key') }], { session })
    const records = clinic.connection.db?.collection('fieldseal_keys')
    const known = await records?.find({ keyspace: /vault/ }).toArray()
    expect(known).toHaveLength(1)
    await session.abortTransaction()
    await session.endSession()
    expect(await records?.find({ keyspace: /vault/ }).toArray()).toEqual(known)
    await Keyed.create({ secret: 'under a new key' })
    expect(await Keyed.findOne()).toMatchObject({ secret: 'under a new key' })
  })
})

describe.runIf(hasMongo() && mongoCan('transactions'))('transactions on a pool of 2', () => {
  const clinic = useClinic({ tenancy: 'multi' })
  const database = useMongoDatabase()
  const opened: mongoose.Mongoose[] = []
  afterEach(async () => {
    for (const own of opened.splice(0)) await own.disconnect()
  })

  it('20 of them that wait for cold keys do not wait for each other', async () => {
    const own = new mongoose.Mongoose()
    opened.push(own)
    own.plugin(fieldsealPlugin as never, { fieldseal: clinic.fieldseal })
    await own.connect(database.uri, { monitorCommands: true, maxPoolSize: 2 })
    const Cold = own.model(
      'Cold',
      new Schema({ clinic: String, note: { type: String, encrypted: true } }, { encrypted: { tenantBy: 'clinic' } }),
    ) as unknown as LooseModel
    await Cold.createCollection()
    await Promise.all(
      Array.from({ length: 20 }, (_unused, at) =>
        clinic.fieldseal.runAs({ tenant: `clinic-${at}` }, async () => {
          const session = await own.startSession()
          await session.withTransaction(() => Cold.create([{ clinic: `clinic-${at}`, note: 'cold' }], { session }))
          await session.endSession()
        }),
      ),
    )
    expect(
      await clinic.fieldseal.runAs({ tenant: 'clinic-3' }, () => Cold.find({ clinic: 'clinic-3' }).lean()),
    ).toMatchObject([{ note: 'cold' }])
  })
})
