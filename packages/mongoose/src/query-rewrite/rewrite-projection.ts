import { isDoc, removeAt, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { walkPath } from '../path-graph/walk-path.ts'
import { assertPlainExpression } from './expressions.ts'
import { refuseQuery } from './refuse.ts'
import { rewriteFilter, type FilterScope } from './rewrite-filter.ts'

/** A projection that also reads what opening needs, and what has to be taken away afterwards. */
export interface Projection {
  /** Undefined where nothing is left to say. */
  readonly projection: Doc | undefined
  /** Shapes an opened document as the caller asked for it. */
  readonly trim: (document: Doc) => void
}

/**
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED for expressions over encrypted paths and exclusions inside encrypted values
 */
export function rewriteProjection(given: unknown, model: StoredModel, scope: FilterScope): Projection {
  const asked = asDoc(given)
  if (asked === undefined || Object.keys(asked).length === 0) return { projection: undefined, trim: () => {} }
  const { root, map, facts } = model
  const out: Doc = {}
  const inner: string[] = []
  let inclusive: boolean | undefined
  let touches = false
  for (const [key, value] of Object.entries(asked)) {
    if (key === KEYS_PATH || key.startsWith(`${KEYS_PATH}.`))
      refuseQuery(map.id, key, 'reserved', 'the name belongs to Fieldseal')
    const { node, inside } = walkPath(root, key.endsWith('.$') ? key.slice(0, -2) : key)
    const isEncrypted = inside !== undefined || node?.reaches === true
    if (isIncluded(value)) {
      if (key !== '_id') inclusive = true
      touches ||= isEncrypted
      if (inside === undefined) out[key] = value
      else if (inside.node.field?.type === 'bson') {
        out[inside.path] = 1
        inner.push(key)
      } else refuseQuery(map.id, inside.path, 'filter-inside', 'it is one encrypted value: project it as a whole')
    } else if (isExcluded(value)) {
      if (key !== '_id') inclusive ??= false
      if (inside !== undefined) refuseQuery(map.id, inside.path, 'project-inside', 'exclude the whole encrypted value')
      out[key] = value
    } else if (isDoc(value) && '$elemMatch' in value) {
      inclusive ??= true
      touches ||= isEncrypted
      out[key] = { $elemMatch: rewriteFilter(value['$elemMatch'], node?.element ?? node ?? root, scope, true) }
    } else if (isDoc(value) && '$slice' in value && inside === undefined) {
      touches ||= isEncrypted
      out[key] = value
    } else if (isDoc(value) && '$meta' in value) out[key] = value
    else {
      assertPlainExpression(value, root, map.id, 'projection')
      if (isEncrypted) refuseQuery(map.id, key, 'expr-on-encrypted', 'a computed value would replace an encrypted one')
      inclusive = true
      out[key] = value
    }
  }
  // The tenant is compared on every read; the row id matters where something is opened.
  const needed = touches ? facts : facts.filter(({ path }) => path !== '_id')
  const added = inclusive === true ? addFacts(out, needed) : keepFacts(out, facts)
  const isEmpty = Object.keys(out).length === 0
  return {
    projection: isEmpty ? undefined : out,
    trim(document) {
      for (const path of added) removeAt(document, path)
      for (const path of new Set(inner.map((key) => key.split('.')[0] as string)))
        trimInside(document, path, inner, asked)
    },
  }
}

function asDoc(given: unknown): Doc | undefined {
  if (Array.isArray(given)) return Object.fromEntries(given.map((path) => [String(path), 1]))
  if (typeof given === 'string') return { [given]: 1 }
  return isDoc(given) ? given : undefined
}

function isIncluded(value: unknown): boolean {
  return value === true || (typeof value === 'number' && value !== 0)
}
function isExcluded(value: unknown): boolean {
  return value === false || value === 0
}

/** Includes the paths that say whose document it is. @returns what the caller did not ask for */
function addFacts(out: Doc, facts: StoredModel['facts']): string[] {
  const added: string[] = []
  for (const { path } of facts) {
    const names = path.split('.')
    const isCovered =
      path === '_id'
        ? !isExcluded(out['_id'])
        : names.some((_, at) => isIncluded(out[names.slice(0, at + 1).join('.')]))
    if (isCovered) continue
    if (path === '_id') delete out['_id']
    else out[path] = 1
    added.push(path)
  }
  return added
}

/** Takes exclusions of those paths back. @returns what the caller excluded */
function keepFacts(out: Doc, facts: StoredModel['facts']): string[] {
  const kept: string[] = []
  for (const { path } of facts) {
    const names = path.split('.')
    const excluded = names.map((_, at) => names.slice(0, at + 1).join('.')).find((prefix) => isExcluded(out[prefix]))
    if (excluded === undefined) continue
    delete out[excluded]
    kept.push(excluded)
  }
  return kept
}

/** Leaves of an opened container only what was asked for below it. */
function trimInside(document: Doc, top: string, inner: readonly string[], asked: Doc): void {
  const wanted = Object.keys(asked).filter((key) => key === top || key.startsWith(`${top}.`))
  if (!inner.some((key) => key.startsWith(`${top}.`))) return
  document[top] = pick(
    document[top],
    wanted.map((key) => key.split('.').slice(1)),
  )
}

function pick(value: unknown, paths: readonly (readonly string[])[]): unknown {
  if (paths.some((path) => path.length === 0)) return value
  if (Array.isArray(value)) return value.map((each) => pick(each, paths))
  if (!isDoc(value)) return value
  const out: Doc = {}
  for (const key of Object.keys(value)) {
    const below = paths.filter(([name]) => name === key).map((path) => path.slice(1))
    if (below.length > 0) out[key] = pick(value[key], below)
  }
  return out
}

/** Refuses an order that would be that of ciphertext. @throws FieldsealError ERR_QUERY_UNSUPPORTED */
export function assertSortable(sort: unknown, root: PathNode, model: string): void {
  for (const path of sortPaths(sort)) {
    const { node, inside } = walkPath(root, path)
    if (inside !== undefined || node?.reaches === true)
      refuseQuery(model, path, 'sort-on-encrypted', 'its order is that of ciphertext: sort after reading')
  }
}

function sortPaths(sort: unknown): string[] {
  if (typeof sort === 'string') return [sort.replace(/^-/, '')]
  if (sort instanceof Map) return [...sort.keys()].map(String)
  if (Array.isArray(sort)) return sort.map((each) => String(Array.isArray(each) ? each[0] : each))
  return isDoc(sort) ? Object.keys(sort).filter((key) => !isMeta(sort[key])) : []
}

function isMeta(value: unknown): boolean {
  return isDoc(value) && '$meta' in value
}
