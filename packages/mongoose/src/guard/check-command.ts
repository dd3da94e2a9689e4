import { isEnvelope } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { isDoc, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { walkPath } from '../path-graph/walk-path.ts'

const { Binary } = mongo

/** Plaintext of an encrypted path in a command. */
export interface Violation {
  readonly path: string
}

type Root = (collection: string) => PathNode | undefined

/**
 * Looks for plaintext of encrypted paths in a command, knowing nothing of how it came about: a second opinion on
 * everything that leaves the process, native driver handles included.
 *
 * @param rootOf the encrypted paths of a collection of the command's database
 */
export function checkCommand(name: string, command: Doc, rootOf: Root): Violation | undefined {
  const collection = command[name]
  if (name === 'bulkWrite') return checkClientBulkWrite(command, rootOf)
  const root = typeof collection === 'string' ? rootOf(collection) : undefined
  if (root === undefined) return undefined
  switch (name) {
    case 'insert':
      return first(listOf(command['documents']), (document) => documentOf(document, root, ''))
    case 'update':
      return first(listOf(command['updates']), (each) =>
        isDoc(each) ? (filter(each['q'], root) ?? update(each['u'], root)) : undefined,
      )
    case 'delete':
      return first(listOf(command['deletes']), (each) => (isDoc(each) ? filter(each['q'], root) : undefined))
    case 'findAndModify':
    case 'findandmodify':
      return filter(command['query'], root) ?? update(command['update'], root)
    case 'find':
      return filter(command['filter'], root)
    case 'count':
    case 'distinct':
      return filter(command['query'], root)
    case 'aggregate':
      return first(listOf(command['pipeline']), (stage) => (isDoc(stage) ? filter(stage['$match'], root) : undefined))
    default:
      return undefined
  }
}

function checkClientBulkWrite(command: Doc, rootOf: Root): Violation | undefined {
  const namespaces = listOf(command['nsInfo']).map((each) => (isDoc(each) ? String(each['ns']) : ''))
  return first(listOf(command['ops']), (operation) => {
    if (!isDoc(operation)) return undefined
    const namespace = namespaces[Number(operation['insert'] ?? operation['update'] ?? operation['delete'])] ?? ''
    const root = rootOf(namespace.slice(namespace.indexOf('.') + 1))
    if (root === undefined) return undefined
    return 'insert' in operation
      ? documentOf(operation['document'], root, '')
      : (filter(operation['filter'], root) ?? update(operation['updateMods'], root))
  })
}

/** The driver sends lists of documents as arrays, or as sequences that hold one. */
function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value
  const documents: unknown = isDoc(value) ? value['documents'] : undefined
  return Array.isArray(documents) ? documents : []
}

function first<T>(items: readonly T[], check: (item: T) => Violation | undefined): Violation | undefined {
  for (const item of items) {
    const found = check(item)
    if (found !== undefined) return found
  }
  return undefined
}

/** Whatever is stored at an encrypted path is null, an envelope, or `{ c, b, n }`. */
function documentOf(value: unknown, node: PathNode, path: string): Violation | undefined {
  if (value === null || value === undefined || !node.reaches) return undefined
  if (node.annotation !== undefined) return isLeaf(value) ? undefined : { path }
  if (Array.isArray(value)) return first(value, (each) => documentOf(each, node.element ?? node, path))
  if (node.element !== undefined) return documentOf(value, node.element, path)
  if (value instanceof Map) return first([...value], ([key, each]) => below(String(key), each, node, path))
  return isDoc(value) ? first(Object.entries(value), ([key, each]) => below(key, each, node, path)) : undefined
}

function below(key: string, value: unknown, node: PathNode, path: string): Violation | undefined {
  const child = node.child(key)
  return child === undefined ? undefined : documentOf(value, child, path === '' ? key : `${path}.${key}`)
}

