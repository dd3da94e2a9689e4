import type { OperationContext } from '@fieldseal/core/adapter'
import type { Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import { rewritePipeline } from '../query-rewrite/rewrite-pipeline.ts'
import { assertSortable } from '../query-rewrite/rewrite-projection.ts'
import { assertExact, filterScope, rewriteOptions, type OperationOptions } from '../query-rewrite/scope.ts'
import { TokenTerms } from '../query-rewrite/token-terms.ts'
import { openingOf, prepareFind, type PreparedFind } from './find.ts'
import { openDocuments, type Opening } from './open-documents.ts'
import { secureCursor, type DriverCursor } from './secure-cursor.ts'

/** What of a find cursor is changed after it was made. https://mongodb.github.io/node-mongodb-native/7.0/classes/FindCursor.html */
interface FindCursor extends DriverCursor {
  filter(filter: Doc): this
  sort(sort: unknown, direction?: unknown): this
  project(projection: Doc): this
  limit(count: number): this
  skip(count: number): this
  addQueryModifier?: unknown
}

type Made<C> = C | Promise<C>

/**
 * A cursor is made at once, as the driver does, and its command is completed before it is first sent: tokens need keys.
 * The context is that of the code that makes the cursor.
 */
export function find(state: CollectionState, filter: unknown, options: OperationOptions): Made<DriverCursor> {
  const context = state.host.capture()
  return whenMade(state.raw.find({}, options) as unknown as Made<FindCursor>, (cursor) =>
    secureFind(state, cursor, filter, options, context),
  )
}

/** Mongoose gives a promise of a cursor while it waits for the connection. */
function whenMade<C>(made: Made<C>, secure: (cursor: C) => DriverCursor): Made<DriverCursor> {
  return made instanceof Promise ? made.then(secure) : secure(made)
}

function secureFind(
  state: CollectionState,
  cursor: FindCursor,
  given: unknown,
  options: OperationOptions,
  context: OperationContext,
): DriverCursor {
  const setFilter = cursor.filter.bind(cursor)
  const setProjection = cursor.project.bind(cursor)
  const setSort = cursor.sort.bind(cursor)
  const [setLimit, setSkip] = [cursor.limit.bind(cursor), cursor.skip.bind(cursor)]
  let filter = given
  let asked: OperationOptions = options
  let prepared: PreparedFind | undefined
  let opening: Opening | undefined
  const secured = secureCursor(cursor, {
    async prepare() {
      state.assertGuarded()
      const model = state.model()
      prepared = await prepareFind(state, model, filter, asked, context, true)
      opening = openingOf(state, model, options, context, prepared.sought)
      setFilter(prepared.filter)
      const projection = prepared.options['projection']
      setProjection((projection ?? {}) as Doc)
    },
    async open(documents) {
      const opened = await openDocuments(documents, opening as Opening) // set by prepare, which comes first
      for (const document of opened) prepared?.trim(document)
      return opened
    },
  })
  rewriteOptions(options, state.model()) // a hint or an order that cannot be is an error of the call that makes the cursor
  return Object.assign(secured, {
    filter(next: unknown) {
      filter = next
      return secured
    },
    sort(sort: unknown, direction?: unknown) {
      assertSortable(sort, state.model().root, state.name)
      setSort(sort, direction)
      return secured
    },
    project(projection: unknown) {
      asked = { ...asked, projection }
      return secured
    },
    limit(limit: number) {
      asked = { ...asked, limit }
      setLimit(limit)
      return secured
    },
    skip(skip: number) {
      asked = { ...asked, skip }
      setSkip(skip)
      return secured
    },
  })
}

/** An aggregation; its stages are rewritten before the first batch is asked for. */
export function aggregate(state: CollectionState, pipeline: unknown, options: OperationOptions): Made<DriverCursor> {
  const context = state.host.capture()
  const live: Doc[] = []
  return whenMade(state.raw.aggregate(live, options) as unknown as Made<DriverCursor>, (cursor) => {
    let opening: Opening | undefined
    let trim: (document: Doc) => void = () => {}
    return secureCursor(cursor, {
      async prepare() {
        state.assertGuarded()
        const model = state.model()
        const added = live.splice(0) // stages that were added to the cursor itself
        const { result, sought } = await TokenTerms.rewrite(state.host, context, (terms) => {
          const scope = { ...filterScope(state, model, terms, options), neighbour: state.neighbour }
          const rewritten = rewritePipeline([...(Array.isArray(pipeline) ? pipeline : []), ...added], model, scope)
          assertExact(scope, false)
          return rewritten
        })
        rewriteOptions(options, model)
        live.push(...result.stages)
        trim = result.trim
        opening = { ...openingOf(state, model, options, context, sought), root: result.shape }
      },
      async open(documents) {
        const opened = await openDocuments(documents, opening as Opening) // set by prepare, which comes first
        for (const document of opened) trim(document)
        return opened
      },
    })
  })
}
