import { MongoServerError, type Db, type MongoClient } from 'mongodb'
import { newDatabaseName } from './mongo-database.ts'

/** What a server can do, by having tried it. Tests are gated by these, never by the server's name. */
export interface MongoCapabilities {
  /** Transactions over several documents. */
  readonly transactions: boolean
  readonly changeStreams: boolean
  /** Refuses documents by a collection's `$jsonSchema`. */
  readonly jsonSchema: boolean
  /** Indexes with a collation. */
  readonly indexCollations: boolean
  /** `MongoClient#bulkWrite`. */
  readonly clientBulkWrite: boolean
}

export interface MongoFacts {
  readonly engine: 'MongoDB' | 'DocumentDB'
  /** As the server says it: `8.0.4`; of DocumentDB its own. */
  readonly version: string
  readonly capabilities: MongoCapabilities
}

const DOCUMENT_VALIDATION_FAILURE = 121

/** Asks a server what it is, and tries what it can do in a database that it drops again. */
export async function inspectMongo(client: MongoClient): Promise<MongoFacts> {
  const info = await client.db('admin').command({ buildInfo: 1 })
  const documentDb: unknown = info['documentdb']
  const db = client.db(newDatabaseName())
  try {
    await db.createCollection('plain')
    return {
      engine: documentDb === undefined ? 'MongoDB' : 'DocumentDB',
      version: String(documentDb ?? info['version']),
      capabilities: {
        transactions: await works(() => commitOne(client, db)),
        changeStreams: await works(() =>
          db.command({ aggregate: 'plain', pipeline: [{ $changeStream: {} }], cursor: {} }),
        ),
        jsonSchema: await works(() => refusesBySchema(db)),
        indexCollations: await works(() =>
          db.createIndex('plain', { a: 1 }, { collation: { locale: 'en', strength: 2 } }),
        ),
        clientBulkWrite: await works(() =>
          client.bulkWrite([{ namespace: `${db.databaseName}.plain`, name: 'insertOne', document: {} }]),
        ),
      },
    }
  } finally {
    await db.dropDatabase()
  }
}

async function works(action: () => Promise<unknown>): Promise<boolean> {
  try {
    return (await action()) !== false
  } catch {
    return false
  }
}

async function commitOne(client: MongoClient, db: Db): Promise<void> {
  await client.withSession((session) =>
    session.withTransaction(() => db.collection('plain').insertOne({}, { session })),
  )
}

async function refusesBySchema(db: Db): Promise<boolean> {
  const validator = { $jsonSchema: { required: ['a'] } }
  const checked = await db.createCollection('checked', { validator })
  try {
    await checked.insertOne({ b: 1 })
    return false
  } catch (error) {
    return error instanceof MongoServerError && error.code === DOCUMENT_VALIDATION_FAILURE
  }
}
