import type { BlindIndex } from '@fieldseal/core/adapter'
import type { CollectionState } from '../install/collection-state.ts'
import type { Doc } from '../bson/documents.ts'
import { isDoc } from '../bson/documents.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { refuseQuery } from './refuse.ts'
import type { FilterScope } from './rewrite-filter.ts'
import { assertSortable } from './rewrite-projection.ts'
import { SLOT_NAMES, type TokenTerms } from './token-terms.ts'

/** What one operation of the driver's collection may carry beside its filter. */
export type OperationOptions = Doc & {
  readonly collation?: unknown
  readonly hint?: unknown
  readonly sort?: unknown
  readonly min?: unknown
  readonly max?: unknown
  readonly session?: { inTransaction?(): boolean; readonly snapshotEnabled?: boolean }
}

export function filterScope(
  state: Pick<CollectionState, 'name' | 'collation'>,
  model: StoredModel | undefined,
  terms: TokenTerms,
  options: OperationOptions,
): FilterScope {
  return {
    model: model?.map.id ?? state.name,
    terms,
    collation: comparesByCollation(state, options),
    asked: new Set(),
    branching: new Set(),
  }
}

/** Whether text is compared under a collation: that of the query, or that of the collection. */
export function comparesByCollation(state: Pick<CollectionState, 'collation'>, options: OperationOptions): boolean {
  const { collation } = options
  if (collation === undefined || collation === null) return state.collation()
  return !(isDoc(collation) && collation['locale'] === 'simple') // which compares bytes
}

/**
 * Refuses orders over ciphertext and translates a hint to the index that really exists.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED
 */
export function rewriteOptions<O extends OperationOptions>(options: O, model: StoredModel): O {
  const { root, map } = model
  if (options['raw'] === true)
    refuseQuery(map.id, '', 'raw-documents', 'documents that nobody has read cannot be opened: use decryptRaw')
  assertSortable(options.sort, root, map.id)
  for (const bounds of [options.min, options.max]) assertSortable(isDoc(bounds) ? bounds : undefined, root, map.id)
  return isDoc(options.hint) ? { ...options, hint: tokenKeys(options.hint, model) } : options
}

/** An index key with searchable paths replaced by those of their tokens. */
function tokenKeys(keys: Doc, { root, map }: StoredModel): Doc {
  const out: Doc = {}
  for (const [path, direction] of Object.entries(keys)) {
    const { node } = walkPath(root, path)
    const field = node?.field ?? node?.element?.field
    if (field === undefined) out[path] = direction
    else if (field.blindIndex === undefined) refuseQuery(map.id, path, 'index', 'it has no blindIndex')
    else out[`${path}.${SLOT_NAMES.odd}`] = direction
  }
  return out
}

/**
 * Rows that a truncated index finds in vain are dropped after decryption. That is right only where every document must
 * match and nobody has counted, paged or written before.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED
 */
export function assertExact({ asked, branching, model }: FilterScope, drops: boolean): void {
  const truncated = [...(drops ? branching : asked)].find((index: BlindIndex) => index.truncated)
  if (truncated === undefined) return
  refuseQuery(
    model,
    truncated.id,
    'truncated-index',
    'the index is truncated: find the documents without limit, skip, alternatives or negation, or use an index of 128 bits',
  )
}
