import { spawn } from 'node:child_process'
import { createFieldseal } from '@fieldseal/core'
import { hasMongo, useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms, keyStoreConformance } from '@fieldseal/testkit'
import mongoose, { Schema } from 'mongoose'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { fieldsealPlugin, mongoKeyStore } from '../src/index.ts'
import type { LooseModel } from './support/clinic.ts'

const REF = { app: 'a', tenant: 't', keyspace: 'default' }

describe.runIf(hasMongo())('key store', () => {
  const database = useMongoDatabase()
  let stores = 0
  keyStoreConformance({
    describe,
    it,
    async create() {
      const collection = `keys_${++stores}`
      const [store, second] = [mongoKeyStore(database.uri, { collection }), mongoKeyStore(database.uri, { collection })]
      return {
        store,
        second,
        async close() {
          await store.close?.()
          await second.close?.()
        },
      }
    },
  })

  it('many processes make the collection and its indexes at the same time', async () => {
    const racers = Array.from({ length: 6 }, () => mongoKeyStore(database.uri, { collection: 'raced' }))
    expect(await Promise.all(racers.map((store) => store.load([REF])))).toEqual(racers.map(() => []))
    await Promise.all(racers.map(async (store) => store.close?.()))
  })

  it('two processes make one KEK', async () => {
    const script = path.join(import.meta.dirname, 'support/seal-once.ts')
    const run = (name: string) =>
      new Promise<string>((resolve, reject) => {
        const child = spawn(
          process.execPath,
          ['--conditions=@fieldseal/source', '--no-warnings', script, database.uri, name],
          { stdio: ['ignore', 'pipe', 'pipe'] },
        )
        const output: Buffer[] = []
        const errors: Buffer[] = []
        child.stdout.on('data', (chunk: Buffer) => output.push(chunk))
        child.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
        child.on('error', reject)
        child.on('exit', (code) =>
          code === 0 ? resolve(Buffer.concat(output).toString()) : reject(new Error(Buffer.concat(errors).toString())),
        )
      })
    const [one, two] = await Promise.all([run('one'), run('two')])
    expect(one).toMatch(/^[\da-f]{24}$/)
    expect(two).toBe(one)
    const direct = await mongoose.createConnection(database.uri).asPromise()
    expect(await direct.collection('fieldseal_keys').countDocuments({ app: 'two-processes' })).toBe(1)
    await direct.close()
  })

  it('two instances that meet at one cold keyspace make one KEK, and read what the other wrote', async () => {
    const kms = fakeKms()
    const instances = await Promise.all(
      [1, 2].map(async () => {
        const fieldseal = createFieldseal({
          app: 'met',
          tenancy: 'single',
          keyStore: mongoKeyStore(database.uri, { collection: 'met' }),
          keys: { cmks: [kms.cmk('key')] },
        })
        const own = new mongoose.Mongoose()
        own.plugin(fieldsealPlugin as never, { fieldseal })
        await own.connect(database.uri, { monitorCommands: true })
        const Model = own.model('Met', new Schema({ note: { type: String, encrypted: true } })) as unknown as LooseModel
        return { fieldseal, own, Model }
      }),
    )
    await Promise.all(instances.map(({ Model }, at) => Model.create({ note: `note of ${at}` })))
    const [{ own }] = instances as [(typeof instances)[number]]
    expect(await own.connection.db?.collection('met').countDocuments()).toBe(1)
    for (const { Model } of instances) {
      const notes = (await Model.find().lean()).map(({ note }) => String(note))
      expect(notes.toSorted()).toEqual(['note of 0', 'note of 1'])
    }
    for (const each of instances) {
      await each.own.disconnect()
      await each.fieldseal.close()
    }
  })

  it('a server that does not answer is unavailability, and the error has nothing of the connection string', async () => {
    const store = mongoKeyStore('mongodb://user:pw-canary@127.0.0.1:1/db', {
      client: { serverSelectionTimeoutMS: 200 },
    })
    const error: unknown = await store.load([REF]).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'ERR_KEY_STORE_UNAVAILABLE', kind: 'unavailable' })
    expect(`${String(error)} ${JSON.stringify(error)} ${String((error as Error).stack)}`).not.toContain('canary')
    await store.close?.()
  })

  it('a text that is no connection string is an error without the text', () => {
    let error: unknown
    try {
      mongoKeyStore('postgres://user:pw-canary@host')
    } catch (thrown) {
      error = thrown
    }
    expect(error).toMatchObject({ code: 'ERR_CONFIG_INVALID', details: { field: 'uri' } })
    expect(`${String(error)} ${JSON.stringify(error)}`).not.toContain('canary')
  })

  it('works again once the server answers again', async () => {
    const store = mongoKeyStore(database.uri, { collection: 'again' })
    await store.close?.()
    expect(await store.load([REF])).toEqual([])
    await store.close?.()
  })

  it('opens no connection before it is used, and no more than it was told', async () => {
    const own = await new mongoose.mongo.MongoClient(database.uri).connect()
    const store = mongoKeyStore(database.uri, { collection: 'pooled' })
    await Promise.all(Array.from({ length: 20 }, () => store.load([REF])))
    expect((await own.db().listCollections({ name: 'pooled' }).toArray()).length).toBe(1)
    await store.close?.()
    await own.close()
  })

  it('keeps its records in the database and the collection that it is told', async () => {
    const other = `${database.name}_keys`
    const store = mongoKeyStore(database.uri, { database: other, collection: 'vault' })
    await store.load([REF])
    const own = await new mongoose.mongo.MongoClient(database.uri).connect()
    const indexes = await own.db(other).collection('vault').indexes()
    expect(indexes.map(({ name }) => String(name)).toSorted()).toEqual(['_id_', 'fieldseal_keyspace', 'fieldseal_slot'])
    expect(indexes.find(({ name }) => name === 'fieldseal_slot')?.unique).toBe(true)
    await own.db(other).dropDatabase()
    await own.close()
    await store.close?.()
  })
})
