import { FieldsealError } from '@fieldseal/core/adapter'
import { isDoc, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { touchesEncrypted, walkPath } from '../path-graph/walk-path.ts'
import { arrayOf, documentOf, PLAIN, withPath } from '../read-path/shape.ts'
import { assertPlainExpression } from './expressions.ts'
import { refuseQuery } from './refuse.ts'
import { rewriteFilter, type FilterScope } from './rewrite-filter.ts'
import { assertSortable, rewriteProjection } from './rewrite-projection.ts'

/** A pipeline as it is sent, and what its documents look like. */
export interface RewrittenPipeline {
  readonly stages: Doc[]
  readonly shape: PathNode
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
  readonly trims: ((document: Doc) => void)[]
}

/** Stages that pass documents on as they are and read nothing of them. */
const PASSING: readonly string[] = ['$limit', '$skip', '$sample']
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
 * stages pass, and what would compute with ciphertext or copy it elsewhere is refused. Unknown stages are refused.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED
 */
export function rewritePipeline(
  pipeline: readonly unknown[],
  model: StoredModel,
  scope: PipelineScope,
): RewrittenPipeline {
  const passing: Passing = { shape: model.root, model, trims: [] }
  const stages = pipeline.map((stage) => {
    const [[operator, operand] = ['', undefined]] = isDoc(stage) ? Object.entries(stage) : []
    return { [operator]: rewriteStage(operator, operand, passing, scope) }
  })
  return {
    stages,
    shape: passing.shape,
    trim: (document) => {
      for (const trim of passing.trims) trim(document)
    },
  }
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
      return operand
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
        if (path === KEYS_PATH || touchesEncrypted(shape, path) || saysWhose(passing, path))
          refuse(path, 'agg-stage', `${operator} would overwrite an encrypted path, or what says whose document it is`)
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
    case '$out':
    case '$merge':
      return refuse('', 'agg-write', `${operator} would copy ciphertext, which is bound to its collection and document`)
    default:
      if (!RESHAPING.includes(operator))
        refuse('', 'agg-stage', `${operator || 'a stage'} is not checked for encrypted paths`)
      assertPlainExpression(operand, shape, scope.model, operator)
      return reshape(passing, operand)
  }
}

function reshape(passing: Passing, operand: unknown): unknown {
  passing.shape = PLAIN
  passing.model = undefined
  return operand
}

function saysWhose({ model }: Passing, path: string): boolean {
  return model?.facts.some((fact) => fact.path === path || fact.path.startsWith(`${path}.`)) === true
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
  const kept = entries.filter(([path]) => !saysWhose(passing, path))
  if (kept.length < entries.length)
    refuseQuery(scope.model, '', 'agg-stage', 'exclude what says whose document it is in the first stage')
  return operand
}

function isSwitch(value: unknown): boolean {
  return typeof value === 'number' || typeof value === 'boolean'
}

function unset(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  for (const path of [operand].flat().map(String))
    if (saysWhose(passing, path))
      refuseQuery(scope.model, path, 'agg-stage', 'it says whose document this is: take it away after reading')
  return operand
}

function assertUnwindable(operand: unknown, shape: PathNode, { model }: FilterScope): void {
  const path = String(isDoc(operand) ? operand['path'] : operand).replace(/^\$/, '')
  const { node, inside } = walkPath(shape, path)
  if (inside !== undefined || node?.field !== undefined)
    refuseQuery(model, path, 'agg-stage', 'the array is one encrypted value')
}

function lookup(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  const { shape } = passing
  if (!isDoc(operand) || typeof operand['as'] !== 'string') return operand // the server says what is wrong
  const foreign = typeof operand['from'] === 'string' ? scope.neighbour(operand['from']) : undefined
  assertPlainPath(operand['localField'], shape, scope, 'localField')
  if (foreign !== undefined) assertPlainPath(operand['foreignField'], foreign.root, scope, 'foreignField')
  assertPlainExpression(operand['let'], shape, scope.model, '$lookup.let')
  const inner = Array.isArray(operand['pipeline']) ? (operand['pipeline'] as unknown[]) : undefined
  const rewritten = inner === undefined ? undefined : rewriteInner(inner, foreign, scope)
  passing.shape = withPath(shape, operand['as'], arrayOf(rewritten?.shape ?? foreign?.root ?? PLAIN))
  return rewritten === undefined ? operand : { ...operand, pipeline: rewritten.stages }
}

function rewriteInner(
  pipeline: readonly unknown[],
  model: StoredModel | undefined,
  scope: PipelineScope,
): RewrittenPipeline {
  if (model === undefined) return { stages: pipeline.filter(isDoc), shape: PLAIN, trim: () => {} }
  const rewritten = rewritePipeline(pipeline, model, { ...scope, model: model.map.id })
  if (pipeline.some((stage) => isDoc(stage) && '$project' in stage) && rewritten.shape.reaches)
    refuseQuery(model.map.id, '', 'agg-stage', 'a $project inside $lookup: project after it')
  return rewritten
}

function graphLookup(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  const { shape } = passing
  if (!isDoc(operand) || typeof operand['as'] !== 'string') return operand
  const foreign = typeof operand['from'] === 'string' ? scope.neighbour(operand['from']) : undefined
  assertPlainExpression(operand['startWith'], shape, scope.model, '$graphLookup')
  if (foreign !== undefined) {
    for (const name of ['connectFromField', 'connectToField']) assertPlainPath(operand[name], foreign.root, scope, name)
  }
  passing.shape = withPath(shape, operand['as'], arrayOf(foreign?.root ?? PLAIN))
  const restricted = operand['restrictSearchWithMatch']
  if (foreign === undefined || restricted === undefined) return operand
  const match = rewriteFilter(restricted, foreign.root, { ...scope, model: foreign.map.id }, true)
  return { ...operand, restrictSearchWithMatch: match }
}

function assertPlainPath(path: unknown, root: PathNode, { model }: FilterScope, option: string): void {
  if (typeof path === 'string' && touchesEncrypted(root, path))
    refuseQuery(model, path, 'agg-stage', `${option}: ciphertext of equal values differs`)
}

function facet(operand: unknown, passing: Passing, scope: PipelineScope): unknown {
  const { model, shape } = passing
  if (!isDoc(operand)) return operand
  if (model === undefined || shape !== model.root) {
    if (shape.reaches) refuseQuery(scope.model, '', 'agg-stage', '$facet after stages that add documents')
    return reshape(passing, operand)
  }
  const out: Doc = {}
  const shapes = new Map<string, PathNode>()
  for (const [name, pipeline] of Object.entries(operand)) {
    if (!Array.isArray(pipeline)) throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: model.map.id, field: name })
    const { stages, shape: of } = rewritePipeline(pipeline, model, scope)
    out[name] = stages
    shapes.set(name, arrayOf(of))
  }
  passing.shape = documentOf(shapes)
  passing.model = undefined
  return out
}
