import type { OperationContext } from '@fieldseal/core/adapter'
import { plain, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { rewriteArrayFilters } from '../query-rewrite/array-filters.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { assertFilter, rewriteFilter } from '../query-rewrite/rewrite-filter.ts'
import {
  assertExact,
  comparesByCollation,
  filterScope,
  rewriteOptions,
  type OperationOptions,
} from '../query-rewrite/scope.ts'
import { TokenTerms } from '../query-rewrite/token-terms.ts'
import { assertFactsKept } from './assert-facts-kept.ts'
import { completeMatched } from './complete-compounds.ts'
import { planCompounds, withCompounds } from './compound-writes.ts'
import { addKeys, Draft, sealDrafts } from './draft.ts'
import { planUpdate, type Edit } from './plan-update.ts'
import { arePlain, holdsEnvelope, plainOperators } from './plain-edits.ts'
import { editMatched, except, merged } from './read-modify-write.ts'
import {
  isUnacknowledged,
  MAX_ATTEMPTS,
  NOTHING,
  optionsOfNothing,
  readOptions,
  UNCHANGED,
  type PreparedUpdate,
  type UpdateRunner,
} from './prepared-update.ts'
import { demandedOf, sealInserted } from './upserted-values.ts'
import { confineToTenant, factsPinned, isSufficient, pinned, pinTo } from './update-facts.ts'

/** One update by criteria, of at most one document or of many. */
export interface UpdateRequest {
  readonly filter: unknown
  readonly update: unknown
  readonly options: OperationOptions
  readonly kind: 'one' | 'many'
}

/** @throws FieldsealError as `prepareUpdate`, and ERR_WRITE_UNSUPPORTED when others kept changing whose document it is */
export async function runUpdate<R>(
  state: CollectionState,
  request: UpdateRequest,
  context: OperationContext,
  runner: UpdateRunner<R>,
): Promise<R> {
  const model = state.model()
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const prepared = await prepareUpdate(state, model, request, context)
    if (prepared === undefined) return runner.run(NOTHING, UNCHANGED, optionsOfNothing(request.options))
    if (prepared.edits.length > 0 || prepared.missing.length > 0) {
      const run = prepared.edits.length > 0 ? editMatched : completeMatched
      const result = await run(state, model, prepared, context, runner)
      if (result !== undefined) return result
      continue
    }
    await sealDrafts([prepared.draft], state.host, context)
    try {
      const result = await runner.run(prepared.filter, prepared.finish(), prepared.options)
      if (!prepared.known || runner.matched(result) > 0 || isUnacknowledged(state, request.options)) return result
    } catch (error) {
      if (attempt > 2 || !isLostUpsert(error, request.options)) throw error
    }
  }
  return refuseWrite(model.map.id, '', 'emulate-contention', 'others kept changing whose document it is: try again')
}

/**
 * Whether another upsert has made the document meanwhile. MongoDB tries again by itself only where the update leaves the
 * path of the unique index alone, and a value is sealed beside the token that the filter asks for.
 * https://www.mongodb.com/docs/manual/reference/method/db.collection.updateOne/#upsert-with-duplicate-values
 */
function isLostUpsert(error: unknown, { upsert, session }: OperationOptions): boolean {
  return upsert === true && session?.inTransaction?.() !== true && Reflect.get(Object(error), 'code') === DUPLICATE_KEY
}
const DUPLICATE_KEY = 11000

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
  assertFilter(plain(filter), model.map.id) // of a write none is not everything
  const { result, sought } = await TokenTerms.rewrite(state.host, context, (terms) => {
    const scope = filterScope(state, model, terms, options)
    const draft = new Draft(model)
    const criteria = rewriteFilter(filter, model.root, scope)
    const plan = planUpdate(update, model, draft, scope)
    if (upsert) sealInserted(filter, plan, model, draft)
    const compounds = planCompounds(plan, model, draft, { upsert, kind, asked: scope.asked })
    const arrayFilters: unknown = options['arrayFilters']
    const rewritten = Array.isArray(arrayFilters)
      ? { ...options, arrayFilters: rewriteArrayFilters(arrayFilters, update, model.root, scope) }
      : options
    assertExact(scope, false)
    return { criteria, draft, plan, compounds, options: rewriteOptions(rewritten, model) }
  })
  const { draft, plan, compounds } = result
  const { writes, missing } = compounds
  const [edit] = plan.edits
  if (edit !== undefined && kind === 'many' && !arePlain(plan.edits)) refuseMany(edit, model)
  const depends = edit ?? missing.map(({ path }) => ({ root: path, operator: '$set' }))[0]
  if (depends !== undefined && isUnacknowledged(state, options))
    refuseWrite(
      model.map.id,
      depends.root,
      'unacknowledged',
      `${depends.operator} must know what became of it: not with w: 0`,
    )
  const meeting = {
    collation: comparesByCollation(state, options),
    seals: draft.cells.length > 0 || edit !== undefined,
  }
  let criteria = result.criteria
  if (typeof context.tenant === 'string') criteria = confineToTenant(criteria, model, context, meeting)
  let known = false
  if (kind === 'one' && needsDocument(criteria, model, context, meeting.seals)) {
    const found = await findFacts(state, model, criteria, options)
    known = found !== undefined
    if (found !== undefined) criteria = pinTo(criteria, found, model)
    else if (!upsert) return undefined
  }
  const confined = confineToTenant(criteria, model, context, meeting)
  assertFactsKept(plan.update, confined, model)
  draft.facts = factsPinned(confined, model, context, meeting)
  const demanded = upsert ? demandedOf(plan.edits, filter, confined) : []
  if (edit !== undefined && kind === 'many') {
    const sealed = holdsEnvelope(plan.edits)
    const found = await state.raw.findOne(
      { $and: [confined, sealed] },
      { ...readOptions(options), projection: { _id: 1 } },
    )
    if (found !== null) refuseMany(edit, model)
    const finish = () => {
      const update = merged(plan.update as Doc, plainOperators(plan.edits)) // edits come from operators, never from a pipeline
      return withCompounds(addKeys(update, draft.kekIds), writes, draft)
    }
    const criteria = except(confined, sealed, demanded)
    return { filter: criteria, options: result.options, draft, edits: [], demanded, missing, known, finish }
  }
  return {
    filter: confined,
    options: rewriteOptions(result.options, model, sought),
    draft,
    edits: plan.edits,
    demanded,
    missing,
    known,
    finish: () =>
      Array.isArray(plan.update)
        ? plan.update
        : withCompounds(addKeys(plan.update as Doc, draft.kekIds), writes, draft),
  }
}

function refuseMany({ root, operator }: Edit, { map }: StoredModel): never {
  return refuseWrite(
    map.id,
    root,
    'update-many',
    `${operator} needs the plaintext of each document: update one at a time`,
  )
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
