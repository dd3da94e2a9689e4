import { FieldsealError } from '@fieldseal/core/adapter'
import { isDoc, valueAt, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { plainPathOf, touchesEncrypted, walkPath } from '../path-graph/walk-path.ts'
import { arrayOf, documentOf, PLAIN, withPath } from '../read-path/shape.ts'
import { assertPlainExpression } from './expressions.ts'
import { broughtHome, computes, storedSort } from './plain-places.ts'
import { refuseOldPlace, refuseQuery } from './refuse.ts'
import { rewriteFilter, type FilterScope } from './rewrite-filter.ts'
import { assertSortable, rewriteProjection } from './rewrite-projection.ts'

/** A pipeline as it is sent, and what its documents look like. */
export interface RewrittenPipeline {
  readonly stages: Doc[]
  readonly shape: PathNode
  /** Its documents are as they are stored. */
  readonly isStored: boolean
  /** Takes away what was added for opening. */
  readonly trim: (document: Doc) => void
}

/** What a pipeline may reach beside its own collection. */
export interface PipelineScope extends FilterScope {
  readonly neighbour: (collection: string) => StoredModel | undefined
}

interface Passing {
  shape: PathNode
  /** The stored model, while documents are still those of the collection. */
  model: StoredModel | undefined
  /** The stages so far have passed documents on as they are stored. */
  isStored: boolean
  /** The pipeline began with encrypted documents. */
  readonly encrypted: boolean
  trims: ((document: Doc) => void)[]
}

/** Stages that pass documents on as they are and read nothing of them. */
const PASSING: readonly string[] = ['$limit', '$skip', '$sample']
/** Stages that leave documents as they are. */
const KEEPING: readonly string[] = ['$match', '$sort']
/** Stages that make other documents, out of expressions. */
const RESHAPING: readonly string[] = [
  '$group',
  '$bucket',
  '$bucketAuto',
  '$sortByCount',
  '$replaceRoot',
  '$replaceWith',
  '$project',
]

/**
 * Follows the shape of documents through the stages: conditions on encrypted paths become conditions on tokens, plain
 * stages pass, and what would compute with ciphertext or copy it elsewhere is refused. So are unknown stages where there
 * is ciphertext.
 *
 * @param model undefined for a collection without encrypted documents
 * @param isStored false where stages before have made others of its documents
 * @param trims what is to be done to documents that arrive here, as long as no stage makes others of them
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED
 */
export function rewritePipeline(
  pipeline: readonly unknown[],
  model: StoredModel | undefined,
  scope: PipelineScope,
  trims: Passing['trims'] = [],
  isStored = model !== undefined,
): RewrittenPipeline {
  const passing: Passing = {
    shape: model?.root ?? PLAIN,
    model,
    isStored,
    encrypted: model !== undefined,
    trims: [...trims],
  }
  const stages = pipeline.flatMap((stage) => {
    const [[operator, operand] = ['', undefined]] = isDoc(stage) ? Object.entries(stage) : []
    const before = computes(operator, operand) ? bringHome(passing) : []
    const rewritten = { [operator]: rewriteStage(operator, operand, passing, storedScope(passing, scope)) }
    if (before.length > 0 || !(PASSING.includes(operator) || KEEPING.includes(operator))) passing.isStored = false
    return [...before, rewritten]
  })
  return {
    stages,
    shape: passing.shape,
    isStored: passing.isStored,
    trim: (document) => {
      for (const trim of passing.trims) trim(document)
    },
  }
}

function storedScope({ isStored, model }: Passing, scope: PipelineScope): PipelineScope {
  return { ...scope, stored: isStored ? model : undefined }
}

function bringHome(passing: Passing): readonly Doc[] {
  if (passing.model === undefined || passing.shape !== passing.model.root) return []
  const { stages, shape } = broughtHome(passing.shape)
  passing.shape = shape
  return stages
}

function rewriteStage(operator: string, operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  const { shape } = passing
  const refuse = (path: string, reason: string, hint: string) => refuseQuery(scope.model, path, reason, hint)
  if (PASSING.includes(operator)) return operand
  switch (operator) {
    case '$match':
      return rewriteFilter(operand, shape, scope, shape !== passing.model?.root)
    case '$sort':
      assertSortable(operand, shape, scope.model)
      return storedSort(operand, shape)
    case '$count':
      return reshape(passing, operand)
    case '$project':
      return project(operand, passing, scope)
    case '$unset':
      return unset(operand, passing, scope)
    case '$set':
    case '$addFields':
      for (const [path, value] of Object.entries(isDoc(operand) ? operand : {})) {
        assertPlainExpression(value, shape, scope.model, operator)
        assertWritable(path, operator, shape, scope)
      }
      return operand
    case '$unwind':
      assertUnwindable(operand, shape, scope)
      return operand
    case '$lookup':
      return lookup(operand, passing, scope)
    case '$graphLookup':
      return graphLookup(operand, passing, scope)
    case '$facet':
      return facet(operand, passing, scope)
    case '$unionWith':
      return unionWith(operand, passing, scope)
    case '$out':
    case '$merge':
      if (passing.encrypted || scope.neighbour(targetOf(operand)) !== undefined)
        refuse('', 'agg-write', `${operator} writes what nobody has encrypted for the place where it goes`)
      return operand
    default:
      if (shape.conceals && !RESHAPING.includes(operator))
        refuse('', 'agg-stage', `${operator || 'a stage'} is not checked for encrypted paths`)
      assertPlainExpression(operand, shape, scope.model, operator)
      return reshape(passing, operand)
  }
}

/** The collection that `$out`, `$merge` or `$unionWith` names. */
function targetOf(operand: unknown): string {
  if (!isDoc(operand)) return String(operand)
  return targetOf(operand['into'] ?? operand['coll'])
}

/** Documents are others from here on, made of plain values. */
function reshape(passing: Passing, operand: unknown): unknown {
  passing.shape = PLAIN
  passing.model = undefined
  passing.trims = []
  return operand
}

/** A path that a stage puts a computed value at. */
function assertWritable(path: string, operator: string, shape: PathNode, { model }: FilterScope): void {
  if (path === KEYS_PATH || touchesEncrypted(shape, path) || saysWhose(shape, path))
    refuseQuery(model, path, 'agg-stage', `${operator} overwrites an encrypted path, or what says whose document it is`)
}

/** Whether a path is the row id, tenant or keyspace of a stored document, here or brought by a `$lookup`. */
function saysWhose(shape: PathNode, path: string): boolean {
  let node: PathNode | undefined = shape
  for (let rest = path; rest !== ''; rest = rest.split('.').slice(1).join('.')) {
    while (node?.element !== undefined) node = node.element
    if (node?.model?.facts.some((fact) => fact.path === rest || fact.path.startsWith(`${rest}.`)) === true) return true
    node = node?.child(rest.split('.', 1)[0] as string)
  }
  return false
}

/** A projection of stored documents keeps what opening needs; one of other documents may not name encrypted paths. */
function project(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  const { model, shape } = passing
  const entries = Object.entries(isDoc(operand) ? operand : {})
  if (model !== undefined && shape === model.root && entries.every(([, value]) => isSwitch(value))) {
    const { projection, trim } = rewriteProjection(operand, model, scope)
    passing.trims.push(trim)
    return projection ?? { [KEYS_PATH]: 0 }
  }
  for (const [path, value] of entries) {
    if (touchesEncrypted(shape, path) && value !== 0 && value !== false)
      refuseQuery(scope.model, path, 'agg-stage', 'project encrypted paths before other stages, and as they are')
    if (!isSwitch(value)) assertPlainExpression(value, shape, scope.model, '$project')
  }
  const excludes = entries.filter(([path]) => path !== '_id').every(([, value]) => value === 0 || value === false)
  if (!excludes) return reshape(passing, operand)
  const whose = entries.find(([path]) => saysWhose(shape, path))
  if (whose !== undefined)
    refuseQuery(scope.model, whose[0], 'agg-stage', 'it says whose document this is: take it away after reading')
  const old = oldPlaces(
    entries.map(([path]) => path),
    shape,
    scope,
  )
  return Object.fromEntries([...entries, ...old.map((path) => [path, 0])])
}

/** What is taken away is taken away from both of its places. */
function oldPlaces(paths: readonly string[], shape: PathNode, { model }: FilterScope): string[] {
  return paths.flatMap((path) => {
    const walked = walkPath(shape, path)
    const { plainOf } = walked.node ?? {}
    if (plainOf !== undefined) refuseOldPlace(model, path, plainOf)
    return plainPathOf(walked, path) ?? []
  })
}

function isSwitch(value: unknown): boolean {
  return typeof value === 'number' || typeof value === 'boolean'
}

function unset(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  const paths = [operand].flat().map(String)
  for (const path of paths)
    if (saysWhose(passing.shape, path))
      refuseQuery(scope.model, path, 'agg-stage', 'it says whose document this is: take it away after reading')
  const old = oldPlaces(paths, passing.shape, scope)
  return old.length === 0 ? operand : [...paths, ...old]
}

function assertUnwindable(operand: unknown, shape: PathNode, scope: FilterScope): void {
  const path = String(isDoc(operand) ? operand['path'] : operand).replace(/^\$/, '')
  const { node, inside } = walkPath(shape, path)
  if (inside !== undefined || node?.isWhole === true)
    refuseQuery(scope.model, path, 'agg-stage', 'the array is one encrypted value')
  const index = isDoc(operand) ? operand['includeArrayIndex'] : undefined
  if (typeof index === 'string') assertWritable(index, 'includeArrayIndex', shape, scope)
}

function lookup(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  const { shape } = passing
  if (!isDoc(operand) || typeof operand['as'] !== 'string') return operand // the server says what is wrong
  const foreign = typeof operand['from'] === 'string' ? scope.neighbour(operand['from']) : undefined
  assertPlainPath(operand['localField'], shape, scope, 'localField')
  if (foreign !== undefined) assertPlainPath(operand['foreignField'], foreign.root, scope, 'foreignField')
  assertPlainExpression(operand['let'], shape, scope.model, '$lookup.let')
  const { as, pipeline } = operand as { readonly as: string; readonly pipeline?: unknown }
  if (!Array.isArray(pipeline)) {
    put(passing, as, foreign?.root ?? PLAIN, scope)
    return operand
  }
  const rewritten = rewritePipeline(pipeline, foreign, { ...scope, model: foreign?.map.id ?? scope.model })
  put(passing, as, rewritten.shape, scope)
  passing.trims.push((document) => trimAt(document, as, rewritten.trim))
  return { ...operand, pipeline: rewritten.stages }
}

/** Documents of a shape are put at a path, as an array. */
function put(passing: Passing, as: string, element: PathNode, { model }: FilterScope): void {
  const parents = as.split('.').slice(0, -1)
  let node: PathNode | undefined = passing.shape
  for (const name of parents) node = node?.child(name)
  if (saysWhose(passing.shape, as) || node?.element !== undefined || node?.values !== undefined)
    refuseQuery(model, as, 'agg-stage', 'say another name in `as`')
  passing.shape = withPath(passing.shape, as, arrayOf(element))
}

function trimAt(document: Doc, path: string, trim: (document: Doc) => void): void {
  for (const each of [valueAt(document, path)].flat()) if (isDoc(each)) trim(each)
}

function unionWith(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  if (passing.shape.reaches || scope.neighbour(targetOf(operand)) !== undefined)
    refuseQuery(scope.model, '', 'agg-stage', '$unionWith mixes encrypted documents with others: aggregate each alone')
  const pipeline: unknown = isDoc(operand) ? operand['pipeline'] : undefined
  if (!isDoc(operand) || !Array.isArray(pipeline)) return operand
  const { stages, shape } = rewritePipeline(pipeline, undefined, scope)
  if (shape.reaches)
    refuseQuery(scope.model, '', 'agg-stage', 'a pipeline of $unionWith that brings encrypted documents')
  return { ...operand, pipeline: stages }
}

function graphLookup(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  const { shape } = passing
  if (!isDoc(operand) || typeof operand['as'] !== 'string') return operand
  const foreign = typeof operand['from'] === 'string' ? scope.neighbour(operand['from']) : undefined
  assertPlainExpression(operand['startWith'], shape, scope.model, '$graphLookup')
  if (foreign !== undefined) {
    for (const name of ['connectFromField', 'connectToField']) assertPlainPath(operand[name], foreign.root, scope, name)
  }
  put(passing, operand['as'], foreign?.root ?? PLAIN, scope)
  const restricted = operand['restrictSearchWithMatch']
  if (foreign === undefined || restricted === undefined) return operand
  const match = rewriteFilter(restricted, foreign.root, { ...scope, model: foreign.map.id, stored: undefined }, true)
  return { ...operand, restrictSearchWithMatch: match }
}

function assertPlainPath(path: unknown, root: PathNode, { model }: FilterScope, option: string): void {
  if (typeof path === 'string' && touchesEncrypted(root, path))
    refuseQuery(model, path, 'agg-stage', `${option}: ciphertext of equal values differs`)
}

function facet(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  const { model, shape, trims, isStored } = passing
  if (!isDoc(operand)) return operand
  if (shape.reaches && shape !== model?.root)
    refuseQuery(scope.model, '', 'agg-stage', '$facet after stages that add documents')
  const out: Doc = {}
  const shapes = new Map<string, PathNode>()
  reshape(passing, operand)
  for (const [name, pipeline] of Object.entries(operand)) {
    if (!Array.isArray(pipeline)) throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: scope.model, field: name })
    const rewritten = rewritePipeline(pipeline, model, scope, trims, isStored)
    out[name] = rewritten.stages
    shapes.set(name, arrayOf(rewritten.shape))
    passing.trims.push((document) => trimAt(document, name, rewritten.trim))
  }
  passing.shape = documentOf(shapes)
  return out
}
