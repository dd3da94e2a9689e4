import {
  FieldsealError,
  isFieldsealError,
  keyspaceOf,
  recordFromJson,
  recordToJson,
  slotOf,
  type KeyStore,
  type KeyStoreRecord,
} from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'

export interface MongoKeyStoreOptions {
  /** Collection of the key records. @defaultValue 'fieldseal_keys' */
  readonly collection?: string
  /** Database, where the uri names none or another. @defaultValue the uri's */
  readonly database?: string
  /** Options of the store's own client: TLS, credentials, pool size. @defaultValue a pool of 2 */
  readonly client?: mongo.MongoClientOptions
}

/** A key record as a document: what is asked for stands beside the record's text. */
interface StoredRecord {
  readonly _id: string
  readonly slot: string
  readonly kind: string
  readonly app: string
  readonly tenant: string
  readonly keyspace: string
  readonly rowVersion: number
  readonly record: string
}

const DEFAULT_COLLECTION = 'fieldseal_keys'
const DUPLICATE_KEY = 11000
const MAJORITY = {
  readConcern: new mongo.ReadConcern('majority'),
  writeConcern: new mongo.WriteConcern('majority'),
  readPreference: mongo.ReadPreference.primary,
}

/**
 * Key records in a collection of the application's database, over a client of its own: a key is used only once its
 * record is on a majority, whatever becomes of the caller's session. The collection and its unique index are made when
 * they are missing.
 *
 * @param uri connection string of the database
 * @throws FieldsealError ERR_CONFIG_INVALID for a uri that is none
 */
export function mongoKeyStore(uri: string, options: MongoKeyStoreOptions = {}): KeyStore {
  const { collection: name = DEFAULT_COLLECTION } = options
  const client = clientOf(uri, options)
  let prepared: Promise<mongo.Collection<StoredRecord>> | undefined

  async function prepare(): Promise<mongo.Collection<StoredRecord>> {
    await client.connect()
    const collection = client.db(options.database, MAJORITY).collection<StoredRecord>(name, MAJORITY)
    await collection.createIndex({ slot: 1 }, { unique: true, name: 'fieldseal_slot' })
    await collection.createIndex({ app: 1, tenant: 1, keyspace: 1 }, { name: 'fieldseal_keyspace' })
    return collection
  }
  async function use<R>(run: (collection: mongo.Collection<StoredRecord>) => Promise<R>): Promise<R> {
    try {
      // A client that could not connect tries again with the next call.
      prepared ??= prepare().catch((error: unknown) => {
        prepared = undefined
        throw error
      })
      return await run(await prepared)
    } catch (error) {
      throw unavailable(error)
    }
  }
  const read = (filter: mongo.Filter<StoredRecord>) =>
    use(async (collection) => (await collection.find(filter).toArray()).map(({ record }) => recordFromJson(record)))

  return {
    find: async (ids) => (ids.length === 0 ? [] : read({ _id: { $in: [...ids] } })),
    load: async (keyspaces) =>
      keyspaces.length === 0
        ? []
        : read({ $or: keyspaces.map(({ app, tenant, keyspace }) => ({ app, tenant, keyspace })) }),
    insert: (record) =>
      use(async (collection) => {
        try {
          await collection.insertOne(documentOf(record))
          return 'inserted'
        } catch (error) {
          if (isDuplicate(error)) return 'exists'
          throw error
        }
      }),
    update: (record) =>
      use(async (collection) => {
        const filter = { _id: record.id, rowVersion: record.rowVersion - 1 }
        const { matchedCount } = await collection.replaceOne(filter, documentOf(record))
        return matchedCount === 1 ? 'updated' : 'changed'
      }),
    async *list({ app, tenant, cmk }) {
      const records = await use(async (collection) => {
        const filter = { app, ...(tenant === undefined ? {} : { tenant }) }
        return collection.find(filter).sort({ _id: 1 })
      })
      try {
        for await (const { record } of records) {
          const parsed = recordFromJson(record)
          if (cmk === undefined || namesCmk(parsed, cmk)) yield parsed
        }
      } catch (error) {
        throw unavailable(error)
      }
    },
    async close() {
      prepared = undefined
      await client.close()
    },
  }
}

function clientOf(uri: string, { client = {} }: MongoKeyStoreOptions): mongo.MongoClient {
  try {
    return new mongo.MongoClient(uri, { maxPoolSize: 2, ...client })
  } catch {
    // The driver's text may quote the uri, and with it a password.
    throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'uri', reason: 'no MongoDB connection string' })
  }
}

function documentOf(record: KeyStoreRecord): StoredRecord {
  return {
    _id: record.id,
    slot: slotOf(record),
    kind: record.kind,
    app: record.app,
    tenant: record.tenant,
    keyspace: keyspaceOf(record),
    rowVersion: record.rowVersion,
    record: recordToJson(record),
  }
}

function namesCmk(record: KeyStoreRecord, cmk: string): boolean {
  if (record.kind === 'direct') return record.uri === cmk
  return record.kind === 'kek' && record.wraps.some(({ uri }) => uri === cmk)
}

function isDuplicate(error: unknown): boolean {
  return error instanceof mongo.MongoServerError && error.code === DUPLICATE_KEY
}

function unavailable(error: unknown): FieldsealError {
  if (isFieldsealError(error)) return error as FieldsealError
  const code: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, 'code') : undefined
  return new FieldsealError(
    'ERR_KEY_STORE_UNAVAILABLE',
    typeof code === 'number' || typeof code === 'string' ? { vendorCode: String(code) } : {},
  )
}
