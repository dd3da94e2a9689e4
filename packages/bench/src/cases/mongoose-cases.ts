import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { fieldsealPlugin, mongoKeyStore } from '@fieldseal/mongoose'
import mongoose, { Schema, type Mongoose } from 'mongoose'
import { benchFieldseal } from '../clinic.ts'
import type { BenchGroup } from '../harness.ts'
import { rawRows } from '../raw-crypto.ts'

const SECRETS = ['a', 'b', 'c', 'd', 'e'] as const
const FOUND = 1_000
const INSERTED = 100
const STREAMED = 10_000
/** What 32 bytes become: an envelope. */
const ENVELOPE_BYTES = 144
const VALUE = 'x'.repeat(32)

/** A model whose documents are read and written without their types. */
type Loose = Mongoose['models'][string]
type Which = 'plain' | 'transport' | 'sealed' | 'unguarded' | 'peer'

export interface MongooseBench {
  readonly groups: readonly BenchGroup[]
  close(): Promise<void>
}

/**
 * Mongoose: plain text; transport only (as many bytes as our ciphertext, no cryptography); the floor, which is transport
 * plus the same number of raw node:crypto calls; Fieldseal with its wire guard, and without; and mongoose-field-encryption.
 */
export async function mongooseBench(uri: string): Promise<MongooseBench> {
  const fieldseal = benchFieldseal(mongoKeyStore(uri))
  const guarded = new mongoose.Mongoose()
  const unguarded = new mongoose.Mongoose()
  const models: Record<Which, Loose> = {
    plain: modelOf(unguarded, 'Plain', schemaOf(String)),
    transport: modelOf(unguarded, 'Transport', schemaOf(Buffer)),
    peer: withPeer(unguarded),
    unguarded: modelOf(unguarded, 'Unguarded', sealedSchema(fieldseal, 'off')),
    sealed: modelOf(guarded, 'Sealed', sealedSchema(fieldseal, 'enforce')),
  }
  await guarded.connect(uri, { monitorCommands: true, maxPoolSize: 4 })
  await unguarded.connect(uri, { maxPoolSize: 4 })
  const ids = {} as Record<Which, unknown>
  for (const [which, model] of Object.entries(models) as [Which, Loose][]) {
    await model.init()
    await model.deleteMany({})
    const rows = documentsOf(FOUND, which)
    if (which === 'peer') for (const row of rows) await model.create(row)
    else await model.insertMany(rows)
    ids[which] = (await model.findOne())?._id
  }
  for (const which of ['plain', 'transport', 'sealed', 'unguarded'] as const) {
    const many = streamed(which, guarded, unguarded, fieldseal)
    await many.deleteMany({})
    for (let at = 0; at < STREAMED; at += FOUND) await many.insertMany(documentsOf(FOUND, which), { lean: true })
  }
  const crypto = rawRows(VALUE, SECRETS.length)
  const gate = async () => {
    for (const which of ['sealed', 'unguarded', 'peer'] as const) {
      const found = await models[which].find().limit(3)
      if (found.length !== 3 || found.some((row) => row['b'] !== VALUE || row['e'] !== VALUE))
        throw new Error(`find of ${which} gave other values`)
    }
    const stored = await unguarded.connection.collection(models.sealed.collection.collectionName).findOne()
    const bytes: unknown = Reflect.get(Object(stored?.['a']), 'position')
    if (bytes !== ENVELOPE_BYTES)
      throw new Error(`transport carries ${ENVELOPE_BYTES} bytes, ciphertext has ${String(bytes)}`)
  }

  function group(
    name: string,
    unit: string,
    unitsPerRun: number,
    run: (which: Which) => Promise<unknown>,
    cryptography: () => void,
    { goals = {}, peer = true, floor = FLOOR }: { goals?: Record<string, number>; peer?: boolean; floor?: string } = {},
  ): BenchGroup {
    return {
      name,
      unit,
      unitsPerRun,
      floor,
      goals,
      gate,
      cases: [
        { name: 'plain', run: () => run('plain') },
        { name: 'transport only', run: () => run('transport') },
        {
          name: FLOOR,
          run: async () => {
            await run('transport')
            cryptography()
          },
        },
        { name: 'fieldseal', run: () => run('sealed') },
        { name: 'fieldseal, guard off', run: () => run('unguarded') },
        ...(peer ? [{ name: PEER, run: () => run('peer') }] : []),
      ],
    }
  }

  return {
    groups: [
      group(
        'Mongoose find 1,000',
        'row',
        FOUND,
        (which) => models[which].find().limit(FOUND).exec(),
        () => crypto.open(FOUND),
        {
          goals: { fieldseal: 1.3 },
        },
      ),
      group(
        'Mongoose find 1,000 lean',
        'row',
        FOUND,
        (which) => models[which].find().limit(FOUND).lean().exec(),
        () => crypto.open(FOUND),
        { peer: false },
      ),
      group(
        'Mongoose findOne',
        'call',
        1,
        (which) => models[which].findById(ids[which]).exec(),
        () => crypto.open(1),
        {
          goals: { 'fieldseal, guard off': 1.3 },
          floor: 'plain',
        },
      ),
      group(
        'Mongoose insertMany 100',
        'row',
        INSERTED,
        async (which) => {
          await models[which].insertMany(documentsOf(INSERTED, which))
        },
        () => crypto.seal(INSERTED),
        { goals: { fieldseal: 1.3 }, peer: false },
      ),
      group(
        'Mongoose save',
        'call',
        1,
        async (which) => {
          const document = await models[which].findById(ids[which])
          document?.set('a', which === 'transport' ? randomBytes(ENVELOPE_BYTES) : randomBytes(16).toString('hex'))
          await document?.save()
        },
        () => {
          crypto.open(1)
          crypto.seal(1)
        },
        { peer: false },
      ),
      group(
        'Mongoose cursor over 10,000',
        'row',
        STREAMED,
        async (which) => {
          let count = 0
          for await (const _document of streamed(which, guarded, unguarded, fieldseal).find().lean().cursor()) count++
          if (count !== STREAMED) throw new Error(`the cursor gave ${count} documents`)
        },
        () => crypto.open(STREAMED),
        { peer: false },
      ),
    ],
    async close() {
      await guarded.connection.dropDatabase()
      await guarded.disconnect()
      await unguarded.disconnect()
      await fieldseal.close()
    },
  }
}

