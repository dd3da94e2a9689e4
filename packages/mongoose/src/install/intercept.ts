import { FieldsealError } from '@fieldseal/core/adapter'
import mongoose, { type Collection, type Connection, type Schema } from 'mongoose'
import type { PromoteOptions } from '../bson/driver-values.ts'
import { defineStoredModel } from '../path-graph/define-stored-model.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { rewrapWriter } from '../record-source/compare-and-set.ts'
import { assertGuarded, watchClient } from '../guard/watch-client.ts'
import type { CollectionState, PluginSettings, RawCollection } from './collection-state.ts'
import { declaredBy } from './declared-by.ts'
import { createHandlers } from './handlers.ts'
import { PASSED_METHODS, refusedMethod } from './methods.ts'
import { addTokenIndexes } from './token-indexes.ts'

// Invariant: a registered symbol, so that two copies of this package see one interception.
const STATE = Symbol.for('@fieldseal/mongoose:collection')

/** What of Mongoose's collection objects is used beyond the driver's methods. */
export interface NativeCollection {
  readonly name: string
  readonly conn: Connection
  readonly queue: unknown[]
  readonly opts?: { readonly collation?: unknown }
  /** The driver's collection, once connected. */
  readonly collection: {
    readonly bsonOptions?: PromoteOptions
    readonly writeConcern?: { readonly w?: unknown }
  } | null
  addQueue(task: unknown, args?: unknown): unknown
  removeQueue(task: unknown, args?: unknown): unknown
}

/** The interception of a collection object of Mongoose, if it has one. */
export function stateOf(collection: object): CollectionState | undefined {
  return Reflect.get(collection, STATE) as CollectionState | undefined // only intercept() sets it
}

/**
 * Overrides every method of one collection object: handled, passed on, or refused. All that Mongoose does with a model
 * ends here, after casting, validation, defaults and middleware, and before hydration.
 */
export function intercept(given: Collection, schema: Schema, settings: PluginSettings): CollectionState {
  const known = stateOf(given)
  if (known !== undefined) {
    if (known.host.keyStore !== settings.host.keyStore)
      throw new FieldsealError('ERR_CONFIG_INVALID', {
        model: known.name,
        field: 'fieldseal',
        reason: 'two Fieldseals are to protect one collection',
      })
    known.schemas.add(schema)
    return known
  }
  const native = given as unknown as NativeCollection
  const own = new Set<PropertyKey>()
  const state = createState(native, rawOf(native, own), schema, settings)
  const handlers = createHandlers(state)
  for (const name of methodNames()) {
    if (PASSED_METHODS.includes(name)) continue
    own.add(name)
    const method = handlers[name] ?? refusedMethod(state, name)
    Object.defineProperty(native, name, { value: method, configurable: true, writable: true, enumerable: false })
  }
  Object.defineProperty(native, STATE, { value: state })
  watchClient(native.conn, state, settings.guard)
  return state
}

/** Every function of the driver's collections. */
export function methodNames(): string[] {
  const { prototype } = mongoose.mongo.Collection
  return Object.getOwnPropertyNames(prototype).filter(
    (name) => name !== 'constructor' && typeof Object.getOwnPropertyDescriptor(prototype, name)?.value === 'function',
  )
}

function createState(
  native: NativeCollection,
  raw: RawCollection,
  schema: Schema,
  settings: PluginSettings,
): CollectionState {
  const schemas = new Set([schema])
  let defined: { readonly by: readonly object[]; readonly model: StoredModel } | undefined
  const state: CollectionState = {
    ...factsOf(native),
    host: settings.host,
    raw,
    schemas,
    writer: rewrapWriter(raw),
    writeConcern: () => native.collection?.writeConcern?.w,
    model() {
      const by = [...schemas].flatMap((each) => declaredBy(each))
      if (defined?.by.length === by.length && defined.by.every((part, at) => part === by[at])) return defined.model
      const model = defineStoredModel(native.name, [...schemas], settings.host, settings.tenantBy)
      if (model === undefined)
        throw new FieldsealError('ERR_CONFIG_INVALID', { model: native.name, reason: 'no encrypted paths' })
      defined = { by, model }
      addTokenIndexes(schemas, model)
      return model
    },
    assertGuarded: () => assertGuarded(native.conn, state, settings.guard),
  }
  return state
}

/** What a collection object and its connection tell about themselves. */
export function factsOf(
  native: NativeCollection,
): Pick<CollectionState, 'name' | 'collation' | 'promote' | 'neighbour'> {
  return {
    name: native.name,
    collation: () => native.opts?.collation !== undefined,
    promote: () => native.collection?.bsonOptions ?? {},
    neighbour(collection) {
      const other: unknown = Reflect.get(native.conn.collections, collection)
      return typeof other === 'object' && other !== null ? stateOf(other)?.model() : undefined
    },
  }
}

/**
 * The methods as they were. Inside them `this.find` and the like mean the originals too: while a connection is awaited
 * Mongoose calls a method again by its name, and an override would encrypt twice.
 */
export function rawOf(native: NativeCollection, own: ReadonlySet<PropertyKey>): RawCollection {
  const prototype: unknown = Object.getPrototypeOf(native)
  const raw: NativeCollection = new Proxy(native, {
    get(target, key) {
      if (key === 'addQueue') return addQueue
      if (key === 'removeQueue') return removeQueue
      return Reflect.get(own.has(key) ? (prototype as object) : target, key) as unknown
    },
  })
  // Mongoose 8 queues a method by its name and its arguments.
  const addQueue = (task: unknown, args?: unknown) =>
    typeof task === 'string'
      ? native.addQueue(() => call(raw, task, args as unknown[]), args)
      : native.addQueue(task, args)
  const removeQueue = (task: unknown, args?: unknown) => {
    const at = native.queue.findIndex(
      (item) => Array.isArray(item) && (item[0] === task || (args !== undefined && item[1] === args)),
    )
    if (at === -1) return false
    native.queue.splice(at, 1)
    return true
  }
  return raw as unknown as RawCollection // it has the driver's methods
}

function call(target: object, name: string, args: unknown[]): unknown {
  return (Reflect.get(target, name) as (...given: unknown[]) => unknown).apply(target, args)
}
