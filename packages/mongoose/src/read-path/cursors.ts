import type { OperationContext } from '@fieldseal/core/adapter'
import type { Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import { refuseQuery } from '../query-rewrite/refuse.ts'
import { rewriteOptions, type OperationOptions } from '../query-rewrite/scope.ts'
import { openingOf, prepareFind, type PreparedFind } from './find.ts'
import { openDocuments, type Opening } from './open-documents.ts'
import { begin, secureCursor, valueOf, whenMade, type Begun, type DriverCursor, type Made } from './secure-cursor.ts'

/** What of a find cursor is changed after it was made. https://mongodb.github.io/node-mongodb-native/7.0/classes/FindCursor.html */
interface FindCursor extends DriverCursor {
  filter(filter: Doc): this
  project(projection: Doc): this
  sort(sort: unknown, direction?: unknown): this
  hint(hint: unknown): this
  min(bounds: unknown): this
  max(bounds: unknown): this
  collation(collation: unknown): this
  limit(count: number): this
  skip(count: number): this
  returnKey(value: boolean): this
}

/**
 * A cursor is made at once, as the driver does, and its command is completed before it is first sent: tokens need keys.
 * The context is that of the code that makes the cursor.
 */
export function find(state: CollectionState, filter: unknown, options: OperationOptions): Made<DriverCursor> {
  const begun = begin((): Beginning => {
    const context = state.host.capture()
    return { context, options: rewriteOptions(options, state.model()) }
  })
  const made = state.raw.find({}, 'value' in begun ? begun.value.options : {}) as Made<FindCursor>
  return whenMade(made, (cursor) => secureFind(state, cursor, filter, options, begun))
}

interface Beginning {
  readonly context: OperationContext
  readonly options: OperationOptions
}

function secureFind(
  state: CollectionState,
  cursor: FindCursor,
  given: unknown,
  options: OperationOptions,
  begun: Begun<Beginning>,
): DriverCursor {
  const setFilter = cursor.filter.bind(cursor)
  const setProjection = cursor.project.bind(cursor)
  const setHint = cursor.hint.bind(cursor)
  let filter = given
  let asked: OperationOptions = options
  let prepared: PreparedFind | undefined
  let opening: Opening | undefined
  const secured = secureCursor(cursor, {
    async prepare() {
      const { context } = valueOf(begun)
      state.assertGuarded()
      const model = state.model()
      prepared = await prepareFind(state, model, filter, asked, context, true)
      opening = openingOf(state, model.root, options, context, prepared.sought)
      setFilter(prepared.filter)
      setProjection((prepared.options['projection'] ?? {}) as Doc)
      const { hint } = prepared.options // of the slot that is asked, which only keys tell
      if (hint !== undefined && hint !== null) setHint(hint)
    },
    async open(documents) {
      const opened = await openDocuments(documents, opening as Opening) // set by prepare, which comes first
      for (const document of opened) prepared?.trim(document)
      return opened
    },
  })
  /** What is said of the cursor later is checked and translated as if it had come with the call. */
  const later = (name: 'sort' | 'hint' | 'min' | 'max' | 'collation' | 'limit' | 'skip' | 'returnKey') => {
    const set = cursor[name].bind(cursor) as (...values: unknown[]) => unknown
    return (value: unknown, ...more: unknown[]) => {
      const said = rewriteOptions({ [name]: value }, state.model())
      asked = { ...asked, [name]: value }
      set(said[name], ...more)
      return secured
    }
  }
  return Object.assign(secured, {
    filter(next: unknown) {
      filter = next
      return secured
    },
    project(projection: unknown) {
      asked = { ...asked, projection }
      return secured
    },
    sort: later('sort'),
    hint: later('hint'),
    min: later('min'),
    max: later('max'),
    collation: later('collation'),
    limit: later('limit'),
    skip: later('skip'),
    returnKey: later('returnKey'),
    addQueryModifier: () => refuseMethod(state, 'addQueryModifier() of a cursor: use the method of that name'),
    count: () => refuseMethod(state, 'count() of a cursor: use countDocuments()'),
  })
}

function refuseMethod({ name }: CollectionState, hint: string): never {
  return refuseQuery(name, '', 'unsupported-method', hint)
}
