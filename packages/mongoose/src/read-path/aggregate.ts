import { isDoc, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { rewritePipeline } from '../query-rewrite/rewrite-pipeline.ts'
import { assertExact, filterScope, rewriteOptions, type OperationOptions } from '../query-rewrite/scope.ts'
import { TokenTerms } from '../query-rewrite/token-terms.ts'
import { openingOf } from './find.ts'
import { openDocuments, type Opening } from './open-documents.ts'
import { begin, secureCursor, valueOf, whenMade, type DriverCursor, type Made } from './secure-cursor.ts'

/** A collection to aggregate; one without encrypted documents may still look up those of others. */
export type Aggregated = Pick<
  CollectionState,
  'name' | 'host' | 'raw' | 'collation' | 'promote' | 'neighbour' | 'assertGuarded'
> & { readonly model: () => StoredModel | undefined }

/** An aggregation; its stages are rewritten before the first batch is asked for. */
export function aggregate(state: Aggregated, pipeline: unknown, options: OperationOptions): Made<DriverCursor> {
  const begun = begin(() => {
    const model = state.model()
    return { context: state.host.capture(), options: model === undefined ? options : rewriteOptions(options, model) }
  })
  const live: Doc[] = []
  const hint: Doc = {} // completed like the stages: the slot that is asked is not known yet
  const made = state.raw.aggregate(live, 'value' in begun ? withHint(begun.value.options, hint) : {})
  return whenMade(made as Made<DriverCursor>, (cursor) => {
    let opening: Opening | undefined
    let trim: (document: Doc) => void = () => {}
    return secureCursor(cursor, {
      async prepare() {
        const { context } = valueOf(begun)
        state.assertGuarded()
        const model = state.model()
        const added = live.splice(0) // stages that were added to the cursor itself
        const { result, sought } = await TokenTerms.rewrite(state.host, context, (terms) => {
          const scope = { ...filterScope(state, model, terms, options), neighbour: state.neighbour }
          const rewritten = rewritePipeline([...(Array.isArray(pipeline) ? pipeline : []), ...added], model, scope)
          assertExact(scope, false)
          return rewritten
        })
        live.push(...result.stages)
        const asked = model === undefined ? options : rewriteOptions(options, model, sought)
        if (isDoc(asked.hint)) Object.assign(hint, asked.hint)
        trim = result.trim
        // What a stage has reshaped does not tell where its cells are stored, so nothing is rewrapped there.
        opening = {
          ...openingOf({ ...state, writer: undefined }, result.shape, options, context, sought),
          holdsSought: result.isStored,
        }
      },
      async open(documents) {
        const opened = await openDocuments(documents, opening as Opening) // set by prepare, which comes first
        for (const document of opened) trim(document)
        return opened
      },
    })
  })
}

function withHint(options: OperationOptions, hint: Doc): OperationOptions {
  return isDoc(options.hint) ? { ...options, hint } : options
}

/** Whether a pipeline names another collection that has encrypted documents. */
export function namesEncrypted(pipeline: unknown, neighbour: CollectionState['neighbour']): boolean {
  if (typeof pipeline === 'string') return neighbour(pipeline) !== undefined
  if (Array.isArray(pipeline)) return pipeline.some((each) => namesEncrypted(each, neighbour))
  return isDoc(pipeline) && Object.values(pipeline).some((each) => namesEncrypted(each, neighbour))
}
