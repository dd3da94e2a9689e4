import { mongo } from 'mongoose'
import { toCoreValue } from '../bson/driver-values.ts'
import { isDoc, isIndexed, plain, setKey, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { besidePath, touchesEncrypted } from '../path-graph/walk-path.ts'
import { refuseOldPlace, refuseWrite } from '../query-rewrite/refuse.ts'
import type { Draft } from './draft.ts'

const { Code, DBRef } = mongo

/** Where the leaf of a value goes. */
export interface Target {
  readonly holder: Doc | unknown[]
  readonly key: string | number
}

/**
 * Puts a value into `holder[key]` as it may be stored: containers on the way to an encrypted path are copied, and every
 * encrypted value becomes a cell of the draft, to be replaced when the draft is sealed. The given value is left as it is.
 */
export function sealValue(
  value: unknown,
  node: PathNode,
  mapKeys: readonly string[],
  target: Target,
  draft: Draft,
): void {
  const given = plain(value)
  if (node.field !== undefined) {
    if (node.state === 'plaintext') keepPlain(given, node, mapKeys, target, draft)
    else sealLeaf(given, node, mapKeys, target, draft)
  } else if (given === null || given === undefined || !node.reaches) {
    put(target, given)
  } else if (Array.isArray(given)) {
    // An array where the schema has none is walked as MongoDB walks it: each element stands at the path.
    const copy: unknown[] = Array.from({ length: given.length })
    put(target, copy)
    for (const each of given) assertNoIndexes(plain(each), node, target, draft)
    for (let key = 0; key < given.length; key++)
      sealValue(given[key], node.element ?? node, mapKeys, { holder: copy, key }, draft)
  } else if (node.element !== undefined) {
    sealValue(given, node.element, mapKeys, target, draft)
  } else if (given instanceof Map || isDoc(given)) {
    const copy: Doc = {}
    put(target, copy)
    sealNames(given, node, mapKeys, copy, draft)
  } else if (given instanceof DBRef || given instanceof Code) {
    // They are stored with keys of their own, which the paths below could be read from.
    refuseWrite(draft.model.map.id, String(target.key), 'value-on-parent', 'a BSON type that holds a document')
  } else put(target, given)
}

/** Mongoose puts an array that is stored as an object into an array, where its elements stand at no known path. */
function assertNoIndexes(item: unknown, { element }: PathNode, target: Target, draft: Draft): void {
  if (element === undefined || element.names.size === 0 || !isIndexed(item)) return
  if (Object.keys(item).some((name) => element.child(name) === undefined))
    refuseWrite(
      draft.model.map.id,
      String(target.key),
      'value-on-parent',
      'indexes where its names should be: set it anew',
    )
}

/** A whole document, copied; `__fieldseal` may not come from the caller. */
export function sealDocument(document: Doc, model: StoredModel, draft: Draft): Doc {
  const box: Doc = {}
  if (Object.hasOwn(document, KEYS_PATH))
    refuseWrite(model.map.id, KEYS_PATH, 'reserved', 'the name belongs to Fieldseal')
  sealValue(document, model.root, [], { holder: box, key: 'document' }, draft)
  return box['document'] as Doc // sealValue copies what reaches encrypted paths
}

function sealNames(
  given: Doc | ReadonlyMap<unknown, unknown>,
  node: PathNode,
  mapKeys: readonly string[],
  copy: Doc,
  draft: Draft,
): void {
  const entries =
    given instanceof Map ? [...given].map(([key, value]) => [String(key), value] as const) : Object.entries(given)
  for (const [name, value] of entries) {
    const child = node.child(name)
    if (child === undefined && name.includes('.') && touchesEncrypted(node, name))
      refuseWrite(
        draft.model.map.id,
        name,
        'dotted-key',
        'a name with dots looks like an encrypted path: nest the objects',
      )
    if (child?.plainOf !== undefined) {
      // Only we write there: in the right state, beside what the path itself holds.
      if (value !== null && value !== undefined) refuseOldPlace(draft.model.map.id, name, child.plainOf, refuseWrite)
    } else if (child === undefined) setKey(copy, name, value)
    else
      sealValue(
        value,
        child,
        node.values === undefined ? mapKeys : [...mapKeys, name],
        { holder: copy, key: name },
        draft,
      )
  }
  for (const [name, child] of node.names) {
    // A missing value would tell what an encrypted null hides.
    if (child.field?.encryptNull === true && child.state !== 'plaintext' && !Object.hasOwn(copy, name))
      sealValue(null, child, mapKeys, { holder: copy, key: name }, draft)
  }
}

/** A value that is stored unencrypted: at its path, or beside it with nothing but its tokens at the path. */
function keepPlain(value: unknown, node: PathNode, mapKeys: readonly string[], target: Target, draft: Draft): void {
  const { field, plainName } = node
  if (plainName === undefined || field === undefined) return put(target, value)
  put({ holder: target.holder, key: besidePath(String(target.key), plainName) }, value)
  if (field.blindIndex === undefined || value === null || value === undefined) return
  put(target, null)
  draft.cells.push({ field, mapKeys, value: toCoreValue(field.type, value), ...target })
}

function sealLeaf(value: unknown, { field }: PathNode, mapKeys: readonly string[], target: Target, draft: Draft): void {
  if (field === undefined) return
  if ((value === undefined || value === null) && !field.encryptNull) {
    put(target, value)
    return
  }
  put(target, null) // never the plaintext, whatever happens before the draft is sealed
  draft.cells.push({ field, mapKeys, value: toCoreValue(field.type, value ?? null), ...target })
}

function put({ holder, key }: Target, value: unknown): void {
  if (Array.isArray(holder)) holder[key as number] = value
  else setKey(holder, String(key), value)
}
