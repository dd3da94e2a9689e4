import type { BlindIndex } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { toCoreValue } from '../bson/driver-values.ts'
import { isOperators, plain, type Doc } from '../bson/documents.ts'
import { compoundPath, compoundsOf } from '../path-graph/compound-paths.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import type { FilterScope } from './rewrite-filter.ts'

/** Most combinations of values that one condition looks for. */
const MAX_TUPLES = 1_000

/** Conditions of one document that an index over several paths answers together. */
export interface CompoundCondition {
  /** The paths that need no condition of their own. */
  readonly paths: readonly string[]
  /** The condition on its tokens: a path, and what must stand there. */
  readonly condition: readonly [path: string, value: unknown]
}

/** Equalities and `$in` of all paths of an index, at the top of stored documents. What is left is for single paths. */
export function compoundConditions(filter: Doc, node: PathNode, scope: FilterScope): readonly CompoundCondition[] {
  if (scope.stored === undefined || node !== scope.stored.root) return []
  const found: CompoundCondition[] = []
  const answered = new Set<string>()
  const widest = compoundsOf(scope.stored).toSorted((a, b) => b.fields.length - a.fields.length)
  for (const index of widest) {
    const paths = index.fields.map(({ path }) => path)
    if (paths.every((path) => answered.has(path))) continue
    // A collation does not reach tokens.
    if (scope.collation && index.fields.some(({ type }) => type === 'string')) continue
    const lists = index.fields.map(({ path }) => (Object.hasOwn(filter, path) ? soughtValues(filter[path]) : undefined))
    const sought = lists.filter((list) => list !== undefined)
    const tuples = sought.reduce((product, list) => product * list.length, 1)
    if (sought.length < lists.length || tuples > MAX_TUPLES) continue
    for (const path of paths) answered.add(path)
    found.push({ paths, condition: conditionOn(index, sought, scope) })
  }
  return found
}

function conditionOn(
  index: BlindIndex,
  lists: readonly (readonly unknown[])[],
  { terms, asked }: FilterScope,
): readonly [string, unknown] {
  asked.add(index)
  const tokens = tuplesOf(lists).map((tuple) =>
    terms.find(
      index,
      index.fields.map(({ type }, at) => toCoreValue(type, plain(tuple[at]))),
    ),
  )
  const [first] = tokens
  const path = `${compoundPath(index)}.${first?.slot ?? 'b'}`
  return [path, tokens.length === 1 ? first?.token : { $in: tokens.map(({ token }) => token) }]
}

/** The values that a condition is an equality with; undefined for any other. */
function soughtValues(given: unknown): readonly unknown[] | undefined {
  if (!isOperators(given)) return isValue(given) ? [given] : undefined
  const [[operator, operand] = ['', undefined], ...others] = Object.entries(given)
  if (others.length > 0) return undefined
  if (operator === '$eq') return isValue(operand) ? [operand] : undefined
  return operator === '$in' && Array.isArray(operand) && operand.every(isValue) ? (operand as unknown[]) : undefined
}

/** What equality of tokens can answer. */
function isValue(value: unknown): boolean {
  if (value === null || value === undefined || Array.isArray(value) || isOperators(value)) return false
  return !(value instanceof RegExp || value instanceof mongo.BSONRegExp)
}

function tuplesOf(lists: readonly (readonly unknown[])[]): readonly (readonly unknown[])[] {
  return lists.reduce<readonly (readonly unknown[])[]>(
    (tuples, list) => tuples.flatMap((tuple) => list.map((value) => [...tuple, value])),
    [[]],
  )
}
