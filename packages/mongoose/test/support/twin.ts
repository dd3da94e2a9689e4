import { useMongoDatabase } from '@fieldseal/servers/vitest'
import mongoose, { type Connection, type Schema } from 'mongoose'
import { afterAll, beforeAll } from 'vitest'
import type { Clinic, LooseModel } from './clinic.ts'

/** How a schema declares a value that one twin encrypts and the other keeps plain. */
export type Sealing = (options?: Record<string, unknown> | true) => Record<string, unknown>

/** A model with encrypted paths and one without, otherwise alike. */
export interface Twins {
  readonly sealed: LooseModel
  readonly plain: LooseModel
  /** Puts the same documents into both. */
  insert(documents: readonly Record<string, unknown>[]): Promise<void>
  /** What the same work gives on either, in that order. */
  both<R>(work: (model: LooseModel) => Promise<R> | PromiseLike<R>): Promise<readonly [R, R]>
}

/** A second database, past the recording proxy, for models that store plaintext. */
export function usePlainConnection(): { readonly connection: Connection } {
  const database = useMongoDatabase()
  let connection: Connection | undefined
  beforeAll(async () => {
    connection = await mongoose.createConnection(database.uri).asPromise()
  })
  afterAll(() => connection?.close())
  return {
    get connection() {
      if (connection === undefined) throw new Error('the connection exists only in hooks and tests')
      return connection
    },
  }
}

let twins = 0

/** @param define makes the schema; what it passes through `seal` is encrypted in one twin */
export function twinsOf(
  clinic: Clinic<'single'>,
  { connection }: { readonly connection: Connection },
  define: (seal: Sealing) => Schema,
): Twins {
  const name = `Twin${++twins}`
  const sealed = clinic.model(
    define((options) => ({ encrypted: options ?? true })),
    name,
  )
  const plain = connection.model(name, define(() => ({})) as never) as LooseModel
  return {
    sealed,
    plain,
    async insert(documents) {
      for (const model of [sealed, plain]) {
        await model.createCollection()
        await model.init()
        await model.insertMany(documents)
      }
    },
    both: async (work) => [await work(sealed), await work(plain)],
  }
}
