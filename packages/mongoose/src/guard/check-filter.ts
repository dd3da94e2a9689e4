import { isDoc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { asSent, entriesOf, firstOf, isLeaf, isSealed, isToken, plaintextIn } from './stored-values.ts'

/** Operators whose operand says nothing about the value. */
const PRESENCE: readonly string[] = ['$exists', '$size', '$type']
/** Expressions that compare their operands with each other. */
const COMPARING: readonly string[] = ['$eq', '$ne', '$gt', '$gte', '$lt', '$lte', '$cmp', '$in', '$indexOfArray']
const MATCHING: readonly string[] = ['$regexMatch', '$regexFind', '$regexFindAll', '$setIsSubset', '$setEquals']

/** The first encrypted path that a filter compares with anything but tokens, envelopes or null. */
export function plaintextInFilter(filter: unknown, root: PathNode): string | undefined {
  return firstOf(entriesOf(filter), ([path, condition]) => {
    if (path === '$expr') return comparedIn(condition, root)
    if (path.startsWith('$')) return firstOf(listIn(condition), (each) => plaintextInFilter(each, root))
    const { node, inside } = walkPath(root, path)
    if (inside !== undefined) return mayCompare(inside.node) || isOpaque(condition) ? undefined : inside.path
    return node === undefined ? undefined : plaintextInCondition(condition, node, path)
  })
}

/** The same for the condition on one path. */
export function plaintextInCondition(given: unknown, node: PathNode, path: string): string | undefined {
  const condition = asSent(given)
  if (!node.conceals || mayCompare(node) || condition === null || condition === undefined) return undefined
  if (node.isWhole) return isOpaque(condition) ? undefined : path
  const element = node.element ?? node
  if (element.isWhole) return mayCompare(element) || isOpaque(condition) ? undefined : path
  if (!isOperators(condition)) return plaintextIn(condition, node, path)
  return firstOf(entriesOf(condition), ([operator, operand]) => {
    if (PRESENCE.includes(operator)) return undefined
    if (operator === '$not') return plaintextInCondition(operand, node, path)
    if (operator === '$elemMatch')
      return isOperators(operand) && !hasLogical(operand)
        ? plaintextInCondition(operand, element, path)
        : plaintextInFilter(operand, element)
    if (operator === '$all' || operator === '$in' || operator === '$nin')
      return firstOf(listIn(operand), (each) => plaintextInCondition(each, node, path))
    return plaintextIn(operand, node, path)
  })
}

/** While old plaintext may stand there, queries look for it. */
function mayCompare(node: PathNode): boolean {
  return node.isWhole && (node.plainOf ?? node).state !== 'encrypted'
}

function isOpaque(given: unknown): boolean {
  const condition = asSent(given)
  if (condition === null || condition === undefined || isToken(condition) || isSealed(condition)) return true
  if (Array.isArray(condition)) return condition.every(isOpaque)
  if (!isDoc(condition)) return false
  if (isLeaf(condition)) return true
  return (
    Object.keys(condition).length > 0 &&
    Object.entries(condition).every(
      ([operator, each]) =>
        PRESENCE.includes(operator) || ((operator.startsWith('$') || isSlotName(operator)) && isOpaque(each)),
    )
  )
}

/** `$pull` and `$elemMatch` of searchable elements name the slot of the token. */
function isSlotName(name: string): boolean {
  return ['c', 'b', 'n'].includes(name)
}

/** The first encrypted path that an expression compares with something. */
export function comparedIn(given: unknown, root: PathNode): string | undefined {
  const expression = asSent(given)
  if (Array.isArray(expression)) return firstOf(expression, (each) => comparedIn(each, root))
  return firstOf(entriesOf(expression), ([operator, operand]) => {
    if (operator === '$literal') return undefined
    const compares = COMPARING.includes(operator) || MATCHING.includes(operator)
    const operands = Array.isArray(operand) ? operand : entriesOf(operand).map(([, each]) => each)
    if (compares && operands.some(isLiteral)) {
      const read = firstOf(operands, (each) => readBy(each, root))
      if (read !== undefined) return read
    }
    return comparedIn(operand, root)
  })
}

/** The encrypted path that an operand reads itself. */
function readBy(operand: unknown, root: PathNode): string | undefined {
  if (typeof operand !== 'string' || !operand.startsWith('$')) return undefined
  const path = operand.replace(/^\$\$(ROOT|CURRENT)\.|^\$/, '')
  const { node, inside } = walkPath(root, path)
  const whole = inside?.node ?? node
  return whole?.conceals === true && !mayCompare(whole) ? path : undefined
}

function isLiteral(operand: unknown): boolean {
  if (operand === null || operand === undefined || isToken(operand) || isSealed(operand)) return false
  if (typeof operand === 'string') return !operand.startsWith('$')
  if (Array.isArray(operand)) return operand.some(isLiteral)
  return !isOperators(operand) || '$literal' in operand
}

function isOperators(value: unknown): value is object {
  return entriesOf(value).some(([key]) => key.startsWith('$'))
}

function hasLogical(value: unknown): boolean {
  return entriesOf(value).some(([key]) => ['$and', '$or', '$nor', '$expr'].includes(key))
}

function listIn(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
