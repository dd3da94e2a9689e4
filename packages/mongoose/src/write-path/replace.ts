import type { OperationContext } from '@fieldseal/core/adapter'
import { type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { rewriteFilter } from '../query-rewrite/rewrite-filter.ts'
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
import { canonicalPin, confine, type ConfinedFilter } from './update-facts.ts'

export interface PreparedReplacement extends PreparedDocument {
  readonly filter: Doc
  readonly options: OperationOptions
}

/** A replacement of at most one document, confined to the caller's tenant; the keyspace is that of the new document. */
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
  const { confined, rewritten } = await confinedCriteria(state, model, filter, options, context)
  const collation = comparesByCollation(state, options) && model.id.kind === 'string'
  const pinnedId = collation ? undefined : canonicalPin(confined.filter, model.id)
  const prepared = prepareReplacement(replacement, pinnedId, model, context)
  return { ...prepared, filter: confined.filter, options: rewritten }
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

/** The criteria of a write that seals nothing, confined to the caller's tenant: deletes and replacements. */
export async function confinedCriteria(
  state: CollectionState,
  model: StoredModel,
  filter: unknown,
  options: OperationOptions,
  context: OperationContext,
): Promise<{ readonly confined: ConfinedFilter; readonly rewritten: OperationOptions }> {
  const { result } = await TokenTerms.rewrite(state.host, context, (terms) => {
    const scope = filterScope(state, model, terms, options)
    const criteria = rewriteFilter(filter, model.root, scope)
    assertExact(scope, false)
    return criteria
  })
  const rewritten = rewriteOptions(options, model)
  // Work across tenants writes by its criteria alone; everybody else meets the own tenant's documents.
  if (typeof context.tenant !== 'string') return { confined: { filter: result, facts: NO_FACTS }, rewritten }
  return { confined: confine(result, model, context, { collation: false, seals: false }), rewritten }
}

const NO_FACTS = Object.freeze({ tenant: '', keyspace: '', rowId: undefined })
