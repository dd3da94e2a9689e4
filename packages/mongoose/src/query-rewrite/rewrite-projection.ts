import type { BlindIndex } from '@fieldseal/core/adapter'
import { isDoc, removeAt, setKey, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { compoundPath, compoundsOf } from '../path-graph/compound-paths.ts'
import { besidePath, walkPath, type Walked } from '../path-graph/walk-path.ts'
import { assertPlainExpression } from './expressions.ts'
import { storedPath } from './plain-places.ts'
import { refuseOldPlace, refuseQuery } from './refuse.ts'
import { rewriteFilter, type FilterScope } from './rewrite-filter.ts'

/** A projection that also reads what opening needs, and what has to be taken away afterwards. */
export interface Projection {
  /** Undefined where nothing is left to say. */
  readonly projection: Doc | undefined
  /** Shapes an opened document as the caller asked for it. */
  readonly trim: (document: Doc) => void
}

/**
 * @param scope what the filter asked for is read as well, to be compared with what its tokens found
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED for expressions over encrypted paths and exclusions inside encrypted values
 */
export function rewriteProjection(given: unknown, model: StoredModel, scope: FilterScope): Projection {
  const asked = asDoc(given)
  if (asked === undefined || Object.keys(asked).length === 0) return { projection: undefined, trim: () => {} }
  const { root, map, facts } = model
  const sought = soughtPaths(root, scope.asked)
  const out: Doc = {}
  const inner: string[] = []
  let inclusive: boolean | undefined
  let touches = scope.asked.size > 0
  let matches = false
  for (const [key, value] of Object.entries(asked)) {
    if (key === KEYS_PATH || key.startsWith(`${KEYS_PATH}.`))
      refuseQuery(map.id, key, 'reserved', 'the name belongs to Fieldseal')
    const walked = walkPath(root, withoutPosition(key))
    const { node, inside } = walked
    assertOwnPlace(walked, key, map.id)
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
      matches = true
      touches ||= isEncrypted
      out[key] = {
        $elemMatch: rewriteFilter(
          value['$elemMatch'],
          node?.element ?? node ?? root,
          { ...scope, stored: undefined },
          true,
        ),
      }
    } else if (isDoc(value) && '$slice' in value && inside === undefined) {
      if (node?.field !== undefined)
        refuseQuery(map.id, key, 'project-inside', 'it is one encrypted value: take a part of it after reading')
      touches ||= isEncrypted
      out[key] = value
    } else if (isDoc(value) && '$meta' in value) out[key] = value
    else {
      assertPlainExpression(value, root, map.id, 'projection')
      if (inside !== undefined || node?.conceals === true)
        refuseQuery(map.id, key, 'expr-on-encrypted', 'a computed value would replace an encrypted one')
      inclusive = true
      out[key] = value
    }
  }
  if (inclusive === undefined && matches && isExcluded(asked['_id'])) out[KEYS_PATH] = 0 // all the rest, as `_id: 0` says
  inclusive ??= isIncluded(asked['_id']) || (matches && !isExcluded(asked['_id']))
  // The tenant is compared on every read; the row id matters where something is opened.
  const needed = facts.map(({ path }) => path).filter((path) => path !== '_id' || touches || !inclusive)
  for (const index of compoundsOf(model))
    if (scope.asked.has(index)) needed.push(...index.fields.map(({ path }) => path), compoundPath(index))
  for (const [path, index] of sought) if (isReadable(path, index, asked, map.id)) needed.push(path)
  addOldPlaces(out, root, needed)
  const hidden = inclusive ? include(out, needed, asked) : keep(out, needed)
  return {
    projection: Object.keys(out).length === 0 ? undefined : out,
    trim(document) {
      for (const path of hidden) removeAt(document, path)
      for (const path of new Set(inner.map((key) => key.split('.')[0] as string)))
        trimInside(document, path, inner, asked)
    },
  }
}

/** Paths of the values that a filter looked for, as a projection names them. A Map is read as a whole. */
function soughtPaths(root: PathNode, asked: ReadonlySet<BlindIndex>): Map<string, BlindIndex> {
  const found = new Map<string, BlindIndex>()
  const visit = (node: PathNode, path: string): void => {
    const index = node.field?.blindIndex
    if (index !== undefined && asked.has(index)) found.set(path, index)
    for (const [name, child] of node.names) visit(child, path === '' ? name : `${path}.${name}`)
    for (const child of [node.element, node.values]) if (child !== undefined) visit(child, path)
  }
  if (asked.size > 0) visit(root, '')
  return found
}

/**
 * Whether a value looked for can be read beside what a projection shows. Not where that shows a part of its array: then
 * what a full-length token found goes unchecked.
 */
