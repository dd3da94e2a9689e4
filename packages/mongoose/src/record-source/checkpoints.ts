import type { CheckpointStore } from '@fieldseal/core/adapter'
import { mongo, type Connection } from 'mongoose'

const COLLECTION = 'fieldseal_checkpoints'
const DUPLICATE_KEY = 11000
const MAJORITY = {
  readConcern: new mongo.ReadConcern('majority'),
  writeConcern: new mongo.WriteConcern('majority'),
  readPreference: mongo.ReadPreference.primary,
}

interface StoredCheckpoint {
  readonly _id: string
  readonly version: number
  readonly state: mongo.Binary
}

/** Job checkpoints beside the data. */
export function createCheckpoints(connection: Connection): CheckpointStore {
  async function collection(): Promise<mongo.Collection<StoredCheckpoint>> {
    await connection.asPromise()
    return (connection.db as mongo.Db).collection<StoredCheckpoint>(COLLECTION, MAJORITY) // a connected one has it
  }
  return {
    async load(job) {
      const found = await (await collection()).findOne({ _id: job }, { promoteBuffers: false })
      return found === null ? undefined : { version: found.version, state: Uint8Array.from(found.state.value()) }
    },
    async save(job, version, state) {
      const document = { _id: job, version, state: new mongo.Binary(state) }
      const checkpoints = await collection()
      if (version > 1) {
        const { matchedCount } = await checkpoints.replaceOne({ _id: job, version: version - 1 }, document)
        return matchedCount === 1 ? 'saved' : 'changed'
      }
      try {
        await checkpoints.insertOne(document)
        return 'saved'
      } catch (error) {
        if (error instanceof mongo.MongoServerError && error.code === DUPLICATE_KEY) return 'changed'
        throw error
      }
    },
  }
}
