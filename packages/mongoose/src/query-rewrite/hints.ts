import type { BlindIndex, SoughtTokens } from '@fieldseal/core/adapter'
import { isDoc, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { touchesEncrypted, walkPath } from '../path-graph/walk-path.ts'
import { storedPath } from './plain-places.ts'
import { refuseQuery } from './refuse.ts'
import { SLOT_NAMES } from './token-terms.ts'

type Sought = ReadonlyMap<BlindIndex, SoughtTokens>

/**
 * A hint with searchable paths replaced by those of their tokens, in the slot that the operation asks: an index over the
 * other slot may hold none of the documents. It may have been translated before, without its slot.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED for a path that has no index, and for a name that does not tell its slot
 */
export function rewriteHint(hint: unknown, model: StoredModel, sought: Sought): unknown {
  if (isDoc(hint)) return tokenKeys(hint, model, sought)
  if (typeof hint !== 'string') return hint
  const declared = model.indexNames.get(hint)
  const keys = declared ?? keysIn(hint)
  if (isOverTokens(keys, model)) return tokenKeys(keys, model, sought)
  const isPlain =
    declared !== undefined ||
    (Object.keys(keys).length > 0 && Object.keys(keys).every((path) => isPlainPath(path, model)))
  const [asked] = sought.keys()
  if (hint !== ID_INDEX && !isPlain && asked !== undefined)
    refuseQuery(model.map.id, asked.id, 'hint', 'no schema declares an index of that name: hint by its keys')
  return hint
}
const ID_INDEX = '_id_'

/** The keys that a name of MongoDB's own tells, as `email.b_1` does. */
function keysIn(name: string): Doc {
  return Object.fromEntries(
    [...name.matchAll(/(.+?)_(-?1)(?:_|$)/g)].map(([, path = '', direction]) => [path, Number(direction)]),
  )
}

function isOverTokens(keys: Readonly<Doc>, { root }: StoredModel): boolean {
  return Object.keys(keys).some((path) => tokenPath(path, root) !== undefined)
}

function isPlainPath(path: string, { root }: StoredModel): boolean {
  return walkPath(root, path).node?.declared === true && !touchesEncrypted(root, path)
}

/** The searchable path of a slot. */
function tokenPath(path: string, root: PathNode): string | undefined {
  const { inside } = walkPath(root, path)
  return inside?.rest.length === 1 && SLOTS.includes(inside.rest[0]) ? inside.path : undefined
}
const SLOTS: readonly unknown[] = Object.values(SLOT_NAMES)

function tokenKeys(keys: Readonly<Doc>, { root, map }: StoredModel, sought: Sought): Doc {
  const out: Doc = {}
  for (const [given, direction] of Object.entries(keys)) {
    const path = tokenPath(given, root) ?? given // of a key that was translated before, without its slot
    const { node } = walkPath(root, path)
    const field = node?.field ?? node?.element?.field
    const index = field?.blindIndex ?? node?.tokensOf
    if (node?.tokensOf === undefined && (field === undefined || field.state === 'plaintext'))
      out[storedPath(root, path)] = direction
    else if (index === undefined) refuseQuery(map.id, path, 'index', 'it has no blindIndex')
    else out[`${path}.${SLOT_NAMES[sought.get(index)?.slot ?? 'odd']}`] = direction
  }
  return out
}
