import { attach, FieldsealError, type Fieldseal } from '@fieldseal/core/adapter'
import type { Connection, Model, Schema } from 'mongoose'
import { modelOptionsOf } from './encrypted-path/annotation.ts'
import { bsonCodec } from './bson/bson-codec.ts'
import { configError } from './encrypted-path/config-error.ts'
import type { GuardMode, PluginSettings } from './install/collection-state.ts'
import { assertMembers } from './install/members.ts'
import { overrideConnection } from './install/connection-members.ts'
import { interceptAggregate } from './install/intercept-aggregate.ts'
import { intercept, stateOf } from './install/intercept.ts'
import { overrideModel } from './install/model-members.ts'
import { rememberContext } from './install/remember-context.ts'
import { addDiscriminatorIndexes } from './install/token-indexes.ts'
import { buildGraph } from './path-graph/build-graph.ts'
import { assertRegistrable } from './path-graph/schema-rules.ts'

export interface FieldsealPluginOptions {
  /** What `createFieldseal()` returned. */
  readonly fieldseal: Fieldseal
  /** Path with the document's tenant, for schemas that name none; `'none'`: a database per tenant. */
  readonly tenantBy?: string
  /**
   * Whether commands with plaintext of encrypted paths are refused whatever sent them, only reported (`plaintext.seen`),
   * or not looked at. All but `'off'` need a connection with `monitorCommands: true`. @defaultValue 'enforce'
   */
  readonly guard?: GuardMode
}

const OPTIONS: readonly string[] = ['fieldseal', 'tenantBy', 'guard']
/** Mongoose passes these on when one plugin serves a whole connection or the whole library. */
const OF_MONGOOSE: readonly string[] = ['deduplicate']
const GUARD_MODES: readonly unknown[] = [undefined, 'enforce', 'audit', 'off']
const ORM_VERSION = '^8.10.0 || ^9.0.0'

/**
 * Makes the encrypted paths of a schema work: `schema.plugin(fieldsealPlugin, { fieldseal })`, or once for all:
 * `mongoose.plugin(…)`, `connection.plugin(…)` before any model is made. Schemas without encrypted paths are left alone.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for an unknown option here, and from `model()` for what cannot be protected
 */
export function fieldsealPlugin(schema: Schema, options: FieldsealPluginOptions): void {
  assertOptions(options)
  const host = attach(options.fieldseal, {
    name: 'mongoose',
    ormVersion: ORM_VERSION,
    codecs: [bsonCodec],
    fieldStates: true,
    compoundIndexes: true,
  })
  const settings: PluginSettings = { host, tenantBy: options.tenantBy, guard: options.guard ?? 'enforce' }
  schema.on('init', (model: Model<unknown>) => register(model, settings))
  // Mongoose copies a schema of another copy of Mongoose, and leaves its listeners behind; statics it takes along.
  const { statics } = schema as unknown as { readonly statics: { init?: Init } }
  const { init } = statics
  statics.init = function (...args) {
    register(this, settings)
    return (init ?? (this.base.Model.init as Init)).apply(this, args)
  }
}

type Init = (this: Model<unknown>, ...args: never[]) => unknown

/** Runs whenever Mongoose has compiled a model, before it makes collections and indexes. */
function register(model: Model<unknown>, settings: PluginSettings): void {
  assertAllRegistered(model.db, model)
  const schema = rootSchema(model)
  if (!buildGraph([schema]).reaches) {
    if (Object.keys(modelOptionsOf(schema)).length > 0)
      throw configError(model.modelName, 'encrypted', 'the schema has model options but no encrypted path')
    rememberContext(model, settings.host)
    interceptAggregate(model.collection, settings)
    followCollection(model, settings)
    return
  }
  assertMembers(model)
  const state = intercept(model.collection, schema, settings)
  const stored = state.model()
  if (model.schema !== schema) {
    assertRegistrable(model.schema, stored.root)
    addDiscriminatorIndexes(model.schema, schema, stored)
  }
  // The base of a discriminator was registered when it had no encrypted path yet.
  for (const each of [model, ...(Object.values(model.db.models) as Model<unknown>[])]) {
    if (each.collection !== model.collection) continue
    rememberContext(each, settings.host)
    overrideModel(each, state)
  }
  overrideConnection(model.db)
  followCollection(model, settings)
}

interface Discriminated {
  readonly discriminatorMapping?: { readonly isRoot: boolean }
  /** Missing where Mongoose has copied the schema for another copy of Mongoose. */
  readonly _baseSchema?: Schema
}

/** A discriminator's documents stand in its base model's collection, and its base schema knows all of them. */
function rootSchema(model: Model<unknown>): Schema {
  const { schema } = model as unknown as { readonly schema: Schema & Discriminated }
  if (schema.discriminatorMapping?.isRoot !== false) return schema
  const base = (Object.values(model.db.models) as Model<unknown>[]).find(
    (other) => other.collection === model.collection && (other.schema as Discriminated).discriminatorMapping?.isRoot,
  )
  return schema._baseSchema ?? (base?.schema as Schema | undefined) ?? schema
}

/** Mongoose can give a model another connection, and with it another collection object, without telling. */
function followCollection(model: Model<unknown>, settings: PluginSettings): void {
  for (const name of ['useConnection', '$__updateConnection']) {
    const change: unknown = Reflect.get(model, name)
    if (typeof change !== 'function' || Object.hasOwn(model, name)) continue
    Reflect.set(model, name, function (this: Model<unknown>, ...args: unknown[]) {
      const result: unknown = Reflect.apply(change as (...given: unknown[]) => unknown, this, args)
      register(this, settings)
      return result
    })
  }
}

/**
 * A schema that is annotated and was never given the plugin would store plaintext. Nobody would notice one that stands
 * alone; beside others it is found when those are registered.
 */
function assertAllRegistered(connection: Connection, registering: Model<unknown>): void {
  for (const model of Object.values(connection.models) as Model<unknown>[]) {
    // Models of one collection are protected together: a base is plain until it has a kind that is not.
    if (model.collection === registering.collection || stateOf(model.collection) !== undefined) continue
    if (!buildGraph([rootSchema(model)]).reaches) continue
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      model: model.modelName,
      reason: 'its schema has encrypted paths and was not given the plugin',
      hint: 'call schema.plugin(fieldsealPlugin, { fieldseal }) before model(), or mongoose.plugin(…) before any model',
    })
  }
}

function assertOptions(options: FieldsealPluginOptions): void {
  const given: unknown = options
  if (typeof given !== 'object' || given === null || !('fieldseal' in given))
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      field: 'fieldseal',
      hint: 'plugin(fieldsealPlugin, { fieldseal })',
    })
  const unknown = Object.keys(given).find((name) => !OPTIONS.includes(name) && !OF_MONGOOSE.includes(name))
  if (unknown !== undefined)
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      field: unknown,
      reason: 'unknown option',
      hint: `options are ${OPTIONS.join(', ')}`,
    })
  if (!GUARD_MODES.includes(options.guard))
    throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'guard', reason: "'enforce', 'audit' or 'off'" })
}
