import type { BlindIndex, Field } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { toCoreValue } from '../bson/driver-values.ts'
import { isDoc, isOperators, plain, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { assertPlainExpression } from './expressions.ts'
import { refuseQuery } from './refuse.ts'
import type { TokenTerms } from './token-terms.ts'

/** What the rewriting of one filter knows and finds out. */
export interface FilterScope {
  /** Names the model in errors. */
  readonly model: string
  readonly terms: TokenTerms
  /** The query or its collection compares text under a collation. */
  readonly collation: boolean
  /** Indexes that the filter asks under negation or beside an alternative; filled by the rewriting. */
  readonly branching: Set<BlindIndex>
  /** Indexes that the filter asks. */
  readonly asked: Set<BlindIndex>
}

const LOGICAL: readonly string[] = ['$and', '$or', '$nor']
/** Top-level operators that read no path. */
const HARMLESS: readonly string[] = ['$comment', '$sampleRate', '$alwaysTrue', '$alwaysFalse']

/**
 * A filter with every condition on an encrypted path replaced by one on its tokens. The given one is left as it is.
 *
 * @param node where the paths of the filter begin
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED for what equality of tokens cannot answer, ERR_VALUE_INVALID
 */
export function rewriteFilter(filter: unknown, node: PathNode, scope: FilterScope, branch = false): Doc {
  const given = plain(filter)
  if (given === null || given === undefined) return {}
  if (!isDoc(given)) return given as Doc // the driver refuses it
  const conditions = new Conditions()
  for (const [key, value] of Object.entries(given)) {
    if (LOGICAL.includes(key) && Array.isArray(value)) {
      const branching = branch || key !== '$and'
      conditions.add(
        key,
        value.map((each: unknown) => rewriteFilter(each, node, scope, branching)),
      )
    } else if (key === '$expr') {
      assertPlainExpression(value, node, scope.model, '$expr')
      conditions.add(key, value)
    } else if (key.startsWith('$')) {
      if (!HARMLESS.includes(key))
        refuseQuery(scope.model, '', 'unsupported-filter', `${key} cannot be checked for encrypted paths`)
      conditions.add(key, value)
    } else rewritePath(key, value, node, scope, branch, conditions)
  }
  return conditions.toFilter()
}

/** Conditions of one document; two on one key stand in `$and`. */
class Conditions {
  readonly #filter: Doc = {}
  readonly #more: Doc[] = []

  add(key: string, value: unknown): void {
    if (Object.hasOwn(this.#filter, key)) this.#more.push({ [key]: value })
    else this.#filter[key] = value
  }

  toFilter(): Doc {
    if (this.#more.length === 0) return this.#filter
    const { $and = [] } = this.#filter as { readonly $and?: readonly unknown[] } // only arrays are added under $and
    return { ...this.#filter, $and: [...$and, ...this.#more] }
  }
}

function rewritePath(
  path: string,
  value: unknown,
  root: PathNode,
  scope: FilterScope,
  branch: boolean,
  conditions: Conditions,
): void {
  if (path === KEYS_PATH || path.startsWith(`${KEYS_PATH}.`))
    refuseQuery(scope.model, path, 'reserved', 'the name belongs to Fieldseal')
  const { node, inside } = walkPath(root, path)
  if (inside !== undefined)
    refuseQuery(scope.model, inside.path, 'filter-inside', 'it is one encrypted value: query a path of its own')
  if (node === undefined || !node.reaches) conditions.add(path, value)
  else if (node.field !== undefined) rewriteLeaf(path, value, node.field, false, scope, branch, conditions)
  else if (node.element?.field !== undefined)
    rewriteLeaf(path, value, node.element.field, true, scope, branch, conditions)
  else conditions.add(path, rewriteParent(path, value, node, scope, branch))
}

/** A condition on a path that has encrypted ones below it. */
export function rewriteParent(
  path: string,
  value: unknown,
  node: PathNode,
  scope: FilterScope,
  branch: boolean,
): unknown {
  if (value === null || value === undefined) return value
  const refuse = (what: string) =>
    refuseQuery(scope.model, path, 'filter-on-parent', `${what} compares encrypted content: query the paths below it`)
  if (!isOperators(value)) return refuse('equality')
  const below = node.element ?? node
  const out: Doc = {}
  for (const [operator, operand] of Object.entries(value)) {
    const isNull = operand === null || operand === undefined
    if (['$exists', '$size', '$type'].includes(operator) || (['$eq', '$ne'].includes(operator) && isNull))
      out[operator] = operand
    else if (operator === '$elemMatch') out[operator] = rewriteFilter(operand, below, scope, branch)
    else if (operator === '$not') out[operator] = rewriteParent(path, operand, node, scope, true)
    else if (operator === '$all' && Array.isArray(operand) && operand.every(isElemMatch))
      out[operator] = operand.map((each) => rewriteParent(path, each, node, scope, branch))
    else refuse(operator)
  }
  return out
}

function isElemMatch(value: unknown): boolean {
  return isDoc(value) && '$elemMatch' in value
}

/** A condition on an encrypted path: equality goes to its tokens, presence stays. */
function rewriteLeaf(
  path: string,
  value: unknown,
  field: Field,
  isArray: boolean,
  scope: FilterScope,
  branch: boolean,
  conditions: Conditions,
): void {
  const tokenOf = (each: unknown) => findToken(path, each, field, scope, branch)
  if (value === null || value === undefined) {
    conditions.add(path, value)
    return
  }
  if (isArray && Array.isArray(value))
    refuseQuery(scope.model, path, 'filter-on-parent', 'equality of a whole array: query its elements with $all')
  if (!isOperators(value)) {
    const { slot, token } = tokenOf(value)
    conditions.add(`${path}.${slot}`, token)
    return
  }
  const stays: Doc = {}
  let slotOf: string | undefined
  const tokens: Doc = {}
  const put = (operator: string, found: { readonly slot: string }, operand: unknown) => {
    slotOf = found.slot
    tokens[operator] = operand
  }
  for (const [operator, operand] of Object.entries(value)) {
    if (operator === '$exists' || (operator === '$size' && isArray)) stays[operator] = operand
    else if (operator === '$eq' || operator === '$ne') {
      if (operand === null || operand === undefined) stays[operator] = operand
      else {
        const found = findToken(path, operand, field, scope, branch || operator === '$ne')
        put(operator, found, found.token)
      }
    } else if (operator === '$in' || operator === '$nin' || operator === '$all') {
      const values = Array.isArray(operand) ? (operand as unknown[]) : [operand]
      if (values.some((each) => each === null || each === undefined))
        refuseQuery(scope.model, path, 'unsupported-filter', `null inside ${operator}: say it with $or`)
      const found = values.map((each) => findToken(path, each, field, scope, branch || operator === '$nin'))
      const [first] = found
      if (first === undefined) stays[operator] = values
      else
        put(
          operator,
          first,
          found.map(({ token }) => token),
        )
    } else if (operator === '$not') {
      const negated = new Conditions()
      rewriteLeaf(path, operand, field, isArray, scope, true, negated)
      for (const [key, condition] of Object.entries(negated.toFilter()))
        conditions.add(key, { $not: isOperators(condition) ? condition : { $eq: condition } })
    } else if (operator === '$elemMatch' && isArray && isOperators(operand)) {
      rewriteLeaf(path, operand, field, false, scope, branch, conditions)
    } else
      refuseQuery(scope.model, path, 'range-on-encrypted', `${operator} needs the plaintext: only equality is answered`)
  }
  if (slotOf !== undefined) conditions.add(`${path}.${slotOf}`, tokens)
  if (Object.keys(stays).length > 0) conditions.add(path, stays)
}

/** The token of one value of a condition. */
export function findToken(path: string, value: unknown, field: Field, scope: FilterScope, branch: boolean) {
  const { model, terms, collation } = scope
  const index = field.blindIndex
  if (value instanceof RegExp || value instanceof mongo.BSONRegExp)
    refuseQuery(
      model,
      path,
      'range-on-encrypted',
      'a regular expression needs the plaintext: only equality is answered',
    )
  if (isOperators(value)) refuseQuery(model, path, 'range-on-encrypted', 'an operator inside a list of values')
  if (index === undefined) refuseQuery(model, path, 'not-searchable', 'add a blindIndex to query it by equality')
  if (collation && field.type === 'string' && !isNormalized(index))
    refuseQuery(model, path, 'collation', 'a collation does not reach tokens: say normalize on the blindIndex')
  scope.asked.add(index)
  if (branch) scope.branching.add(index)
  return terms.find(index, toCoreValue(field.type, plain(value)))
}

/** Whether the index makes spellings equal by itself, so that a collation has nothing to add. */
function isNormalized(index: BlindIndex): boolean {
  return index.matchKey(['a']) === index.matchKey(['A'])
}
