import { createFieldseal } from '@fieldseal/core'
import { fakeKms, memoryKeyStore } from '@fieldseal/testkit'
import mongoose, { Schema, type SchemaOptions, type Types } from 'mongoose'
import { afterAll, describe, expect, it } from 'vitest'
import { fieldsealPlugin } from '../src/index.ts'
import type { LooseModel } from './support/clinic.ts'

const made = <T extends 'single' | 'multi'>(tenancy: T) =>
  createFieldseal({ app: 'r', tenancy, keyStore: memoryKeyStore(), keys: { cmks: [fakeKms().cmk('k')] } } as never)
const [fieldseal, tenanted] = [made('single'), made('multi')]
afterAll(async () => {
  await fieldseal.close()
  await tenanted.close()
})

let models = 0
/** Compiles a model in a Mongoose of its own, without a connection. */
function compile(definition: object, options: object = {}, plugin: object = { fieldseal }) {
  const own = new mongoose.Mongoose()
  own.plugin(fieldsealPlugin as never, plugin)
  own.set('autoIndex', false)
  own.set('autoCreate', false)
  return own.model(
    `Registered${++models}`,
    new own.Schema(definition as never, options as SchemaOptions) as never,
  ) as unknown as LooseModel
}

const text = { type: String, encrypted: true }

