import { FieldsealError, type BlindIndex, type Field } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { toCoreValue } from '../bson/driver-values.ts'
import { isDoc, isOperators, plain, setKey, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { isPosition, plainPathOf, walkPath, type Walked } from '../path-graph/walk-path.ts'
import { compoundConditions } from './compound-conditions.ts'
import { eitherPlace } from './either-place.ts'
import { reachesBothPlaces } from './both-places.ts'
import { assertPlainExpression } from './expressions.ts'
import { refuseOldPlace, refuseQuery } from './refuse.ts'
import type { FoundToken, SlotName, TokenTerms } from './token-terms.ts'

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
  /** The model whose documents the filter meets as they are stored; undefined where a stage has made others of them. */
  readonly stored?: StoredModel | undefined
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
  assertFilter(given, scope.model)
  const conditions = new Conditions()
  const compound = compoundConditions(given, node, scope)
  for (const { condition } of compound) conditions.add(...condition)
  const answered = compound.flatMap(({ paths }) => paths)
  for (const [key, value] of Object.entries(given)) {
    if (answered.includes(key)) continue
    if (LOGICAL.includes(key) && Array.isArray(value)) {
      const branching = branch || key !== '$and'
      conditions.add(
        key,
        value.map((each: unknown) => {
          assertFilter(plain(each), scope.model) // nothing would be everything
          return rewriteFilter(each, node, scope, branching)
        }),
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

/** @throws FieldsealError ERR_ARGUMENT_INVALID for what is no object: a Map would pass unseen */
export function assertFilter(given: unknown, model: string): asserts given is Doc {
  if (!isDoc(given)) throw new FieldsealError('ERR_ARGUMENT_INVALID', { model, field: 'filter', reason: 'an object' })
}

/** Conditions of one document; two on one key stand in `$and`. */
class Conditions {
  readonly #filter: Doc = {}
  readonly #more: Doc[] = []

  add(key: string, value: unknown): void {
    if (Object.hasOwn(this.#filter, key)) this.#more.push({ [key]: value })
    else setKey(this.#filter, key, value)
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
  const walked = walkPath(root, path)
  const { node, inside, positional, mapKeys } = walked
  const [whole, plainPath] = [inside?.node ?? node, plainPathOf(walked, path)]
  if (whole?.plainOf !== undefined) refuseOldPlace(scope.model, path, whole.plainOf)
  const isPlaintext = plainPath !== undefined && whole?.state === 'plaintext'
  if (isPlaintext && !(node !== undefined && reachesBothPlaces(value, walked, scope)))
    return conditions.add(plainPath, value)
  if (inside !== undefined)
    refuseQuery(scope.model, inside.path, 'filter-inside', 'it is one encrypted value: query a path of its own')
  if (node === undefined || !node.conceals) return conditions.add(path, value)
  // An array that is an element itself is compared as a whole.
  const isInner = node.element !== undefined && isPosition(path.slice(path.lastIndexOf('.') + 1))
  const field = node.field ?? (isInner ? undefined : node.element?.field)
  if (field === undefined) return conditions.add(path, rewriteParent(path, value, node, scope))
  // One place of several is meant, and a token beside the value tells only that it is in one of them.
  const narrowed = branch || positional || mapKeys.length > 0
  if (plainPath !== undefined && field.state !== 'encrypted')
    return rewriteEither(value, { path, field, isArray: false, scope, branch: narrowed }, plainPath, walked, conditions)
  rewriteLeaf(value, { path, field, isArray: field !== node.field, scope, branch: narrowed }, conditions)
}

/** A condition on a value that may still stand where its old plaintext did. */
function rewriteEither(
  value: unknown,
  leaf: Leaf,
  plainPath: string,
  { spread }: Walked,
  conditions: Conditions,
): void {
  const { path, scope } = leaf
  const sealed = (values: readonly unknown[], negated: boolean): Doc => {
    const found = tokensOf(values, { ...leaf, branch: leaf.branch || negated })
    const [{ slot }] = found as [FoundToken] // a list that is not empty: see below
    return { [slotAt(path, slot)]: { $in: found.map(({ token }) => token) } }
  }
  const isEmpty = isOperators(value) && Object.values(value).some((list) => Array.isArray(list) && list.length === 0)
  if (isEmpty) return rewriteLeaf(value, leaf, conditions) // no value is asked for
  const isLeaf = leaf.field.blindIndex !== undefined
  for (const condition of eitherPlace(value, { model: scope.model, path, plainPath, isLeaf, spread, sealed }))
    for (const [key, each] of Object.entries(condition)) conditions.add(key, each)
}

/** A condition on a path that has encrypted ones below it. */
function rewriteParent(path: string, value: unknown, node: PathNode, scope: FilterScope): unknown {
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
    else if (operator === '$elemMatch') out[operator] = rewriteFilter(operand, below, scope, true)
    else if (operator === '$not') out[operator] = rewriteParent(path, operand, node, scope)
    else if (operator === '$all' && Array.isArray(operand) && operand.every(isElemMatch))
      out[operator] = operand.map((each) => rewriteParent(path, each, node, scope))
    else refuse(operator)
  }
  return out
}

function isElemMatch(value: unknown): boolean {
  return isDoc(value) && '$elemMatch' in value
}

/** An encrypted path that a condition is about. */
interface Leaf {
  readonly path: string
  readonly field: Field
  /** The path is an array, and the field each of its elements. */
  readonly isArray: boolean
  readonly scope: FilterScope
  /** Something else than this condition decides as well whether a document is met. */
  readonly branch: boolean
}

const LISTS: readonly string[] = ['$in', '$nin', '$all']

/** A condition on an encrypted path: equality goes to its tokens, presence stays. */
function rewriteLeaf(value: unknown, leaf: Leaf, conditions: Conditions): void {
  const { path, isArray, scope } = leaf
  if (!isOperators(value)) {
    if (isMissing(value)) return conditions.add(path, presence(value, leaf))
    const { slot, token } = tokenOf(value, leaf)
    return conditions.add(slotAt(path, slot), token)
  }
  const stays: Doc = {}
  const tokens = new Map<SlotName, Doc>()
  const put = (operator: string, { slot }: FoundToken, operand: unknown) =>
    tokens.set(slot, { ...tokens.get(slot), [operator]: operand })
  for (const [operator, operand] of Object.entries(value)) {
    if (operator === '$exists' || (operator === '$size' && isArray)) stays[operator] = operand
    else if ((operator === '$eq' || operator === '$ne') && isMissing(operand)) stays[operator] = presence(operand, leaf)
    else if (operator === '$eq' || operator === '$ne') {
      const found = tokenOf(operand, { ...leaf, branch: leaf.branch || operator === '$ne' })
      put(operator, found, found.token)
    } else if (LISTS.includes(operator)) {
      const values = Array.isArray(operand) ? (operand as unknown[]) : [operand]
      if (values.some(isMissing))
        refuseQuery(scope.model, path, 'unsupported-filter', `null inside ${operator}: say it with $or`)
      const branch = leaf.branch || operator === '$nin' || (operator === '$all' && values.length > 1)
      const found = tokensOf(values, { ...leaf, branch })
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
      rewriteLeaf(operand, { ...leaf, branch: true }, negated)
      conditions.add('$nor', [negated.toFilter()])
    } else if (operator === '$elemMatch' && isArray && isOperators(operand)) {
      conditions.add(path, { $elemMatch: elementMatch(operand, leaf) })
    } else refuseQuery(scope.model, path, 'range-on-encrypted', `${operator} needs the plaintext: ${ONLY_EQUALITY}`)
  }
  for (const [slot, condition] of tokens) conditions.add(slotAt(path, slot), condition)
  if (Object.keys(stays).length > 0) conditions.add(path, stays)
}
const ONLY_EQUALITY = 'only equality is answered'

/** What one encrypted element must be: a condition on its tokens, which an element that is null does not have. */
function elementMatch(operators: Doc, leaf: Leaf): Doc {
  const found = new Conditions()
  rewriteLeaf(operators, { ...leaf, path: '', isArray: false, branch: true }, found)
  const filter = found.toFilter()
  const asksForValue = !isMissing(operators['$eq']) || operators['$in'] !== undefined
  if (!asksForValue || Object.hasOwn(filter, ''))
    refuseQuery(leaf.scope.model, leaf.path, 'unsupported-filter', '$elemMatch of encrypted elements needs $eq or $in')
  return filter
}

/** Where a token stands in the leaf at a path; `''` is the leaf itself. */
function slotAt(path: string, slot: SlotName): string {
  return path === '' ? slot : `${path}.${slot}`
}

function isMissing(value: unknown): value is null | undefined {
  return value === null || value === undefined
}

/** @throws FieldsealError ERR_QUERY_UNSUPPORTED where a null looks like any other value */
function presence(value: null | undefined, { field, path, scope }: Leaf): null | undefined {
  if (field.encryptNull)
    refuseQuery(scope.model, path, 'null-is-encrypted', 'nulls of this path are encrypted like other values')
  return value
}

function tokenOf(value: unknown, leaf: Leaf): FoundToken {
  const [found] = tokensOf([value], leaf)
  return found as FoundToken // one for one
}

/** The tokens of the values of one condition. A second condition on one index is one beside an alternative. */
function tokensOf(values: readonly unknown[], { path, field, scope, branch }: Leaf): FoundToken[] {
  const index = field.blindIndex
  const isSecond = index !== undefined && scope.asked.has(index)
  return values.map((value) => findToken(path, value, field, scope, branch || isSecond))
}

/** The token of one value of a condition. */
export function findToken(path: string, value: unknown, field: Field, scope: FilterScope, branch: boolean): FoundToken {
  const { model, terms, collation } = scope
  const index = field.blindIndex
  if (value instanceof RegExp || value instanceof mongo.BSONRegExp)
    refuseQuery(model, path, 'range-on-encrypted', `a regular expression needs the plaintext: ${ONLY_EQUALITY}`)
  if (isOperators(value)) refuseQuery(model, path, 'range-on-encrypted', 'an operator inside a list of values')
  if (Array.isArray(value))
    refuseQuery(model, path, 'filter-on-parent', 'equality of a whole array: query its elements with $all')
  if (index === undefined) refuseQuery(model, path, 'not-searchable', 'add a blindIndex to query it by equality')
  if (collation && field.type === 'string' && !isNormalized(index))
    refuseQuery(model, path, 'collation', 'a collation does not reach tokens: say normalize on the blindIndex')
  scope.asked.add(index)
  if (branch) scope.branching.add(index)
  return terms.find(index, [toCoreValue(field.type, plain(value))])
}

/** Whether the index makes spellings equal by itself, so that a collation has nothing to add. */
function isNormalized(index: BlindIndex): boolean {
  return index.matchKey(['a']) === index.matchKey(['A'])
}
