import { inspect } from 'node:util'
import mongoose from 'mongoose'
import { isDoc, plain, setKey, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { walkPath } from '../path-graph/walk-path.ts'

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
  const { errors } = error as { readonly errors?: unknown }
  if (error instanceof mongoose.Error.ValidationError && isDoc(errors)) {
    for (const [path, each] of Object.entries(errors)) redactOne(each, path, root)
    error.message = `${error.message.split(':')[0]}: ${Object.entries(errors)
      .map(([path, each]) => `${path}: ${String(Reflect.get(Object(each), 'message'))}`)
      .join(', ')}`
  }
  redactOne(error, String(Reflect.get(error, 'path') ?? ''), root)
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

function redactOne(error: unknown, path: string, root: PathNode): void {
  if (typeof error !== 'object' || error === null || path === '') return
  const { node, inside } = walkPath(root, path)
  // A path that is not known may be one inside a container, told from there.
  if (inside === undefined && node?.reaches === false) return
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
  return redactAt(given, root, { root, names: new Set(namesOf(root)) })
}

interface Redaction {
  readonly root: PathNode
  /** Last names of encrypted paths: what holds them may stand under a name that is no path. */
  readonly names: ReadonlySet<string>
}

function namesOf(node: PathNode): string[] {
  return [...node.names].flatMap(([name, child]) => {
    const leaf = child.element ?? child.values ?? child
    return leaf.annotation === undefined && child.annotation === undefined ? namesOf(leaf) : [name]
  })
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
  if (key.startsWith('$')) return redactAt(value, node, redaction)
  const { node: at, inside } = walkPath(node, key)
  if (inside !== undefined) return REDACTED
  if (at !== undefined) return at.reaches ? redactAt(value, at, redaction) : value
  // Not a path: the name of an operation, of an argument, or of an element in an array filter.
  if (key === 'arrayFilters' || redaction.names.has(key.slice(key.lastIndexOf('.') + 1))) return REDACTED
  return redactAt(value, redaction.root, redaction)
}
