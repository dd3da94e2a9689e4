import { isDoc, plain, setKey, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { OPAQUE, pathOf } from '../query-rewrite/expressions.ts'

export const REDACTED = '[redacted]'

/**
 * A filter, update, document, pipeline or list of operations with the values of encrypted paths replaced; paths and
 * operators stay.
 *
 * @param others encrypted documents that a pipeline brings from other collections
 */
export function redactFilter(given: unknown, root: PathNode, others: readonly PathNode[] = []): unknown {
  return redactAt(given, root, redactionOf(root, others))
}

export interface Redaction {
  readonly root: PathNode
  /** Names on encrypted paths: one may stand in a path that does not begin at the root, or where no path does. */
  readonly names: ReadonlySet<string>
  /** Those of documents from other collections, which may stand anywhere. */
  readonly otherNames: ReadonlySet<string>
}

export function redactionOf(root: PathNode, others: readonly PathNode[] = []): Redaction {
  return { root, names: new Set(namesOf(root)), otherNames: new Set(others.flatMap(namesOf)) }
}

function namesOf(node: PathNode): string[] {
  const own = [...node.names].flatMap(([name, child]) => (child.reaches ? [name] : []))
  return [...own, ...[...node.children()].flatMap(namesOf)]
}

function redactAt(given: unknown, node: PathNode, redaction: Redaction): unknown {
  const value = given instanceof Map ? Object.fromEntries<unknown>(given) : plain(given)
  if (value === null || value === undefined) return value
  if (node.annotation !== undefined || node.element?.annotation !== undefined) return REDACTED
  if (Array.isArray(value))
    return value.some(isStage) ? redactStages(value, redaction) : redactEach(value, node, redaction)
  if (!isDoc(value)) return value
  const out: Doc = {}
  for (const [key, each] of Object.entries(value))
    setKey(out, key, redactKey(key, each, node.element ?? node, redaction))
  return out
}

function redactEach(values: readonly unknown[], node: PathNode, redaction: Redaction): unknown[] {
  return values.map((each) => redactAt(each, node.element ?? node, redaction))
}

function redactKey(key: string, value: unknown, node: PathNode, redaction: Redaction): unknown {
  if (value === null || value === undefined) return value
  if (key === '$where') return REDACTED
  if (key.startsWith('$')) {
    if (!PARTS.includes(key) && isReading(value, redaction)) return withoutLiterals(value, redaction.root)
    return Array.isArray(value) ? redactEach(value, node, redaction) : redactAt(value, node, redaction) // no stages: operands
  }
  if (namesOther(key, redaction)) return REDACTED
  const { node: at, inside } = walkPath(node, key)
  if (inside !== undefined) return REDACTED
  if (at?.reaches === false && isReading(value, redaction)) return withoutLiterals(value, redaction.root)
  // A plain path may have the name of an argument.
  if (at !== undefined) return redactAt(value, at, redaction)
  // Not a path: the name of an operation, of an argument, or of an element in an array filter.
  if (key === 'arrayFilters' || key.split('.').some((name) => redaction.names.has(name))) return REDACTED
  return redactAt(value, redaction.root, redaction)
}

/** Operators whose operands are conditions, stages or expressions, each of which is looked at by itself. */
const PARTS: readonly string[] = [
  '$and',
  '$or',
  '$nor',
  '$match',
  '$facet',
  '$lookup',
  '$unionWith',
  '$project',
  '$group',
  '$set',
  '$addFields',
]

/** Stages that hold no values. */
const VALUELESS: readonly string[] = ['$sort', '$limit', '$skip', '$sample', '$count', '$unset', '$unwind']
/** Stages after which every value stands where it stood. */
const KEEPING: readonly string[] = [...VALUELESS, '$match', '$redact']
/** Stages that make new fields of nothing but what they read. */
const MAKING: readonly string[] = [
  '$project',
  '$addFields',
  '$set',
  '$group',
  '$sortByCount',
  '$replaceRoot',
  '$replaceWith',
]
/** Stages that bring documents of other collections. */
const BRINGING: readonly string[] = ['$lookup', '$unionWith']
const KNOWN: readonly string[] = [...KEEPING, ...MAKING, ...BRINGING, '$facet']

function isStage(value: unknown): boolean {
  return isDoc(value) && Object.keys(value)[0]?.startsWith('$') === true
}

/**
 * Stages up to the first that puts an encrypted value, or may put one, where it did not stand. Nobody follows it from
 * there: those behind keep none of their constants, and neither do stages that are not known.
 */
function redactStages(stages: readonly unknown[], redaction: Redaction): unknown[] {
  let isLost = false
  return stages.map((stage) => {
    if (!isDoc(stage)) return REDACTED
    const shown = Object.entries(stage).map(([name, operand]) => {
      if (VALUELESS.includes(name)) return [name, operand]
      const isFollowed = !isLost && KNOWN.includes(name)
      const { root } = redaction
      return [name, isFollowed ? redactKey(name, operand, root, redaction) : withoutLiterals(operand, root)]
    })
    isLost ||= Object.entries(stage).some(([name, operand]) => isMoving(name, operand, redaction))
    return Object.fromEntries(shown) as Doc
  })
}

/** Whether a stage may put encrypted values where none stood. */
function isMoving(name: string, operand: unknown, redaction: Redaction): boolean {
  if (KEEPING.includes(name)) return false
  if (MAKING.includes(name)) return isReading(operand, redaction)
  return !BRINGING.includes(name) || redaction.otherNames.size > 0 || isReading(operand, redaction)
}

/** Whether an expression reads an encrypted path, so that what stands beside may be a value of it. */
function isReading(expression: unknown, redaction: Redaction): boolean {
  if (typeof expression === 'string') {
    const path = pathOf(expression)
    if (path === undefined) return expression.startsWith('$$') // a variable may hold one
    const { node, inside } = walkPath(redaction.root, path)
    return path === '' || inside !== undefined || node?.reaches === true || namesOther(path, redaction)
  }
  if (Array.isArray(expression)) return expression.some((each) => isReading(each, redaction))
  return (
    isDoc(expression) &&
    Object.entries(expression).some(([key, each]) => OPAQUE.includes(key) || isReading(each, redaction))
  )
}

function namesOther(path: string, { otherNames }: Redaction): boolean {
  return path.split('.').some((name) => otherNames.has(name))
}

/** An expression with nothing but its operators and the paths of the schema that it reads. */
function withoutLiterals(expression: unknown, root: PathNode): unknown {
  if (expression === null || expression === undefined) return expression
  if (Array.isArray(expression)) return expression.map((each) => withoutLiterals(each, root))
  if (isDoc(expression))
    return Object.fromEntries(Object.entries(expression).map(([key, each]) => [key, withoutLiterals(each, root)]))
  const path = typeof expression === 'string' ? pathOf(expression) : undefined
  return path !== undefined && walkPath(root, path).node !== undefined ? expression : REDACTED
}
