import type { OperationContext } from '@fieldseal/core/adapter'
import { isDoc, valueAt, type Doc } from '../bson/documents.ts'
import { bsonName } from '../bson/equal.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import type { OperationOptions } from '../query-rewrite/scope.ts'
import { runInTurns, type BulkResult, type Turn } from './bulk-turns.ts'
import { sealDrafts, type Draft } from './draft.ts'
import { keepId, prepareDocument } from './insert.ts'
import { deleteCriteria, prepareReplace } from './replace.ts'
import { NOTHING, UNCHANGED } from './prepared-update.ts'
import { prepareUpdate, runUpdate } from './update.ts'
import { pinned } from './update-facts.ts'

/** One operation of a bulk write. */
interface PreparedOperation {
  /** `_id` of its document, as far as it is known. */
  readonly id?: unknown
  readonly draft?: Draft
  /** The operation as it is sent, once its draft is sealed. */
  finish(): Doc
  /** Set for an operation that has to read before it writes. */
  readonly alone?: (send: Send) => Promise<BulkResult>
}
type Send = (operations: readonly Doc[]) => Promise<BulkResult>

/**
 * A bulk write: every operation is protected by itself, so that their order, their results and the index of one that
 * fails are the driver's own. Operations that need the present plaintext are sent one at a time, in their turn.
 */
export async function bulkWrite(
  state: CollectionState,
  operations: unknown,
  options: OperationOptions,
): Promise<unknown> {
  const context = state.host.capture()
  const model = state.model()
  if (!Array.isArray(operations)) return state.raw.bulkWrite(operations as never, options) // the driver says what is wrong
  const made = new Set<string | undefined>()
  const prepared: PreparedOperation[] = []
  for (const operation of operations as unknown[]) {
    prepared.push(await prepare(state, model, operation, { shared: options, made }, context))
    for (const id of madeBy(operation)) made.add(id)
  }
  await sealDrafts(
    prepared.flatMap(({ draft }) => (draft === undefined ? [] : [draft])),
    state.host,
    context,
  )
  const send: Send = (sent) => state.raw.bulkWrite(sent, options)
  if (prepared.every(({ alone }) => alone === undefined)) return send(prepared.map(({ finish }) => finish()))
  return runInTurns(turnsOf(prepared, send), options['ordered'] !== false)
}

function turnsOf(prepared: readonly PreparedOperation[], send: Send): Turn[] {
  const runs: PreparedOperation[][] = []
  let open: PreparedOperation[] | undefined
  for (const each of prepared) {
    if (each.alone === undefined && open !== undefined) open.push(each)
    else runs.push((open = [each]))
    if (each.alone !== undefined) open = undefined
  }
  return runs.map((run) => ({
    ids: run.map(({ id }) => id),
    run: () => run[0]?.alone?.(send) ?? send(run.map(({ finish }) => finish())),
  }))
}

/** Options of the whole bulk write that its operations do not have. */
const INHERITED: readonly string[] = ['session', 'writeConcern', 'w']

/** The `_id` of a document that an operation may make, by its `bsonName`; undefined in its place where any may be meant. */
function madeBy(operation: unknown): readonly (string | undefined)[] {
  const [[name, body] = ['', undefined]] = isDoc(operation) ? Object.entries(operation) : []
  if (!isDoc(body)) return []
  if (name === 'insertOne') return [bsonName(valueAt(body['document'], '_id'))]
  if (name !== 'replaceOne' && body['upsert'] !== true) return []
  const id = pinned(body['filter'], '_id')
  return [id === undefined ? undefined : bsonName(id)]
}

/** Whether a document that a filter meets may be one that an operation before it makes. */
function isMade(filter: unknown, made: ReadonlySet<string | undefined>): boolean {
  const id = pinned(filter, '_id')
  return id === undefined ? made.size > 0 : made.has(undefined) || made.has(bsonName(id))
}

async function prepare(
  state: CollectionState,
  model: StoredModel,
  operation: unknown,
  { shared, made }: { readonly shared: OperationOptions; readonly made: ReadonlySet<string | undefined> },
  context: OperationContext,
): Promise<PreparedOperation> {
  const [[name, body] = ['', undefined]] = isDoc(operation) ? Object.entries(operation) : []
  if (!isDoc(body))
    return refuseWrite(model.map.id, '', 'bulk-op', `an operation of a bulk write, not ${name || 'nothing'}`)
  const { filter, update, replacement, document, ...own } = body
  const inherited = Object.fromEntries(INHERITED.flatMap((key) => (key in shared ? [[key, shared[key]]] : [])))
  const options: OperationOptions = { ...own, ...inherited }
  const sendable = (sent: OperationOptions) =>
    Object.fromEntries(Object.entries(sent).filter(([key]) => !INHERITED.includes(key)))
  switch (name) {
    case 'insertOne': {
      const prepared = prepareDocument(document, model, context, { makes: true })
      return {
        id: valueAt(document, '_id'),
        draft: prepared.draft,
        finish() {
          const sent = prepared.finish()
          keepId(document, sent)
          return { insertOne: { ...own, document: sent } }
        },
      }
    }
    case 'updateOne':
    case 'updateMany': {
      const request = { filter, update, options, kind: name === 'updateMany' ? 'many' : 'one' } as const
      const prepared = await prepareUpdate(state, model, request, context)
      const nothing = () => ({ [name]: { filter: NOTHING, update: UNCHANGED } })
      const isOfDocument = prepared === undefined || prepared.known // its document alone tells whose it is
      const reads =
        (prepared?.edits.length ?? 0) > 0 ||
        (prepared?.missing.length ?? 0) > 0 ||
        (isOfDocument && isMade(filter, made))
      if (request.kind === 'one' && reads) {
        const id = pinned(prepared?.filter ?? filter, '_id')
        const alone = (send: Send) =>
          runUpdate<BulkResult>(state, request, context, {
            run: (criteria, changes, asked) =>
              send([{ updateOne: { ...sendable(asked), filter: criteria, update: changes } }]),
            matched: ({ matchedCount, upsertedCount }) => matchedCount + upsertedCount,
          })
        return { id, finish: nothing, alone }
      }
      if (prepared === undefined) return { finish: nothing }
      const { draft, filter: sent, options: rewritten } = prepared
      return {
        id: pinned(sent, '_id'),
        draft,
        finish: () => ({ [name]: { ...sendable(rewritten), filter: sent, update: prepared.finish() } }),
      }
    }
    case 'replaceOne': {
      const prepared = await prepareReplace(state, model, { filter, replacement, options }, context)
      const { draft, filter: sent, options: rewritten } = prepared
      return {
        draft,
        finish: () => ({ replaceOne: { ...sendable(rewritten), filter: sent, replacement: prepared.finish() } }),
      }
    }
    case 'deleteOne':
    case 'deleteMany': {
      const { confined, rewritten } = await deleteCriteria(state, model, filter, options, context)
      return { finish: () => ({ [name]: { ...sendable(rewritten), filter: confined } }) }
    }
    default:
      return refuseWrite(model.map.id, '', 'bulk-op', `${name} is not known`)
  }
}
