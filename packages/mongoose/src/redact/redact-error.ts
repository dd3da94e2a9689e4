import { inspect } from 'node:util'
import mongoose from 'mongoose'
import { isDoc, plain, setKey, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { pathOf } from '../query-rewrite/expressions.ts'

export const REDACTED = '[redacted]'
/** Mongoose quotes no more of a text that is too long. */
const SHORTENED = 30

/**
 * Takes values of encrypted paths out of Mongoose's own errors, in place: validation and cast errors hold the value,
 * and their texts quote it.
 */
export function redactOrmError(error: unknown, root: PathNode): unknown {
  if (!(error instanceof Error)) return error
  if (error instanceof mongoose.Error.DocumentNotFoundError) redactNotFound(error, root)
  if (QUOTING.includes(error.name)) redactQuoted(error)
  const { errors } = error as { readonly errors?: unknown }
  const redaction = redactionOf(root)
  if (error instanceof mongoose.Error.ValidationError && isDoc(errors)) {
    for (const [path, each] of Object.entries(errors)) redactOne(each, path, redaction)
    error.message = `${error.message.split(':')[0]}: ${Object.entries(errors)
      .map(([path, each]) => `${path}: ${String(Reflect.get(Object(each), 'message'))}`)
      .join(', ')}`
  }
  redactOne(error, String(Reflect.get(error, 'path') ?? ''), redaction)
  hideDocuments(error)
  return error
}

/** Documents of the caller that Mongoose puts beside the errors of many: they can be read, and are not printed. */
const BESIDE = ['insertedDocs', 'results', 'documents', 'mongoose'] as const

function hideDocuments(error: Error): void {
  for (const name of BESIDE) if (Object.hasOwn(error, name)) Object.defineProperty(error, name, { enumerable: false })
}

/** Its text quotes the filter, which a `$where` of a document can bring values into. */
function redactNotFound(error: Error, root: PathNode): void {
  const filter: unknown = Reflect.get(error, 'filter')
  const shown = redactFilter(filter, root)
  for (const name of ['message', 'stack'])
    Reflect.set(error, name, String(Reflect.get(error, name)).replaceAll(inspect(filter), inspect(shown)))
  for (const name of ['filter', 'query']) Reflect.set(error, name, shown)
  const result: unknown = Reflect.get(error, 'result')
  if (isDoc(result) && '$where' in result) result['$where'] = shown // Mongoose 8
}

/** Errors that quote what stands in place of an object, and have it nowhere else. */
const QUOTING: readonly string[] = ['ObjectParameterError', 'ObjectExpectedError']

function redactQuoted(error: Error): void {
  const { message, stack } = error
  error.message = message.replace(/(?<=, got ").*(?=" \(type )|(?<= value `).*(?=`$)/s, REDACTED)
  if (stack !== undefined) error.stack = stack.replaceAll(message, error.message)
}

function redactOne(error: unknown, path: string, { root, names }: Redaction): void {
  if (typeof error !== 'object' || error === null || path === '') return
  const { node, inside } = walkPath(root, path)
  // A path may be told from inside a container, where it is another one than from the root.
  const mayBeBelow = path.split('.').some((name) => names.has(name))
  if (inside === undefined && node?.reaches === false && !mayBeBelow) return
  const value: unknown = Reflect.get(error, 'value')
  const texts = [value, Reflect.get(error, 'stringValue') as unknown]
    .map(textOf)
    .flatMap((text) => [text, text.slice(0, SHORTENED)])
    .filter((text) => text !== '')
  const clean = (text: unknown) =>
    typeof text === 'string' ? texts.reduce((result, each) => result.replaceAll(each, REDACTED), text) : text
  for (const name of ['message', 'stack']) Reflect.set(error, name, clean(Reflect.get(error, name)))
  for (const name of ['value', 'stringValue']) if (Reflect.has(error, name)) Reflect.set(error, name, REDACTED)
  const properties: unknown = Reflect.get(error, 'properties')
  if (isDoc(properties)) {
    properties['message'] = clean(properties['message'])
    if ('value' in properties) properties['value'] = REDACTED
  }
  const reason: unknown = Reflect.get(error, 'reason')
  if (reason !== null && reason !== undefined) Reflect.set(error, 'reason', undefined)
}

/** A value as a message quotes it. */
function textOf(value: unknown): string {
  if (value === undefined || value === null) return ''
  const text = typeof value === 'string' ? value : typeof value === 'object' ? inspect(value) : String(value as number)
  return text.replace(/^["'](.*)["']$/s, '$1')
}

/**
 * A filter, update, document, pipeline or list of operations with the values of encrypted paths replaced; paths and
 * operators stay.
 */
export function redactFilter(given: unknown, root: PathNode): unknown {
  return redactAt(given, root, redactionOf(root))
}

interface Redaction {
  readonly root: PathNode
  /** Names on encrypted paths: one may stand in a path that does not begin at the root, or where no path does. */
  readonly names: ReadonlySet<string>
}

function redactionOf(root: PathNode): Redaction {
  return { root, names: new Set(namesOf(root)) }
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
    return !PARTS.includes(key) && isReading(value, redaction.root)
      ? withoutLiterals(value, redaction.root)
      : redactAt(value, node, redaction)
  const { node: at, inside } = walkPath(node, key)
  if (inside !== undefined) return REDACTED
  if (at?.reaches === true) return redactAt(value, at, redaction)
  if (at !== undefined) return isReading(value, redaction.root) ? withoutLiterals(value, redaction.root) : value
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
function isReading(expression: unknown, root: PathNode): boolean {
  if (typeof expression === 'string') {
    const path = pathOf(expression)
    const { node, inside } = walkPath(root, path ?? '')
    return path === '' || inside !== undefined || node?.reaches === true
  }
  if (Array.isArray(expression)) return expression.some((each) => isReading(each, root))
  return isDoc(expression) && Object.values(expression).some((each) => isReading(each, root))
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
