import type { Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { comparedIn, plaintextInFilter } from './check-filter.ts'
import { plaintextInArrayFilters, plaintextInUpdate } from './check-update.ts'
import { entriesOf, firstOf, listOf, plaintextIn } from './stored-values.ts'

/** Plaintext of an encrypted path in a command. */
export interface Violation {
  /** Set where the command names another database than its own. */
  readonly database?: string
  readonly collection: string
  readonly path: string
}

/** The encrypted paths of a collection; without a name, of the command's database. */
type Root = (collection: string, database?: string) => PathNode | undefined

/**
 * Looks for plaintext of encrypted paths in a command, knowing nothing of how it came about: a second opinion on
 * everything that leaves the process, native driver handles included.
 */
export function checkCommand(name: string, command: Doc, rootOf: Root): Violation | undefined {
  if (name === 'explain') {
    const explained = Object.fromEntries(entriesOf(command['explain']))
    return checkCommand(Object.keys(explained)[0] ?? '', explained, rootOf)
  }
  if (name === 'bulkWrite') return checkClientBulkWrite(command, rootOf)
  const collection = nameOf(command[name])
  if (name === 'aggregate') return checkPipeline(command['pipeline'], collection, rootOf)
  const root = rootOf(collection)
  if (root === undefined) return undefined
  return found(pathIn(name, command, root), collection)
}

function pathIn(name: string, command: Doc, root: PathNode): string | undefined {
  switch (name) {
    case 'insert':
      return firstOf(listOf(command['documents']), (document) => plaintextIn(document, root))
    case 'update':
      return firstOf(listOf(command['updates']), (each) => {
        const { q, u, arrayFilters } = Object.fromEntries(entriesOf(each))
        return changed(q, u, arrayFilters, root)
      })
    case 'delete':
      return firstOf(listOf(command['deletes']), (each) =>
        plaintextInFilter(Object.fromEntries(entriesOf(each))['q'], root),
      )
    case 'findAndModify':
    case 'findandmodify':
      return (
        changed(command['query'], command['update'], command['arrayFilters'], root) ??
        plaintextInProjection(command['fields'], root)
      )
    case 'find':
      return (
        firstOf(['filter', 'min', 'max'], (part) => plaintextInFilter(command[part], root)) ??
        plaintextInProjection(command['projection'], root)
      )
    case 'count':
    case 'distinct':
    case 'mapReduce':
    case 'mapreduce':
      return plaintextInFilter(command['query'], root)
    case 'createIndexes':
      return firstOf(listOf(command['indexes']), (each) =>
        plaintextInFilter(Object.fromEntries(entriesOf(each))['partialFilterExpression'], root),
      )
    default:
      return undefined
  }
}

function changed(filter: unknown, update: unknown, arrayFilters: unknown, root: PathNode): string | undefined {
  return (
    plaintextInFilter(filter, root) ??
    plaintextInUpdate(update, root) ??
    plaintextInArrayFilters(arrayFilters, update, root)
  )
}

function plaintextInProjection(projection: unknown, root: PathNode): string | undefined {
  return firstOf(entriesOf(projection), ([path, value]) => {
    const matched = entriesOf(value).find(([key]) => key === '$elemMatch')?.[1]
    const { node } = walkPath(root, path)
    return node === undefined ? undefined : plaintextInFilter(matched, node.element ?? node)
  })
}

/** A pipeline reads from its collection and from others, and may write into one. */
function checkPipeline(pipeline: unknown, collection: string, rootOf: Root): Violation | undefined {
  let root = rootOf(collection)
  return firstOf(listOf(pipeline).flatMap(entriesOf), ([operator, operand]): Violation | undefined => {
    const parts = Object.fromEntries(entriesOf(operand))
    const nested = (of: unknown, from: unknown) => checkPipeline(of, nameOf(from ?? collection), rootOf)
    switch (operator) {
      case '$match':
        return found(root && plaintextInFilter(operand, root), collection)
      case '$geoNear':
        return found(root && plaintextInFilter(parts['query'], root), collection)
      case '$facet':
        return firstOf(Object.values(parts), (each) => nested(each, collection))
      case '$lookup':
        return nested(parts['pipeline'], parts['from'])
      case '$unionWith':
        return nested(parts['pipeline'], parts['coll'])
      case '$graphLookup': {
        const from = nameOf(parts['from'])
        const other = rootOf(from)
        return found(other && plaintextInFilter(parts['restrictSearchWithMatch'], other), from)
      }
      case '$out':
      case '$merge':
        return written(operator === '$out' ? operand : parts['into'], operand, rootOf)
      default: {
        const compared = root && comparedIn(operand, root)
        if (REMAKING.includes(operator)) root = undefined // from here on a name says nothing about where values come from
        return found(compared, collection)
      }
    }
  })
}

/** Stages whose documents are made of expressions. */
const REMAKING: readonly string[] = [
  '$group',
  '$bucket',
  '$bucketAuto',
  '$sortByCount',
  '$count',
  '$replaceRoot',
  '$replaceWith',
]

/** What a pipeline makes is plaintext, or ciphertext of another document. */
function written(target: unknown, stage: unknown, rootOf: Root): Violation | undefined {
  const { db, coll = target ?? stage } = Object.fromEntries(entriesOf(target ?? stage))
  const [collection, database] = [nameOf(coll), db === undefined ? undefined : nameOf(db)]
  return rootOf(collection, database) === undefined ? undefined : found('', collection, database)
}

/** A command may name something else than a collection: `{ aggregate: 1 }`. */
function nameOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function found(path: string | undefined, collection: string, database?: string): Violation | undefined {
  return path === undefined ? undefined : { ...(database === undefined ? {} : { database }), collection, path }
}

function checkClientBulkWrite(command: Doc, rootOf: Root): Violation | undefined {
  const namespaces = listOf(command['nsInfo']).map((each) => nameOf(Object.fromEntries(entriesOf(each))['ns']))
  return firstOf(listOf(command['ops']), (each) => {
    const operation = Object.fromEntries(entriesOf(each))
    const namespace = namespaces[Number(operation['insert'] ?? operation['update'] ?? operation['delete'])] ?? ''
    const at = namespace.indexOf('.')
    const [database, collection] = [namespace.slice(0, at), namespace.slice(at + 1)]
    const root = rootOf(collection, database)
    if (root === undefined) return undefined
    const { document, filter, updateMods, arrayFilters } = operation
    return found(plaintextIn(document, root) ?? changed(filter, updateMods, arrayFilters, root), collection, database)
  })
}