function isLeaf(value: unknown): boolean {
  if (isSealed(value)) return true
  if (!isDoc(value)) return false
  return (
    isSealed(value['c']) &&
    Object.entries(value).every(([key, each]) => key === 'c' || ((key === 'b' || key === 'n') && isToken(each)))
  )
}
function isSealed(value: unknown): boolean {
  return isEnvelope(value instanceof Binary ? value.value() : value)
}
function isToken(value: unknown): boolean {
  return value instanceof Binary || value instanceof Uint8Array
}

const FREE: readonly string[] = ['$unset', '$pop']

function update(value: unknown, root: PathNode): Violation | undefined {
  if (Array.isArray(value)) return first(value, (stage) => pipelineStage(stage, root))
  if (!isDoc(value)) return undefined
  if (!Object.keys(value).some((key) => key.startsWith('$'))) return documentOf(value, root, '')
  return first(Object.entries(value), ([operator, operands]) =>
    FREE.includes(operator)
      ? undefined
      : first(Object.entries(isDoc(operands) ? operands : {}), (each) => operand(operator, each, root)),
  )
}

function operand(operator: string, [path, value]: readonly [string, unknown], root: PathNode): Violation | undefined {
  const { node, inside } = walkPath(root, path)
  // A rewrap replaces the ciphertext of a searchable leaf alone.
  if (inside !== undefined)
    return operator === '$set' && inside.rest.join() === 'c' && isSealed(value) ? undefined : { path }
  if (node === undefined || !node.reaches) return undefined
  switch (operator) {
    case '$set':
    case '$setOnInsert':
      return documentOf(value, node, path)
    case '$push':
    case '$addToSet': {
      const each: unknown = isDoc(value) ? value['$each'] : undefined
      return first(Array.isArray(each) ? each : [value], (item) => documentOf(item, node.element ?? node, path))
    }
    case '$pull':
      return pulled(path, value, node.element ?? node)
    default:
      return { path }
  }
}

function pulled(path: string, value: unknown, element: PathNode): Violation | undefined {
  if (element.annotation === undefined) return filter(value, element)
  return isDoc(value) && Object.entries(value).every(([key, each]) => ['b', 'n', '$in'].includes(key) && isOpaque(each))
    ? undefined
    : { path }
}

function pipelineStage(stage: unknown, root: PathNode): Violation | undefined {
  return first(Object.entries(isDoc(stage) ? stage : {}), ([operator, operands]) =>
    operator === '$unset'
      ? undefined
      : first(Object.keys(isDoc(operands) ? operands : {}), (path) => written(path, root)),
  )
}

function written(path: string, root: PathNode): Violation | undefined {
  const { node, inside } = walkPath(root, path)
  return inside !== undefined || node?.reaches === true ? { path } : undefined
}

/** A condition on an encrypted path compares with tokens, envelopes or null, or asks whether there is a value. */
function filter(value: unknown, root: PathNode): Violation | undefined {
  if (!isDoc(value)) return undefined
  return first(Object.entries(value), ([path, condition]) => {
    if (path.startsWith('$'))
      return Array.isArray(condition) ? first(condition, (each) => filter(each, root)) : undefined
    const { node, inside } = walkPath(root, path)
    const field = inside?.node ?? (node?.annotation === undefined ? node?.element : node)
    if (field?.annotation !== undefined) return isOpaque(condition) ? undefined : { path }
    if (node?.reaches !== true || !isDoc(condition)) return undefined
    const { $elemMatch, $not } = condition as { readonly $elemMatch?: unknown; readonly $not?: unknown }
    return filter($elemMatch, node.element ?? node) ?? filter($not === undefined ? undefined : { [path]: $not }, root)
  })
}

function isOpaque(condition: unknown): boolean {
  if (condition === null || condition === undefined || condition instanceof Binary) return true
  if (Array.isArray(condition)) return condition.every(isOpaque)
  if (!isDoc(condition)) return false
  if (isLeaf(condition)) return true
  return Object.entries(condition).every(
    ([operator, each]) => ['$exists', '$size'].includes(operator) || (operator.startsWith('$') && isOpaque(each)),
  )
}
