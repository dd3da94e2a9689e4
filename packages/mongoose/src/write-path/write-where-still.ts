import type { OperationContext } from '@fieldseal/core/adapter'
import { AS_STORED } from '../bson/bson-codec.ts'
import { deepCopyOf, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { isPosition } from '../path-graph/walk-path.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { comparesByCollation } from '../query-rewrite/scope.ts'
import { factsOf } from '../read-path/collect-rows.ts'
import { openDocuments } from '../read-path/open-documents.ts'
import {
  MAX_ATTEMPTS,
  NOTHING,
  optionsOfNothing,
  readOptions,
  UNCHANGED,
  type PreparedUpdate,
  type UpdateRunner,
} from './prepared-update.ts'
import { isStill } from './still.ts'
import { isByBytes, pinTo } from './update-facts.ts'

/** A document that an update is about: as it is stored, and opened. */
export interface Matched {
  readonly document: Doc
  readonly plaintext: Doc
}

/** What a write needs of its document, and makes of it. */
export interface Dependent<R> {
  /** Stored paths that are read, and that must be what they were when it is written. */
  readonly places: readonly string[]
  /** The update to send, when the facts of the draft are those of the document. */
  update(matched: Matched): Promise<Doc | readonly unknown[]>
  /** Instead of nothing where no document meets the filter. */
  readonly ifNone?: (() => Promise<R>) | undefined
}

/**
 * An update that depends on what a document holds: reads it, and writes where that is still what was read. Another writer
 * in between means: once more.
 *
 * @returns undefined when the document that was read to learn whose it is has become another's, or is gone
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED when others kept writing the same values through 20 attempts
 */
export async function writeWhereStill<R>(
  state: CollectionState,
  model: StoredModel,
  { filter, options, draft, known }: PreparedUpdate,
  context: OperationContext,
  runner: UpdateRunner<R>,
  { places, update, ifNone }: Dependent<R>,
): Promise<R | undefined> {
  const projection = projectionOf([...model.facts.map(({ path }) => path), ...places])
  const opening = {
    host: state.host,
    context: { ...context, onUnreadable: 'throw' as const }, // nothing is computed from a sentinel
    root: model.root,
    promote: AS_STORED,
    sought: new Map(),
    writer: undefined,
    whole: false,
  }
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const document = await state.raw.findOne(filter, { ...readOptions(options), projection })
    if (document === null) {
      if (known) return undefined
      return ifNone === undefined ? runner.run(NOTHING, UNCHANGED, optionsOfNothing(options)) : ifNone()
    }
    const still = Object.fromEntries(places.map((path) => [path, isStill(document, path)]))
    const facts = factsOf(document, model, context)
    draft.facts = isByBytes(model.id, comparesByCollation(state, options)) ? facts : { ...facts, rowId: undefined }
    const [plaintext = {}] = await openDocuments([deepCopyOf(document) as Doc], opening)
    const sent = await update({ document, plaintext })
    const confined = pinTo(filter, document, model)
    const guarded = { ...confined, $and: [...((confined['$and'] as unknown[] | undefined) ?? []), still] }
    const result = await runner.run(guarded, sent, { ...options, upsert: false })
    if (runner.matched(result) > 0) return result
  }
  return refuseWrite(
    model.map.id,
    places[0] ?? '',
    'emulate-contention',
    `others kept changing it through ${MAX_ATTEMPTS} attempts: try again later`,
  )
}

/** Arrays are projected whole: an index in a path of a projection is the name of a path. */
function projectionOf(paths: readonly string[]): Doc {
  const whole = paths.map((path) => {
    const names = path.split('.')
    const position = names.findIndex(isPosition)
    return position === -1 ? path : names.slice(0, position).join('.')
  })
  const outermost = whole.filter((path) => !whole.some((other) => path.startsWith(`${other}.`)))
  return Object.fromEntries(outermost.map((path) => [path, 1]))
}