const FLOOR = 'floor: transport + raw crypto'
const PEER = 'mongoose-field-encryption 7.0.1'

function schemaOf(type: typeof String | typeof Buffer): Schema {
  return new Schema({
    n1: Number,
    n2: Number,
    t1: String,
    t2: String,
    ...Object.fromEntries(SECRETS.map((name) => [name, type])),
  })
}

function sealedSchema(fieldseal: ReturnType<typeof benchFieldseal>, guard: 'enforce' | 'off'): Schema {
  const secrets = SECRETS.map((name) => [name, { type: String, encrypted: true }])
  const schema = new Schema({ n1: Number, n2: Number, t1: String, t2: String, ...Object.fromEntries(secrets) })
  schema.plugin(fieldsealPlugin, { fieldseal, guard })
  return schema
}

/** The peer keeps a marker beside each field and encrypts with one key in hooks. */
function withPeer(own: Mongoose): Loose {
  const { fieldEncryption } = createRequire(import.meta.url)('mongoose-field-encryption') as {
    readonly fieldEncryption: never
  }
  const schema = schemaOf(String)
  schema.plugin(fieldEncryption, { fields: [...SECRETS], secret: randomBytes(32).toString('hex') } as never)
  return modelOf(own, 'Peer', schema)
}

function streamed(
  which: Which,
  guarded: Mongoose,
  unguarded: Mongoose,
  fieldseal: ReturnType<typeof benchFieldseal>,
): Loose {
  const own = which === 'sealed' ? guarded : unguarded
  const name = `Streamed_${which}`
  if (own.models[name] !== undefined) return own.models[name] as Loose
  const schema =
    which === 'sealed' || which === 'unguarded'
      ? sealedSchema(fieldseal, which === 'sealed' ? 'enforce' : 'off')
      : schemaOf(which === 'transport' ? Buffer : String)
  return modelOf(own, name, schema)
}

function documentsOf(count: number, which: Which): Record<string, unknown>[] {
  const secret = which === 'transport' ? Buffer.alloc(ENVELOPE_BYTES, 1) : VALUE
  return Array.from({ length: count }, (_unused, i) => ({
    n1: i,
    n2: i * 2,
    t1: `first ${i}`,
    t2: `second ${i}`,
    ...Object.fromEntries(SECRETS.map((name) => [name, secret])),
  }))
}

function modelOf(own: Mongoose, name: string, schema: Schema): Loose {
  return own.model(name, schema as never) as unknown as Loose // its documents have no types here
}
