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
  if (Array.isArray(value)) return value.map((each) => redactAt(each, node.element ?? node, redaction))
  if (!isDoc(value)) return value
  const out: Doc = {}
  for (const [key, each] of Object.entries(value))
    setKey(out, key, redactKey(key, each, node.element ?? node, redaction))
  return out
}

function redactKey(key: string, value: unknown, node: PathNode, redaction: Redaction): unknown {
  if (value === null || value === undefined) return value
  if (key === '$where') return REDACTED
  if (key.startsWith('$'))
    return !PARTS.includes(key) && isReading(value, redaction)
      ? withoutLiterals(value, redaction.root)
      : redactAt(value, node, redaction)
  if (namesOther(key, redaction)) return REDACTED
  const { node: at, inside } = walkPath(node, key)
  if (inside !== undefined) return REDACTED
  if (at?.reaches === true) return redactAt(value, at, redaction)
  if (at !== undefined) return isReading(value, redaction) ? withoutLiterals(value, redaction.root) : value
  // Not a path: the name of an operation, of an argument, or of an element in an array filter.
  if (key === 'arrayFilters' || redaction.names.has(key.slice(key.lastIndexOf('.') + 1))) return REDACTED
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
