import { FieldsealError, isEnvelope } from '@fieldseal/core/adapter'
import mongoose, { type Model } from 'mongoose'
import { isDoc, plain } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { redactOrmError } from '../redact/redact-error.ts'
import { redactFilter } from '../redact/redact-filter.ts'
import type { CollectionState } from './collection-state.ts'
import { refusedMethod } from './methods.ts'
import { contextOf } from './remember-context.ts'

export type Method = (this: never, ...args: never[]) => unknown
type Members = Record<string, Method> & object

/** What is overridden on a compiled model; all of it is its own, other models and Mongoose's classes stay as they are. */
export interface ModelMembers {
  Query: Method & { readonly prototype: Members; base?: unknown }
  readonly prototype: Members
  aggregate: Method
  hydrate: Method
  insertMany: Method
  validate: Method
  bulkWrite: Method
  bulkSave: Method
  castObject: Method
  watch: Method
}

/** As Mongoose makes it; its typings leave out the second argument. */
type NotFoundConstructor = new (filter: unknown, model: string) => Error

const MEMBERS = Symbol.for('@fieldseal/mongoose:model')

/**
 * Takes values of encrypted paths out of the errors that Mongoose makes itself, and refuses what would take ciphertext for
 * a value.
 */
export function overrideModel(model: Model<unknown>, state: CollectionState): void {
  if (Object.hasOwn(model, MEMBERS)) return
  Object.defineProperty(model, MEMBERS, { value: true })
  const members = model as unknown as ModelMembers // a Model, past its overloads
  overrideQuery(members, state)
  const hydrate = members.hydrate
  members.hydrate = function (...args) {
    const [document] = args as readonly unknown[]
    if (holdsEnvelope(document, state.model().root))
      throw new FieldsealError('ERR_QUERY_UNSUPPORTED', {
        model: state.name,
        reason: 'hydrate',
        hint: 'the document holds ciphertext: open it with decryptRaw(Model, [document]) first',
      })
    return hydrate.apply(this, args)
  }
  members.watch = refusedMethod(state, 'watch')
  for (const name of ['insertMany', 'validate', 'bulkWrite', 'bulkSave', 'castObject'] as const)
    members[name] = redacting(members[name], state)
  for (const name of ['save', '$save', 'validate', '$validate', 'validateSync', 'set', '$set']) {
    const method = members.prototype[name]
    if (method !== undefined) members.prototype[name] = redacting(method, state)
  }
}

function overrideQuery({ Query }: ModelMembers, state: CollectionState): void {
  const { prototype } = Query
  const run = (query: object, method: Method, args: never[]) =>
    redacted(() => {
      assertMarkable(query, state)
      return method.apply(query as never, args)
    }, state)
  const { exec, cursor } = prototype as { readonly exec: Method; readonly cursor: Method } // Mongoose's Query has them
  prototype['exec'] = async function (this: object, ...args) {
    return run(this, exec, args) // an async function rejects, as Mongoose's own does
  }
  prototype['cursor'] = function (this: object, ...args) {
    return run(this, cursor, args)
  }
  const orFail = prototype['orFail'] as Method
  prototype['orFail'] = function (
    this: { getQuery(): unknown; readonly model: { readonly modelName: string } },
    ...args
  ) {
    if (args.length > 0 && args[0] !== undefined && args[0] !== null) return orFail.apply(this as never, args)
    const { DocumentNotFoundError } = mongoose.Error as unknown as {
      readonly DocumentNotFoundError: NotFoundConstructor
    }
    const notFound = () =>
      new DocumentNotFoundError(redactFilter(this.getQuery(), state.model().root), this.model.modelName)
    return orFail.apply(this as never, [notFound] as never)
  }
}

/** A hydrated document would take the sentinel for a value of its path. */
function assertMarkable(query: object, { name, host }: CollectionState): void {
  const context = contextOf(query) ?? host.captureIfAny()
  if (context?.onUnreadable !== 'mark') return
  const { op, _mongooseOptions } = query as {
    readonly op?: string
    readonly _mongooseOptions?: { readonly lean?: unknown }
  }
  if (op?.startsWith('find') !== true || Boolean(_mongooseOptions?.lean)) return
  throw new FieldsealError('ERR_QUERY_UNSUPPORTED', {
    model: name,
    reason: 'mark-needs-lean',
    hint: "onUnreadable: 'mark' needs lean(): a hydrated document has no place for an unreadable value",
  })
}

function redacting(method: Method, state: CollectionState): Method {
  return function (this: unknown, ...args) {
    return redacted(() => method.apply(this as never, args), state)
  }
}

/** Errors that are thrown, given by a promise, or returned (`validateSync`). */
function redacted(run: () => unknown, state: CollectionState): unknown {
  const redact = (error: unknown) => redactOrmError(error, state.model().root)
  try {
    const result = run()
    if (result instanceof Promise)
      return result.catch((error: unknown) => {
        throw redact(error)
      })
    return result instanceof Error ? redact(result) : result
  } catch (error) {
    throw redact(error)
  }
}

function holdsEnvelope(value: unknown, node: PathNode): boolean {
  const given = plain(value)
  if (given === null || given === undefined || !node.reaches) return false
  if (node.annotation !== undefined) {
    const sealed = isDoc(given) ? given['c'] : given
    return isEnvelope(sealed instanceof mongoose.mongo.Binary ? sealed.value() : sealed)
  }
  if (Array.isArray(given)) return given.some((each) => holdsEnvelope(each, node.element ?? node))
  if (given instanceof Map)
    return [...given].some(([key, each]) => holdsEnvelope(each, node.child(String(key)) ?? node))
  return (
    isDoc(given) &&
    Object.entries(given).some(([key, each]) => {
      const child = node.child(key)
      return child !== undefined && holdsEnvelope(each, child)
    })
  )
}
