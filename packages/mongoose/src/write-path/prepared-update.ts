import type { Field } from '@fieldseal/core/adapter'
import { AS_STORED } from '../bson/bson-codec.ts'
import type { Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { OperationOptions } from '../query-rewrite/scope.ts'
import type { Draft } from './draft.ts'
import type { Edit } from './plan-update.ts'

/** An update whose values are not sealed yet. */
export interface PreparedUpdate {
  readonly filter: Doc
  readonly options: OperationOptions
  readonly draft: Draft
  readonly edits: readonly Edit[]
  /** What the filter demands of values that the server computes with, when it inserts. */
  readonly demanded: readonly Doc[]
  /** Fields whose stored values the tokens of a compound index need. */
  readonly missing: readonly Field[]
  /** The document was read to learn whose it is. An update that meets nothing then may have to be about another's. */
  readonly known: boolean
  /** The update to send, once the draft is sealed. */
  finish(): Doc | readonly unknown[]
}

/** Sends a prepared update; `matched` of its result is 0 when no document met the filter. */
export interface UpdateRunner<R> {
  run(filter: Doc, update: Doc | readonly unknown[], options: OperationOptions): Promise<R>
  matched(result: R): number
}

/** How often a write is tried again when others changed between reading and writing what it depends on. */
export const MAX_ATTEMPTS = 20

/** A filter that meets no document. */
export const NOTHING: Doc = Object.freeze({ _id: Object.freeze({ $in: Object.freeze([]) }) })
/** An update that the server takes and that changes nothing, as long as it is no upsert. */
export const UNCHANGED: Doc = Object.freeze({ $setOnInsert: Object.freeze({ __fieldseal: null }) })

/** The options of a write that decide which document a read before it finds, and where and how it is read. */
export function readOptions(options: OperationOptions): Doc {
  return { ...picked(options, ['session', 'collation', 'sort', 'let', 'maxTimeMS', 'comment']), ...CURRENT }
}
const CURRENT = { readPreference: 'primary', ...AS_STORED } as const

/** The options of a write that meets nothing: how it is sent, and what its result looks like. */
export function optionsOfNothing(options: OperationOptions): OperationOptions {
  return picked(options, HOW_SENT)
}
const HOW_SENT: readonly string[] = [
  'session',
  'writeConcern',
  'w',
  'wtimeoutMS',
  'journal',
  'maxTimeMS',
  'timeoutMS',
  'comment',
  'includeResultMetadata',
]

function picked(options: OperationOptions, names: readonly string[]): Doc {
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) => names.includes(name) && value !== undefined),
  )
}

/** Whether nobody tells what became of a write: `w: 0` of the write itself, or of its collection. */
export function isUnacknowledged(state: CollectionState, options: OperationOptions): boolean {
  const { writeConcern, w } = options as { readonly writeConcern?: { readonly w?: unknown }; readonly w?: unknown }
  return (writeConcern?.w ?? w ?? state.writeConcern()) === 0
}
