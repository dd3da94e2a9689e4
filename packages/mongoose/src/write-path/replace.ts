import type { OperationContext } from '@fieldseal/core/adapter'
import { plain, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { assertFilter, rewriteFilter } from '../query-rewrite/rewrite-filter.ts'
import {
  assertExact,
  comparesByCollation,
  filterScope,
  rewriteOptions,
  type OperationOptions,
} from '../query-rewrite/scope.ts'
import { TokenTerms } from '../query-rewrite/token-terms.ts'
import { sealDrafts } from './draft.ts'
import { prepareReplacement, type PreparedDocument } from './insert.ts'
import { canonicalPin, confineToTenant, isByBytes, pinTo } from './update-facts.ts'

export interface PreparedReplacement extends PreparedDocument {
  readonly filter: Doc
  readonly options: OperationOptions
}

/** A replacement of at most one document, of the new document's tenant; the keyspace is that of the new one too. */
export async function prepareReplace(
  state: CollectionState,
  model: StoredModel,
  {
    filter,
    replacement,
    options,
  }: { readonly filter: unknown; readonly replacement: unknown; readonly options: OperationOptions },
  context: OperationContext,
): Promise<PreparedReplacement> {
  const { criteria, rewritten } = await rewriteCriteria(state, model, filter, options, context)
  const collation = comparesByCollation(state, options)
  const pinnedId = isByBytes(model.id, collation) ? canonicalPin(criteria, model.id) : undefined
  const prepared = prepareReplacement(replacement, pinnedId, model, context)
  const confined =
    typeof context.tenant === 'string' || model.tenant === undefined
      ? criteria
      : pinTo(criteria, plain(replacement) as Doc, model, [model.tenant])
  return { ...prepared, filter: confineToTenant(confined, model, context, { collation }), options: rewritten }
}

export async function runReplace<R>(
  state: CollectionState,
  request: Parameters<typeof prepareReplace>[2],
  context: OperationContext,
  run: (filter: Doc, replacement: Doc, options: OperationOptions) => Promise<R>,
): Promise<R> {
  const prepared = await prepareReplace(state, state.model(), request, context)
  await sealDrafts([prepared.draft], state.host, context)
  return run(prepared.filter, prepared.finish(), prepared.options)
}

/** The criteria of a delete, confined to the caller's tenant; in a system context, to one document or one tenant. */
export async function deleteCriteria(
  state: CollectionState,
  model: StoredModel,
  filter: unknown,
  options: OperationOptions,
  context: OperationContext,
): Promise<{ readonly confined: Doc; readonly rewritten: OperationOptions }> {
  const { criteria, rewritten } = await rewriteCriteria(state, model, filter, options, context)
  const isOne = typeof context.tenant !== 'string' && canonicalPin(criteria, model.id) !== undefined
  const collation = comparesByCollation(state, options)
  return { confined: isOne ? criteria : confineToTenant(criteria, model, context, { collation }), rewritten }
}

async function rewriteCriteria(
  state: CollectionState,
  model: StoredModel,
  filter: unknown,
  options: OperationOptions,
  context: OperationContext,
): Promise<{ readonly criteria: Doc; readonly rewritten: OperationOptions }> {
  assertFilter(plain(filter), model.map.id)
  const { result, sought } = await TokenTerms.rewrite(state.host, context, (terms) => {
    const scope = filterScope(state, model, terms, options)
    const criteria = rewriteFilter(filter, model.root, scope)
    assertExact(scope, false)
    return criteria
  })
  return { criteria: result, rewritten: rewriteOptions(options, model, sought) }
}
