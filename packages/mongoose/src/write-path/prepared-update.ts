import type { Doc } from '../bson/documents.ts'
import type { OperationOptions } from '../query-rewrite/scope.ts'
import type { Draft } from './draft.ts'
import type { Edit } from './plan-update.ts'

/** An update whose values are not sealed yet. */
export interface PreparedUpdate {
  readonly filter: Doc
  readonly options: OperationOptions
  readonly draft: Draft
  readonly edits: readonly Edit[]
  /** The update to send, once the draft is sealed. */
  finish(): Doc | readonly unknown[]
}

/** Sends a prepared update; `matched` of its result is 0 when no document met the filter. */
export interface UpdateRunner<R> {
  run(filter: Doc, update: Doc | readonly unknown[], options: OperationOptions): Promise<R>
  matched(result: R): number
}

/** A filter that meets no document, and an update that the server takes: what an update of nothing is sent as. */
export const NOTHING: Doc = Object.freeze({ _id: Object.freeze({ $in: Object.freeze([]) }) })
export const TOUCH: Doc = Object.freeze({ $unset: Object.freeze({ __fieldseal: 1 }) })

/** The options of a write that decide which document a read before it finds. */
export function readOptions(options: OperationOptions): Doc {
  const kept = ['session', 'collation', 'sort', 'let', 'maxTimeMS', 'comment'].filter(
    (name) => options[name] !== undefined,
  )
  return Object.fromEntries(kept.map((name) => [name, options[name]]))
}

export function withoutUpsert(options: OperationOptions): OperationOptions {
  return { ...options, upsert: false }
}
