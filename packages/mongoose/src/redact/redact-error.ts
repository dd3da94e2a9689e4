import { inspect } from 'node:util'
import mongoose from 'mongoose'
import { isDoc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { REDACTED, redactFilter, redactionOf, type Redaction } from './redact-filter.ts'

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