function isReadable(path: string, index: BlindIndex, asked: Doc, model: string): boolean {
  const partial = Object.keys(asked).some(
    (key) =>
      areRelated(withoutPosition(key), path) &&
      ((!isIncluded(asked[key]) && !isExcluded(asked[key])) ||
        withoutPosition(key) !== key ||
        key.startsWith(`${path}.`)),
  )
  if (partial && index.truncated)
    refuseQuery(
      model,
      path,
      'truncated-index',
      'the index is truncated: project the path that is looked for as a whole',
    )
  return !partial
}

function assertOwnPlace({ node, inside }: Walked, path: string, model: string): void {
  const { plainOf } = inside?.node ?? node ?? {}
  if (plainOf !== undefined) refuseOldPlace(model, path, plainOf)
}

/** What is said of a value goes for both of its places. Opening takes the other one away. */
function addOldPlaces(out: Doc, root: PathNode, needed: string[]): void {
  needed.push(...needed.flatMap((path) => oldPlace(path, root) ?? []))
  for (const [path, shown] of Object.entries(out)) {
    const old = oldPlace(path, root)
    if (old !== undefined) out[old] = isDoc(shown) ? 1 : shown
  }
}

function oldPlace(path: string, root: PathNode): string | undefined {
  const name = walkPath(root, withoutPosition(path)).node?.plainName
  return name === undefined ? undefined : besidePath(path, name)
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

/** Adds paths to an inclusion. @returns what has to be taken away again, because the caller did not ask for it */
function include(out: Doc, needed: readonly string[], asked: Doc): string[] {
  const hidden: string[] = []
  for (const path of needed) {
    const prefixes = prefixesOf(path)
    const isCovered = path === '_id' ? !isExcluded(out['_id']) : prefixes.some((prefix) => isIncluded(out[prefix]))
    if (isCovered) continue
    if (path === '_id') delete out['_id']
    else out[path] = 1
    const names = Object.keys(asked).map(withoutPosition)
    // Where nothing beside it was asked for, its parents go too.
    hidden.push(prefixes.find((prefix) => !names.some((name) => name.startsWith(`${prefix}.`))) ?? path)
  }
  return hidden
}

/** Takes exclusions of paths back. @returns what has to be taken away again, because the caller excluded it */
function keep(out: Doc, needed: readonly string[]): string[] {
  const hidden = Object.keys(out).filter((key) => isExcluded(out[key]) && needed.some((path) => areRelated(key, path)))
  for (const key of hidden) delete out[key]
  return hidden
}

/** `a`, `a.b`, `a.b.c` */
function prefixesOf(path: string): string[] {
  const names = path.split('.')
  return names.map((_, at) => names.slice(0, at + 1).join('.'))
}

/** Whether two paths are the same, or one leads to the other. */
function areRelated(one: string, other: string): boolean {
  return one === other || one.startsWith(`${other}.`) || other.startsWith(`${one}.`)
}

/** `history.$` shows the element of `history` that the filter met. */
function withoutPosition(key: string): string {
  return key.endsWith('.$') ? key.slice(0, -2) : key
}

/** Leaves of an opened container only what was asked for below it. */
function trimInside(document: Doc, top: string, inner: readonly string[], asked: Doc): void {
  const wanted = Object.keys(asked).filter((key) => key === top || key.startsWith(`${top}.`))
  if (!inner.some((key) => key.startsWith(`${top}.`))) return
  const paths = wanted.map((key) => key.split('.').slice(1))
  const picked = pick(document[top], paths)
  if (picked === undefined) Reflect.deleteProperty(document, top)
  else document[top] = picked
}

/** As an inclusion of MongoDB: what is no container is not there for a path that leads into it. */
function pick(value: unknown, paths: readonly (readonly string[])[]): unknown {
  if (paths.some((path) => path.length === 0)) return value
  if (Array.isArray(value)) return value.map((each) => pick(each, paths)).filter((each) => each !== undefined)
  if (!isDoc(value)) return undefined
  const out: Doc = {}
  for (const key of Object.keys(value)) {
    const below = paths.filter(([name]) => name === key).map((path) => path.slice(1))
    const picked = below.length > 0 ? pick(value[key], below) : undefined
    if (picked !== undefined) setKey(out, key, picked)
  }
  return out
}

/** Refuses an order that would be that of ciphertext. @throws FieldsealError ERR_QUERY_UNSUPPORTED */
export function assertSortable(sort: unknown, root: PathNode, model: string): void {
  for (const path of sortPaths(sort)) {
    if (storedPath(root, path) !== path) continue // it is in the order of its plaintext
    const { node, inside } = walkPath(root, path)
    if (inside !== undefined || node?.conceals === true)
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
