import { isDoc, isOperators, plain, type Doc } from '../bson/documents.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { besidePath, walkPath } from '../path-graph/walk-path.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import type { Draft } from './draft.ts'
import type { Edit, UpdatePlan } from './plan-update.ts'
import { sealValue } from './seal-value.ts'
import { pinned } from './update-facts.ts'

/**
 * Adds to an upsert what the document that it may make holds beside what is written: the values that the filter demands,
 * and the nulls that `encryptNull` hides.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED
 */
export function sealInserted(filter: unknown, { update, edits }: UpdatePlan, model: StoredModel, draft: Draft): void {
  const demanded = equalities(filter)
  const written = [
    ...Object.values(update).flatMap((operands: unknown) => Object.keys(isDoc(operands) ? operands : {})),
    ...edits.map(({ root }) => root),
  ]
  sealSoughtValues(demanded, update, written, model, draft)
  const known = [...written, ...demanded.map(([path]) => path)]
  for (const [path, node] of missingNulls(model.root, '', known)) {
    if (Array.isArray(update))
      refuseWrite(model.map.id, path, 'pipeline-update', 'an upsert would leave out the null that encryptNull hides')
    sealValue(null, node, [], { holder: setOnInsert(update as Doc), key: path }, draft)
  }
}

/** Paths of a new document whose null is encrypted, and of which nothing is said; not inside arrays and Maps. */
function* missingNulls(node: PathNode, prefix: string, known: readonly string[]): Generator<[string, PathNode]> {
  for (const [name, child] of node.names) {
    const path = `${prefix}${name}`
    if (known.some((each) => each === path || path.startsWith(`${each}.`))) continue
    const isBegun = known.some((each) => each.startsWith(`${path}.`))
    if (child.field !== undefined) {
      if (child.field.encryptNull && child.state !== 'plaintext' && !isBegun) yield [path, child]
    } else if (isBegun) yield* missingNulls(child, `${path}.`, known)
  }
}

function setOnInsert(update: Doc): Doc {
  const { $setOnInsert } = update as { readonly $setOnInsert?: Doc }
  const operands = $setOnInsert ?? {}
  Reflect.set(update, '$setOnInsert', operands)
  return operands
}

/**
 * An upsert stores what its filter demands by equality. Of an encrypted path that would be a token without a value, so
 * the value is sealed beside it.
 */
function sealSoughtValues(
  demanded: readonly [string, unknown][],
  update: UpdatePlan['update'],
  written: readonly string[],
  model: StoredModel,
  draft: Draft,
): void {
  const refuse = (path: string, reason: string, hint: string) => refuseWrite(model.map.id, path, reason, hint)
  for (const [path, value] of demanded) {
    const { node, mapKeys, positional, spread } = walkPath(model.root, path)
    if (node === undefined || !node.conceals || (node.field ?? node.element?.field) === undefined) continue
    if (Array.isArray(update)) refuse(path, 'pipeline-update', 'an upsert would store a token without its value')
    if (positional) refuse(path, 'emulate-upsert', 'an upsert cannot make one element of an array')
    if (written.some((each) => path === each || path.startsWith(`${each}.`))) continue
    if (spread && written.some((each) => each.split('.', 1)[0] === path.split('.', 1)[0]))
      refuse(path, 'emulate-upsert', 'an upsert would make an object of names and indexes where the array is')
    sealValue(value, node, mapKeys, { holder: setOnInsert(update as Doc), key: path }, draft)
  }
}

/**
 * Equalities of a filter that operators compute with, where the server is to compute: said of the old plaintext, as far as
 * the rewritten filter says them no more in a form of which a server makes a value.
 */
export function demandedOf(edits: readonly Edit[], filter: unknown, rewritten: Doc): readonly Doc[] {
  const said = new Set(equalities(rewritten).map(([path]) => path))
  return equalities(filter).flatMap(([path, value]) => {
    const plainName = edits.find(({ root }) => root === path)?.node.plainName
    const place = plainName === undefined ? path : besidePath(path, plainName)
    return plainName === undefined || said.has(place) ? [] : [{ [place]: value }]
  })
}

/** What a server takes for equality when it makes a document for an upsert, after it has simplified the filter. */
function equalities(filter: unknown): [string, unknown][] {
  const given = plain(filter)
  if (!isDoc(given)) return []
  return Object.entries(given).flatMap(([key, value]): [string, unknown][] => {
    if ((key === '$and' || (key === '$or' && isSingle(value))) && Array.isArray(value)) return value.flatMap(equalities)
    if (key.startsWith('$')) return []
    const equal: unknown = pinned({ [key]: value }, key)
    if (equal !== undefined) return [[key, equal]]
    const { $eq, $in, $all } = isDoc(value) ? (value as { $eq?: unknown; $in?: unknown; $all?: unknown }) : {}
    const [only] = [[$eq], $in, $all].filter(isSingle).flat()
    return only === undefined || only === null || isOperators(only) ? [] : [[key, only]]
  })
}

function isSingle(value: unknown): value is readonly [unknown] {
  return Array.isArray(value) && value.length === 1 && value[0] !== undefined
}
