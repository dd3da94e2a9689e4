import { createFieldseal, type Fieldseal, type FieldsealOptions } from '@fieldseal/core'
import { sealedTexts } from '@fieldseal/config/sealed-texts'
import type { RecordSource } from '@fieldseal/core/adapter'
import { recordingProxy } from '@fieldseal/servers'
import { useMongoDatabase } from '@fieldseal/servers/vitest'
import { fakeKms, leakOracle, type FakeKms, type LeakHit } from '@fieldseal/testkit'
import mongoose, { type ConnectOptions, type Connection, type Mongoose } from 'mongoose'
import { afterAll, afterEach, beforeAll, expect } from 'vitest'
import { fieldsealPlugin, mongoKeyStore, type FieldsealPluginOptions } from '../../src/index.ts'

/** A model whose documents a test may read and write without their types. */
export type LooseModel = Connection['models'][string]
type Tenancy = 'single' | 'multi'
type RecordingProxy = Awaited<ReturnType<typeof recordingProxy>>

/** A running application: one Mongoose, one connection through a recording proxy, one Fieldseal, one CMK for all tenants. */
export interface Clinic<T extends Tenancy> {
  readonly mongoose: Mongoose
  readonly connection: Connection
  readonly fieldseal: Fieldseal<T>
  readonly kms: FakeKms
  /** Where registered secrets are found in what a record source reads. */
  leaksIn(source: RecordSource): Promise<readonly LeakHit[]>
  /** Registers a plaintext that must never be seen outside of the process, and returns it. */
  secret(text: string): string
  model(schema: unknown, name?: string): LooseModel
  /** The documents as they are stored, read by the driver past everything of ours. */
  stored(model: LooseModel): Promise<mongoose.mongo.Document[]>
  /** The driver's collection of a model on a connection of its own, as anybody has it who can write to the database. */
  direct(model: LooseModel): mongoose.mongo.Collection
}

export interface ClinicOptions<T extends Tenancy> {
  readonly tenancy: T
  readonly fieldseal?: Partial<FieldsealOptions<T>>
  readonly registration?: Partial<FieldsealPluginOptions>
  readonly connect?: ConnectOptions
  /** The tests send or store plaintext themselves, past the adapter: only registered secrets are searched. */
  readonly sendsPlaintext?: boolean
}

let applications = 0

/**
 * Starts a clinic for the test file or `describe` it is called in. After every test, whatever was registered as secret,
 * sealed or looked for is searched in every byte that was sent since and in every stored document.
 */
export function useClinic<T extends Tenancy>(options: ClinicOptions<T>): Clinic<T> {
  const database = useMongoDatabase()
  let started:
    | (Omit<Clinic<T>, 'secret' | 'leaksIn' | 'model' | 'stored' | 'direct'> & {
        readonly proxy: RecordingProxy
        readonly direct: Connection
        readonly texts: ReadonlySet<string>
      })
    | undefined
  const clinic = () => {
    if (started === undefined) throw new Error('the clinic exists only in hooks and tests')
    return started
  }
  let models = 0
  const secrets = new Set<string>()
  const newOracle = () => {
    const oracle = leakOracle({ taps: 'none' })
    const sealed = options.sendsPlaintext === true ? [] : clinic().texts
    for (const secret of [...secrets, ...sealed]) oracle.canary(secret)
    return oracle
  }
  beforeAll(async () => {
    const proxy = await recordingProxy(database.uri)
    const kms = fakeKms()
    const fieldseal = createFieldseal<T>({
      app: `test-${++applications}`,
      tenancy: options.tenancy,
      keyStore: mongoKeyStore(database.uri),
      keys: { cmks: [kms.cmk('test-key')] },
      ...options.fieldseal,
    } as FieldsealOptions<T>) // a set of CMKs fits both tenancies
    const texts = sealedTexts(fieldseal)
    const own = new mongoose.Mongoose()
    own.plugin(fieldsealPlugin as never, { fieldseal, ...options.registration })
    await own.connect(proxy.uri, { monitorCommands: true, ...options.connect })
    const direct = await mongoose.createConnection(database.uri).asPromise()
    started = {
      mongoose: own,
      connection: own.connection,
      fieldseal,
      kms,
      texts,
      proxy,
      direct,
    }
  })
  afterEach(async () => {
    const { proxy, direct } = clinic()
    await using oracle = newOracle()
    for (const bytes of proxy.bytesSent()) oracle.observe(bytes, 'sent')
    proxy.clear()
    for (const { name } of await direct.listCollections())
      for (const document of await direct.collection(name).find().toArray())
        oracle.observe(mongoose.mongo.BSON.serialize(document), `stored in ${name}`)
    expect(await oracle.hits()).toEqual([])
  })
  afterAll(async () => {
    const { fieldseal, mongoose: own, proxy, direct } = clinic()
    await own.disconnect()
    await fieldseal.close()
    await direct.close()
    await proxy.close()
  })
  return {
    get mongoose() {
      return clinic().mongoose
    },
    get connection() {
      return clinic().connection
    },
    get fieldseal() {
      return clinic().fieldseal
    },
    get kms() {
      return clinic().kms
    },
    async leaksIn(source) {
      await using oracle = newOracle()
      return oracle.hits({ stored: [source] })
    },
    secret(text) {
      secrets.add(text)
      return text
    },
    model: (schema, name = `Model${++models}`) => clinic().connection.model(name, schema as never) as LooseModel,
    direct: (model) =>
      clinic().direct.collection(model.collection.collectionName) as unknown as mongoose.mongo.Collection,
    stored: (model) => clinic().direct.collection(model.collection.collectionName).find().toArray(),
  }
}
