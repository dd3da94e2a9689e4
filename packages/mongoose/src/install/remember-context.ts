import type { AdapterHost, OperationContext } from '@fieldseal/core/adapter'
import type { Model } from 'mongoose'
import type { Method, ModelMembers } from './model-members.ts'

// Invariant: registered symbols, so that two copies of this package see one model.
const REMEMBERS = Symbol.for('@fieldseal/mongoose:remembers')
const CONTEXT = Symbol.for('@fieldseal/mongoose:context')

/** The context in which a query was made, if there was one. */
export function contextOf(query: object): OperationContext | undefined {
  return Reflect.get(query, CONTEXT) as OperationContext | undefined // only remember() sets it
}

function remember(made: object, context: OperationContext | undefined): void {
  if (context !== undefined) Object.defineProperty(made, CONTEXT, { value: context, configurable: true })
}

/**
 * Makes the queries and aggregates of a model run in the context of the code that makes them, wherever they are awaited.
 * A model without encrypted paths needs it as well: it may populate or look up documents of one that has some.
 */
export function rememberContext(model: Model<unknown>, host: AdapterHost): void {
  if (Object.hasOwn(model, REMEMBERS)) return
  Object.defineProperty(model, REMEMBERS, { value: true })
  const members = model as unknown as ModelMembers // a Model, past its overloads
  const Original = members.Query
  const { prototype } = Original
  function Query(this: object, ...args: never[]): void {
    Original.apply(this as never, args)
    remember(this, host.captureIfAny())
  }
  Query.prototype = prototype
  members.Query = Object.assign(Query as ModelMembers['Query'], { base: Original.base })
  for (const name of ['exec', 'cursor']) {
    const run = prototype[name] as Method // Mongoose's Query has them
    prototype[name] = function (this: object, ...args) {
      return host.run(contextOf(this), () => run.apply(this as never, args))
    }
  }
  const clone = prototype['clone'] as Method
  prototype['clone'] = function (this: object, ...args) {
    const copy = clone.apply(this as never, args) as object
    remember(copy, contextOf(this))
    return copy
  }
  const toConstructor = prototype['toConstructor'] as Method
  prototype['toConstructor'] = function (this: object, ...args) {
    const Made = toConstructor.apply(this as never, args) as new (...given: unknown[]) => object
    // Called with `new` and without, and past the constructor above.
    function CustomQuery(...given: unknown[]): object {
      const query = new Made(...given)
      remember(query, host.captureIfAny())
      return query
    }
    CustomQuery.prototype = Made.prototype as object
    return CustomQuery
  }
  const aggregate = members.aggregate
  members.aggregate = function (...args) {
    const made = aggregate.apply(this, args) as Record<string, Method>
    const context = host.captureIfAny()
    for (const name of ['exec', 'cursor', 'explain']) {
      const run = made[name] as Method // Mongoose's Aggregate has them
      made[name] = (...given) => host.run(context, () => run.apply(made as never, given))
    }
    return made
  }
}
