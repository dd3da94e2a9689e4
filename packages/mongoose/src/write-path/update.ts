import type { OperationContext } from '@fieldseal/core/adapter'
import { isDoc, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { rewriteArrayFilters } from '../query-rewrite/array-filters.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { rewriteFilter, type FilterScope } from '../query-rewrite/rewrite-filter.ts'
import {
  assertExact,
  comparesByCollation,
  filterScope,
  rewriteOptions,
  type OperationOptions,
} from '../query-rewrite/scope.ts'
import { TokenTerms } from '../query-rewrite/token-terms.ts'
import { assertFactsKept } from './assert-facts-kept.ts'
import { addKeys, Draft, sealDrafts } from './draft.ts'
import { planUpdate } from './plan-update.ts'
import { editMatched } from './read-modify-write.ts'
import { sealValue } from './seal-value.ts'
import {
  NOTHING,
  readOptions,
  TOUCH,
  withoutUpsert,
  type PreparedUpdate,
  type UpdateRunner,
} from './prepared-update.ts'
import { confine, isSufficient, pinned, pinTo } from './update-facts.ts'

/** One update by criteria. `one`: at most one document; `bulk`: part of a bulk write, sent together with others. */
export interface UpdateRequest {
  readonly filter: unknown
  readonly update: unknown
  readonly options: OperationOptions
  readonly kind: 'one' | 'many' | 'bulk'
}

export async function runUpdate<R>(
  state: CollectionState,
  request: UpdateRequest,
  context: OperationContext,
  runner: UpdateRunner<R>,
): Promise<R> {
  const model = state.model()
  const prepared = await prepareUpdate(state, model, request, context)
  if (prepared === undefined) return runner.run(NOTHING, TOUCH, withoutUpsert(request.options))
  if (prepared.edits.length > 0) return editMatched(state, model, prepared, context, runner)
  await sealDrafts([prepared.draft], state.host, context)
  return runner.run(prepared.filter, prepared.finish(), prepared.options)
}

/**
 * Rewrites an update and confines it to the caller's tenant.
 *
 * @returns undefined when the document it would be about does not exist
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED, ERR_QUERY_UNSUPPORTED, ERR_TENANT_MISMATCH
 */
export async function prepareUpdate(
  state: CollectionState,
  model: StoredModel,
  { filter, update, options, kind }: UpdateRequest,
  context: OperationContext,
): Promise<PreparedUpdate | undefined> {
  const upsert = options['upsert'] === true
  const { result } = await TokenTerms.rewrite(state.host, context, (terms) => {
    const scope = filterScope(state, model, terms, options)
    const draft = new Draft(model)
    const criteria = rewriteFilter(filter, model.root, scope)
    assertExact(scope, false)
    const plan = planUpdate(update, model, draft, scope)
    const { update: out } = plan
    if (upsert && !Array.isArray(out)) sealSoughtValues(filter, out as Doc, model, draft, scope)
    const arrayFilters: unknown = options['arrayFilters']
    const rewritten = Array.isArray(arrayFilters)
      ? { ...options, arrayFilters: rewriteArrayFilters(arrayFilters, update, model.root, scope) }
      : options
    return { criteria, draft, plan, options: rewriteOptions(rewritten, model) }
  })
  const { draft, plan } = result
  const seals = draft.cells.length > 0 || plan.edits.length > 0
  let { criteria } = result
  if (kind !== 'many' && needsDocument(criteria, model, context, seals)) {
    const known = await findFacts(state, model, criteria, options)
    if (known !== undefined) criteria = pinTo(criteria, known, model)
    else if (!upsert) return undefined
  }
  const collation = comparesByCollation(state, options)
  const confined = confine(criteria, model, context, { collation, seals })
  if (plan.edits.length > 0 && kind !== 'one') {
    const [edit] = plan.edits as [(typeof plan.edits)[number]]
    refuseWrite(
      model.map.id,
      edit.root,
      kind === 'many' ? 'update-many' : 'needs-emulation',
      `${edit.operator} needs the plaintext of each document: update one at a time`,
    )
  }
  assertFactsKept(plan.update, confined, model)
  draft.facts = confined.facts
  return {
    filter: confined.filter,
    options: result.options,
    draft,
    edits: plan.edits,
    finish: () => (Array.isArray(plan.update) ? plan.update : addKeys(plan.update as Doc, draft.kekIds)),
  }
}

/** Whether the document has to be read first: it alone tells its tenant (work across tenants) or its keyspace. */
function needsDocument(criteria: Doc, model: StoredModel, context: OperationContext, seals: boolean): boolean {
  if (isSufficient(criteria, model, context)) return false
  if (typeof context.tenant !== 'string' && model.tenant !== undefined) return pinned(criteria, '_id') !== undefined
  return seals
}

async function findFacts(
  state: CollectionState,
  { facts }: StoredModel,
  criteria: Doc,
  options: OperationOptions,
): Promise<Doc | undefined> {
  const projection = Object.fromEntries(facts.map(({ path }) => [path, 1]))
  return (await state.raw.findOne(criteria, { ...readOptions(options), projection })) ?? undefined
}

/**
 * An upsert stores what its filter demands by equality. Of an encrypted path that would be a token without a value, so
 * the value is sealed beside it.
 */
function sealSoughtValues(filter: unknown, update: Doc, model: StoredModel, draft: Draft, scope: FilterScope): void {
  const written = new Set(Object.values(update).flatMap((operands) => Object.keys(isDoc(operands) ? operands : {})))
  for (const [path, value] of equalities(filter)) {
    const { node, mapKeys, positional } = walkPath(model.root, path)
    if (node?.field === undefined || positional || written.has(path)) continue
    if (!isDoc(update['$setOnInsert'])) update['$setOnInsert'] = {}
    sealValue(value, node, mapKeys, { holder: update['$setOnInsert'] as Doc, key: path }, draft)
    scope.asked.add(node.field.blindIndex as NonNullable<typeof node.field.blindIndex>) // equality was asked of it
  }
}

function equalities(filter: unknown): [string, unknown][] {
  if (!isDoc(filter)) return []
  return Object.entries(filter).flatMap(([key, value]): [string, unknown][] => {
    if (key === '$and' && Array.isArray(value)) return value.flatMap(equalities)
    const equal: unknown = pinned({ [key]: value }, key)
    return key.startsWith('$') || equal === undefined ? [] : [[key, equal]]
  })
}
