import type { BlindIndex, SoughtTokens } from '@fieldseal/core/adapter'
import type { CollectionState } from '../install/collection-state.ts'
import type { Doc } from '../bson/documents.ts'
import { isDoc } from '../bson/documents.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { refuseQuery } from './refuse.ts'
import type { FilterScope } from './rewrite-filter.ts'
import { rewriteHint } from './hints.ts'
import { storedSort } from './plain-places.ts'
import { assertSortable } from './rewrite-projection.ts'
import type { TokenTerms } from './token-terms.ts'

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
    stored: model,
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
export function rewriteOptions<O extends OperationOptions>(
  options: O,
  model: StoredModel,
  sought: ReadonlyMap<BlindIndex, SoughtTokens> = new Map(),
): O {
  const { root, map } = model
  if (options['raw'] === true)
    refuseQuery(map.id, '', 'raw-documents', 'documents that nobody has read cannot be opened: use decryptRaw')
  if (options['returnKey'] === true)
    refuseQuery(map.id, '', 'raw-documents', 'returnKey shows what stands in an index, tokens among it')
  const out: Record<string, unknown> = { ...options }
  for (const name of ['sort', 'min', 'max'] as const) {
    if (options[name] === undefined || (name !== 'sort' && !isDoc(options[name]))) continue
    assertSortable(options[name], root, map.id)
    out[name] = storedSort(options[name], root)
  }
  if (options.hint !== undefined) out['hint'] = rewriteHint(options.hint, model, sought)
  return out as O // the same options
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
