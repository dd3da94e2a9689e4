import { randomUUID } from 'node:crypto'
import { MongoClient } from 'mongodb'
import { withDatabase } from './mongo-uri.ts'

export interface MongoDatabase {
  /** Connects to the server, with this database as the one to start with. */
  readonly uri: string
  readonly name: string
  /** Drops the database. */
  drop(): Promise<void>
}

/** Names a database that nobody uses; MongoDB makes it with its first collection. */
export function newMongoDatabase(serverUri: string): MongoDatabase {
  const name = newDatabaseName()
  return {
    name,
    uri: withDatabase(serverUri, name),
    async drop() {
      await withClient(serverUri, (client) => client.db(name).dropDatabase())
    },
  }
}

export function newDatabaseName(): string {
  return `fieldseal_${randomUUID().replaceAll('-', '')}`
}

/** Connects, runs `action`, and disconnects. */
export async function withClient<Result>(
  uri: string,
  action: (client: MongoClient) => Promise<Result>,
): Promise<Result> {
  const options = uri.includes('serverSelectionTimeoutMS') ? {} : { serverSelectionTimeoutMS: 5000 }
  const client = new MongoClient(uri, options)
  try {
    return await action(await client.connect())
  } finally {
    await client.close()
  }
}
