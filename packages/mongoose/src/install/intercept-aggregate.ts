import type { Collection } from 'mongoose'
import { isDoc } from '../bson/documents.ts'
import { aggregate, namesEncrypted, type Aggregated } from '../read-path/aggregate.ts'
import type { OperationOptions } from '../query-rewrite/scope.ts'
import type { PluginSettings } from './collection-state.ts'
import { factsOf, rawOf, stateOf, type NativeCollection } from './intercept.ts'

/**
 * Makes aggregations of a collection without encrypted documents open those that they look up in others. All else that
 * such a collection does is left as it is.
 */
export function interceptAggregate(given: Collection, { host }: PluginSettings): void {
  if (stateOf(given) !== undefined || Object.hasOwn(given, 'aggregate')) return
  const native = given as unknown as NativeCollection
  const raw = rawOf(native, new Set(['aggregate']))
  const state: Aggregated = { ...factsOf(native), host, raw, assertGuarded: () => {}, model: () => undefined }
  const value = (pipeline: unknown, options: unknown) =>
    namesEncrypted(pipeline, state.neighbour)
      ? aggregate(state, pipeline, isDoc(options) ? (options as OperationOptions) : {})
      : raw.aggregate(pipeline as never, options) // the driver checks it
  Object.defineProperty(native, 'aggregate', { value, configurable: true, writable: true, enumerable: false })
}
