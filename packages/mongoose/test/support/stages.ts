import { createFieldseal, type Fieldseal, type FieldsealOptions } from '@fieldseal/core'
import type { FieldState } from '@fieldseal/core/adapter'
import { useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms, memoryKeyStore } from '@fieldseal/testkit'
import mongoose, { type Connection, type Schema } from 'mongoose'
import { afterAll, beforeAll } from 'vitest'
import { fieldsealPlugin } from '../../src/index.ts'
import type { LooseModel } from './clinic.ts'

export const STATES = ['plaintext', 'migrating', 'encrypted'] as const satisfies readonly FieldState[]

/** One collection as each deploy of an application declares it. */
export type Deploys = Readonly<Record<FieldState, LooseModel>>

/** An application in the three states of its fields at once: processes of each deploy beside each other, on one database. */
export interface Stages<T extends 'single' | 'multi'> {
  readonly fieldseals: Readonly<Record<FieldState, Fieldseal<T>>>
  readonly connections: Readonly<Record<FieldState, Connection>>
  readonly uri: string
  /** The models of a new collection. */
  deploy(schemaOf: (state: FieldState) => Schema): Deploys
  /** The collection past everything of ours. */
  direct(deploys: Deploys): mongoose.mongo.Collection
}

export function useStages<T extends 'single' | 'multi'>(tenancy: T): Stages<T> {
  const database = useMongoDatabase()
  let started: Omit<Stages<T>, 'deploy' | 'direct'> & { readonly past: Connection }
  let collections = 0
  beforeAll(async () => {
    const keyStore = memoryKeyStore()
    const keys = { cmks: [fakeKms().cmk('test-key')] }
    const open = async () => {
      const fieldseal = createFieldseal<T>({ app: 'stages', tenancy, keyStore, keys } as FieldsealOptions<T>) // a set of CMKs fits both tenancies
      const connection = mongoose.createConnection(database.uri, { monitorCommands: true })
      connection.plugin(fieldsealPlugin as never, { fieldseal })
      return { fieldseal, connection: await connection.asPromise() }
    }
    const [plaintext, migrating, encrypted] = [await open(), await open(), await open()]
    started = {
      uri: database.uri,
      fieldseals: {
        plaintext: plaintext.fieldseal,
        migrating: migrating.fieldseal,
        encrypted: encrypted.fieldseal,
      },
      connections: {
        plaintext: plaintext.connection,
        migrating: migrating.connection,
        encrypted: encrypted.connection,
      },
      past: await mongoose.createConnection(database.uri).asPromise(),
    }
  })
  afterAll(async () => {
    const { connections, past, fieldseals } = started
    for (const fieldseal of Object.values(fieldseals)) await fieldseal.close()
    for (const connection of [...Object.values(connections), past]) await connection.close()
  })
  return {
    get fieldseals() {
      return started.fieldseals
    },
    get connections() {
      return started.connections
    },
    get uri() {
      return started.uri
    },
    deploy(schemaOf) {
      const name = `staged_${++collections}`
      const make = (state: FieldState) =>
        started.connections[state].model(name, schemaOf(state) as never, name) as LooseModel
      return { plaintext: make('plaintext'), migrating: make('migrating'), encrypted: make('encrypted') }
    },
    direct: ({ plaintext }) =>
      started.past.collection(plaintext.collection.collectionName) as unknown as mongoose.mongo.Collection,
  }
}