describe('a schema that cannot be protected is refused when its model is made', () => {
  it.each<[string, object, object, RegExp]>([
    ['an encrypted _id', { _id: text }, {}, /_id.*the _id cannot be encrypted/],
    ['an encrypted path inside the _id', { _id: { a: text, b: String } }, {}, /_id.*the _id cannot be encrypted/],
    ['an encrypted version key', { v: { type: Number, encrypted: true } }, { versionKey: 'v' }, /v.*the version key/],
    ['an encrypted discriminator key', { kind: text }, { discriminatorKey: 'kind' }, /kind.*discriminator key/],
    [
      'an encrypted timestamp',
      { at: { type: Date, encrypted: true } },
      { timestamps: { createdAt: 'at' } },
      /at.*a timestamp/,
    ],
    ['an encrypted shard key', { region: text }, { shardKey: { region: 1 } }, /region.*the shard key/],
    ['a shard key above encrypted paths', { a: { b: text } }, { shardKey: { a: 1 } }, /a.*the shard key/],
    [
      'an encrypted time field',
      { at: { type: Date, encrypted: true } },
      { timeseries: { timeField: 'at' } },
      /at.*the time field/,
    ],
    [
      'an encrypted meta field',
      { at: Date, meta: { a: text } },
      { timeseries: { timeField: 'at', metaField: 'meta' } },
      /meta.*the meta field/,
    ],
    ['a path with our name', { __fieldseal: String, a: text }, {}, /__fieldseal/],
    ['a path below our name', { __fieldseal: { k: [Buffer] }, a: text }, {}, /__fieldseal/],
    ["MongoDB's own encryption beside ours", { a: text }, { encryptionType: 'csfle' }, /encryptionType/],
    ['an annotation of text', { a: { type: String, encrypted: 'yes' } }, {}, /a.*true or \{ blindIndex/],
    ['an annotation of null', { a: { type: String, encrypted: null } }, {}, /a.*true or \{ blindIndex/],
    ['an annotation of 1', { a: { type: String, encrypted: 1 } }, {}, /a.*true or \{ blindIndex/],
    ['an annotation that is a list', { a: { type: String, encrypted: [true] } }, {}, /a.*true or \{ blindIndex/],
    [
      'an unknown option',
      { a: { type: String, encrypted: { blindIndx: true } } },
      {},
      /a.*blindIndx: unknown option; known: blindIndex/,
    ],
    [
      'an unknown option of an index',
      { a: { type: String, encrypted: { blindIndex: { uniqe: true } } } },
      {},
      /a.*blindIndex.uniqe: unknown option; known: .*unique/,
    ],
    [
      'an unknown option of the model',
      { a: text },
      { encrypted: { tenntBy: 'x' } },
      /tenntBy: unknown option; known: .*tenantBy/,
    ],
    ['options of the model that are no object', { a: text }, { encrypted: true }, /options of a schema/],
    [
      'options of a model without an encrypted path',
      { a: String },
      { encrypted: { bindRow: 'never' } },
      /no encrypted path/,
    ],
    [
      'a blind index of a container',
      { a: { type: Map, of: String, encrypted: { blindIndex: true } } },
      {},
      /a.*type Map has no equality/,
    ],
    [
      'a blind index of an array as a whole',
      { a: { type: [String], encrypted: { blindIndex: true } } },
      {},
      /a.*type Array has no equality/,
    ],
    ['a blind index of Mixed', { a: { type: Schema.Types.Mixed, encrypted: { blindIndex: true } } }, {}, /no equality/],
    [
      'a blind index of a decimal',
      { a: { type: Schema.Types.Decimal128, encrypted: { blindIndex: true } } },
      {},
      /Decimal128 has no equality/,
    ],
    ['a blind index of a boolean', { a: { type: Boolean, encrypted: { blindIndex: true } } }, {}, /acceptLeak/],
    [
      'a unique index inside a Map',
      { a: { type: Map, of: { type: String, encrypted: { blindIndex: { unique: true } } } } },
      {},
      /a.*inside a Map/,
    ],
    ['a tenant in tenancy single', { a: text, t: String }, { encrypted: { tenantBy: 't' } }, /tenantBy/],
    ['an encrypted data subject', { a: text, p: text }, { encrypted: { keyspace: { per: 'p', of: 'x' } } }, /p/],
    [
      'a data subject of a type that has no id',
      { a: text, p: Date },
      { encrypted: { keyspace: { per: 'p', of: 'x' } } },
      /p.*a path of type/,
    ],
    [
      'a data subject that is no path',
      { a: text },
      { encrypted: { keyspace: { per: 'p', of: 'x' } } },
      /p.*a path of type/,
    ],
  ])('%s', (_what, definition, options, message) => {
    expect(() => compile(definition, options)).toThrow(message)
    expect(() => compile(definition, options)).toThrow(/^ERR_CONFIG_INVALID/)
  })

  it('a path inside a container that is encrypted as a whole, which nobody would look at', () => {
    for (const inside of [
      { type: new Schema({ a: { type: String, encrypted: { blindIndex: true } } }), encrypted: true },
      { type: [new Schema({ a: { type: String, encrypted: true } })], encrypted: true },
      { type: Map, of: { type: String, encrypted: true }, encrypted: true },
    ])
      expect(() => compile({ inside })).toThrow(/paths inside are annotated too/)
  })

  it('a schema that contains itself', () => {
    const node = new Schema({ note: text })
    node.add({ children: [node] } as never)
    expect(() => compile({ tree: node })).toThrow(/contains itself.*encrypt the whole container/)
    const plain = new Schema({ name: String })
    plain.add({ children: [plain] } as never)
    expect(() => compile({ note: text, tree: plain })).not.toThrow()
  })

  it('a path that is encrypted in one discriminator and not, or otherwise, in another', () => {
    const Base = compile({ note: text })
    Base.discriminator('A', new Schema({ a: text, b: { type: String, encrypted: { blindIndex: true } } }))
    expect(() => Base.discriminator('B', new Schema({ a: String }))).toThrow(/a.*declared differently/)
    const Other = compile({ note: text })
    Other.discriminator('C', new Schema({ a: text }))
    expect(() => Other.discriminator('D', new Schema({ a: { type: Number, encrypted: true } }))).toThrow(
      /declared differently/,
    )
  })

  it('an index of a discriminator that would hold ciphertext', () => {
    const Base = compile({ note: text })
    expect(() => Base.discriminator('E', new Schema({ e: { ...text, index: true } }))).toThrow(/e.*hold ciphertext/)
    const searched = { type: String, encrypted: { blindIndex: true }, index: 'text' }
    expect(() => Base.discriminator('F', new Schema({ f: searched as never }))).toThrow(/only plain ascending/)
  })

  it('two models of one collection that disagree about a path or about the tenant', () => {
    const own = new mongoose.Mongoose()
    own.plugin(fieldsealPlugin as never, { fieldseal })
    own.model('One', new own.Schema({ a: text }, { collection: 'shared' }) as never)
    expect(() => own.model('Two', new own.Schema({ a: String, b: text }, { collection: 'shared' }) as never)).toThrow(
      /a.*declared differently/,
    )
  })

  it('a multi-tenant schema without a tenant', () => {
    const plugin = { fieldseal: tenanted }
    expect(() => compile({ a: text }, {}, plugin)).toThrow(/tenantBy/)
    expect(() => compile({ a: text }, { encrypted: { tenantBy: 'none' } }, plugin)).not.toThrow()
    expect(() => compile({ a: text, c: String }, {}, { ...plugin, tenantBy: 'c' })).not.toThrow()
    expect(() => compile({ a: text, c: text }, { encrypted: { tenantBy: 'c' } }, plugin)).toThrow(/ERR_CONFIG_INVALID/)
    expect(() => compile({ a: text, c: [String] }, { encrypted: { tenantBy: 'c' } }, plugin)).toThrow(
      /c.*a path of type/,
    )
    expect(() =>
      compile(
        { a: text, c: String },
        { encrypted: { tenantBy: 'c' }, collation: { locale: 'en', strength: 2 } },
        plugin,
      ),
    ).toThrow(/collation/)
  })
})

describe('the plugin', () => {
  it.each<[string, unknown, RegExp]>([
    ['no options', undefined, /fieldseal/],
    ['no Fieldseal', {}, /fieldseal/],
    ['something else for a Fieldseal', { fieldseal: {} }, /ERR_/],
    ['an unknown option', { fieldseal, gaurd: 'off' }, /gaurd.*unknown option/],
    ['an unknown guard', { fieldseal, guard: 'on' }, /guard/],
    ['a guard that is null', { fieldseal, guard: null }, /guard/],
  ])('is refused with %s', (_what, options, message) => {
    expect(() => new Schema({ a: text }).plugin(fieldsealPlugin as never, options as never)).toThrow(message)
  })

  it('leaves schemas without encrypted paths alone', () => {
    const Plain = compile({ name: String })
    expect(Object.hasOwn(Plain.collection, 'insertOne')).toBe(false)
    expect(Plain.schema.indexes()).toEqual([])
  })

  it('finds a schema that was never given the plugin as soon as another is registered', () => {
    const own = new mongoose.Mongoose()
    own.model('Forgotten', new own.Schema({ a: text }) as never)
    const given = new own.Schema({ b: text })
    given.plugin(fieldsealPlugin as never, { fieldseal } as never)
    expect(() => own.model('Given', given as never)).toThrow(/Forgotten.*was not given the plugin/)
  })

  it('works for a schema that was given it by itself, on the connection and on the library', () => {
    const own = new mongoose.Mongoose()
    own.plugin(fieldsealPlugin as never, { fieldseal })
    own.connection.plugin(fieldsealPlugin as never, { fieldseal } as never)
    const schema = new own.Schema({ a: { type: String, encrypted: { blindIndex: true } } })
    schema.plugin(fieldsealPlugin as never, { fieldseal } as never)
    const Model = own.model('Thrice', schema as never) as unknown as LooseModel
    expect(Object.hasOwn(Model.collection, 'insertOne')).toBe(true)
    expect(Model.schema.indexes()).toHaveLength(3)
  })

  it('changes nothing about how documents look', () => {
    const Model = compile({ a: text, m: { type: Map, of: text }, at: { type: Date, encrypted: true } })
    const document = new Model({ a: 'x', m: { k: 'v' }, at: new Date(5) } as never)
    const { _id, ...rest } = document.toObject() as unknown as { readonly _id: Types.ObjectId }
    expect(rest).toEqual({ a: 'x', m: new Map([['k', 'v']]), at: new Date(5) })
    expect(Object.keys(Model.schema.paths)).not.toContain('__fieldseal')
  })
})
