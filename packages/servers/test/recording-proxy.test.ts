import { MongoClient } from 'mongodb'
import pg from 'pg'
import { describe, expect, it } from 'vitest'
import { recordingProxy } from '../src/recording-proxy.ts'
import { hasMongo, hasPostgres, useDatabase, useMongoDatabase } from '../vitest/index.ts'

const CANARY = 'canary-7f3a'
const holds = (buffers: readonly Buffer[]) => buffers.some((buffer) => buffer.includes(CANARY))

describe.runIf(hasMongo())('a recording proxy before MongoDB', () => {
  const database = useMongoDatabase()

  it('keeps what a client sends, and forgets it when told to', async () => {
    const proxy = await recordingProxy(database.uri)
    const client = await new MongoClient(proxy.uri).connect()
    await client.db().collection('c').insertOne({ a: 1 })
    expect(holds(proxy.bytesSent())).toBe(false)
    await client.db().collection('c').insertOne({ a: CANARY })
    expect(holds(proxy.bytesSent())).toBe(true)
    proxy.clear()
    // What the server sends back is not kept.
    expect(await client.db().collection('c').countDocuments()).toBe(2)
    expect((await client.db().collection('c').find().toArray())[1]).toMatchObject({ a: CANARY })
    expect(holds(proxy.bytesSent())).toBe(false)
    await client.close()
    await proxy.close()
  })
})

describe.runIf(hasPostgres())('a recording proxy before PostgreSQL', () => {
  const database = useDatabase()

  it('keeps what a client sends, also in parameters', async () => {
    const proxy = await recordingProxy(database.url)
    const client = new pg.Client({ connectionString: proxy.uri })
    await client.connect()
    await client.query('SELECT 1')
    expect(holds(proxy.bytesSent())).toBe(false)
    await client.query('SELECT $1::text', [CANARY])
    expect(holds(proxy.bytesSent())).toBe(true)
    await client.end()
    await proxy.close()
  })
})
