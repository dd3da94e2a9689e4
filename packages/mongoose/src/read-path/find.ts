import type { BlindIndex, OperationContext, SoughtTokens } from '@fieldseal/core/adapter'
import { isDoc, type Doc } from '../bson/documents.ts'
import type { PromoteOptions } from '../bson/driver-values.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { rewriteFilter } from '../query-rewrite/rewrite-filter.ts'
import { rewriteProjection, type Projection } from '../query-rewrite/rewrite-projection.ts'
import { assertExact, filterScope, rewriteOptions, type OperationOptions } from '../query-rewrite/scope.ts'
import { TokenTerms } from '../query-rewrite/token-terms.ts'
import type { Opening } from './open-documents.ts'

/** A query as it is sent, and how its documents are opened. */
export interface PreparedFind {
  readonly filter: Doc
  readonly options: OperationOptions
  readonly trim: Projection['trim']
  readonly sought: ReadonlyMap<BlindIndex, SoughtTokens>
}

/** @param drops whether documents that a truncated index found in vain may be left out of the result */
export async function prepareFind(
  state: CollectionState,
  model: StoredModel,
  filter: unknown,
  options: OperationOptions,
  context: OperationContext,
  drops: boolean,
): Promise<PreparedFind> {
  const { result, sought } = await TokenTerms.rewrite(state.host, context, (terms) => {
    const scope = filterScope(state, model, terms, options)
    const criteria = rewriteFilter(filter, model.root, scope)
    assertExact(scope, drops && !isPaged(options))
    return { criteria, projected: rewriteProjection(options['projection'] ?? options['fields'], model, scope) }
  })
  const { projection, trim } = result.projected
  const { fields: _fields, projection: _given, ...rest } = rewriteOptions(options, model, sought)
  return {
    filter: result.criteria,
    options: projection === undefined ? rest : { ...rest, projection },
    trim,
    sought,
  }
}

function isPaged(options: OperationOptions): boolean {
  return [options['skip'], options['limit']].some((count) => count !== undefined && count !== null && count !== 0)
}

/** How documents of a collection are opened for one operation. */
export function openingOf(
  state: Pick<CollectionState, 'host' | 'promote'> & { readonly writer: Opening['writer'] },
  root: PathNode,
  options: OperationOptions,
  context: OperationContext,
  sought: Opening['sought'] = new Map(),
): Opening {
  return {
    host: state.host,
    context,
    root,
    promote: { ...state.promote(), ...definedOf(options) },
    sought,
    writer: mayRewrap(options) ? state.writer : undefined,
    whole: isWhole(options['projection'] ?? options['fields']),
    holdsSought: true,
  }
}

function isWhole(projection: unknown): boolean {
  return projection === undefined || (isDoc(projection) && Object.keys(projection).length === 0)
}

/** A missing option and one that is undefined mean the same to the driver. */
function definedOf(options: OperationOptions): PromoteOptions {
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) => value !== undefined && PROMOTE.includes(name)),
  )
}
const PROMOTE: readonly string[] = ['promoteValues', 'promoteLongs', 'promoteBuffers', 'useBigInt64', 'bsonRegExp']

/** Not inside the caller's transaction, where the write would be rolled back, and not after a read of the past. */
function mayRewrap({ session }: OperationOptions): boolean {
  return session?.inTransaction?.() !== true && session?.snapshotEnabled !== true
}

/** The filter of an operation that returns no documents. */
export async function countable(
  state: CollectionState,
  filter: unknown,
  options: OperationOptions,
): Promise<{ readonly filter: Doc; readonly options: OperationOptions }> {
  const context = state.host.capture()
  return prepareFind(state, state.model(), filter, options, context, false)
}
