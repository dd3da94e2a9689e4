import type { Schema } from 'mongoose'
import { isDoc, type Doc } from '../bson/documents.ts'
import { configError } from '../encrypted-path/config-error.ts'
import { buildGraph } from '../path-graph/build-graph.ts'
import { nodesOf, PathNode } from '../path-graph/path-node.ts'
import { compoundPath, compoundsOf } from '../path-graph/compound-paths.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { whereExpression } from '../path-graph/unique-where.ts'
import { touchesEncrypted, walkPath } from '../path-graph/walk-path.ts'
import { SLOT_NAMES, type SlotName } from '../query-rewrite/token-terms.ts'

interface IndexedSchema {
  indexes(): [Record<string, unknown>, Record<string, unknown>][]
  index(keys: Record<string, unknown>, options: Record<string, unknown>): unknown
  removeIndex(keys: Record<string, unknown>): unknown
}

const PLAIN = new PathNode()
const SLOTS = Object.values(SLOT_NAMES)

/**
 * Gives the schemas of a collection the indexes of their blind indexes, for both slots, and replaces encrypted paths in
 * compound ones by those of their tokens. Safe to repeat. What `syncIndexes` finds in a schema is then what the database
 * has.
 */
export function addTokenIndexes(schemas: Iterable<Schema>, model: StoredModel): void {
  const shared = [...schemas]
  const own = buildGraph(shared, 'without')
  for (const schema of shared) {
    addIndexes(schema, own, PLAIN, model)
    add(schema, { [`${KEYS_PATH}.k`]: 1 }, {}, undefined)
    const { discriminators = {} } = schema as { readonly discriminators?: Readonly<Record<string, Schema>> }
    for (const each of [schema, ...Object.values(discriminators)]) noteNames(each, model)
  }
}

/**
 * The same for a discriminator: Mongoose makes the indexes of the paths that it adds, for its documents alone, and those
 * of the others with its base model.
 */
export function addDiscriminatorIndexes(schema: Schema, base: Schema, model: StoredModel): void {
  addIndexes(schema, buildGraph([schema], 'without'), buildGraph([base], 'without'), model)
  noteNames(schema, model)
}

function noteNames(schema: Schema, { indexNames }: StoredModel): void {
  const indexed = schema as unknown as IndexedSchema // a Schema, past its overloads
  for (const [keys, { name }] of indexed.indexes())
    indexNames.set(typeof name === 'string' ? name : Object.entries(keys).flat().join('_'), keys)
}

/** @param own the paths of the schema @param inherited those that are not its own */
function addIndexes(schema: Schema, own: PathNode, inherited: PathNode, model: StoredModel): void {
  const { root, tenant } = model
  const indexed = schema as unknown as IndexedSchema // a Schema, past its overloads
  for (const [keys, options] of indexed.indexes()) {
    if (!Object.keys(keys).some((path) => isSealed(path, root) && !isTokenPath(path, root))) continue
    indexed.removeIndex(keys)
    for (const slot of SLOTS) add(schema, onTokens(keys, root, slot), options, slot)
  }
  const single = indexedPaths(root).flatMap(([path, { field }]) =>
    field?.blindIndex === undefined ? [] : [{ index: field.blindIndex, path, paths: [path] }],
  )
  const compound = compoundsOf(model).map((index) => ({
    index,
    path: compoundPath(index),
    paths: index.fields.map((field) => field.path),
  }))
  for (const { index, path, paths } of [...single, ...compound]) {
    const isOwn = paths.every((each) => touchesEncrypted(own, each) && !touchesEncrypted(inherited, each))
    if (!isOwn) continue
    const scope = index.unique && !index.acrossTenants && tenant !== undefined ? { [tenant.path]: 1 } : {}
    const where = whereExpression(index)
    const isPartial = Object.keys(where).length > 0
    for (const slot of SLOTS) {
      const token = { [`${path}.${slot}`]: 1 }
      if (isPartial) {
        // Look-ups do not say that they mean the documents that count.
        add(schema, token, {}, slot)
        // Two indexes must differ in their keys. These are the same for all documents that count.
        const same = Object.fromEntries(Object.keys(where).map((other) => [other, 1]))
        add(schema, { ...token, ...scope, ...same }, { unique: true, partialFilterExpression: where }, slot)
      } else add(schema, { ...token, ...scope }, index.unique ? { unique: true } : {}, slot)
    }
  }
}

function add(to: Schema, keys: Doc, options: Doc, slot: SlotName | undefined): void {
  const schema = to as unknown as IndexedSchema // a Schema, past its overloads
  const known = schema.indexes().some(([other]) => JSON.stringify(other) === JSON.stringify(keys))
  if (known) return
  const tokens = slot === undefined ? [] : Object.keys(keys).filter((path) => path.endsWith(`.${slot}`))
  const given: unknown = options['partialFilterExpression']
  // Only documents that have a token: all others would be equal to a unique index. `$exists` rather than `$type`, so that
  // the planner can use the index for an equality. https://www.mongodb.com/docs/manual/core/index-partial/
  const partial = {
    ...(isDoc(given) ? given : {}),
    ...Object.fromEntries(tokens.map((path) => [path, { $exists: true }])),
  }
  const { name, ...rest } = options
  const named = typeof name === 'string' ? { name: slot === 'n' ? `${name}_next` : name } : {}
  schema.index(keys, { ...rest, ...named, ...(tokens.length === 0 ? {} : { partialFilterExpression: partial }) })
}

function onTokens(keys: Doc, root: PathNode, slot: SlotName): Doc {
  return Object.fromEntries(
    Object.entries(keys).map(([path, direction]) => [isSealed(path, root) ? `${path}.${slot}` : path, direction]),
  )
}

/** Whether an index of a path would hold ciphertext; not that of the old plaintext. */
function isSealed(path: string, root: PathNode): boolean {
  return touchesEncrypted(root, path) && walkPath(root, path).node?.plainOf === undefined
}

function isTokenPath(path: string, root: PathNode): boolean {
  return SLOTS.some((slot) => path.endsWith(`.${slot}`)) && touchesEncrypted(root, path.slice(0, -2))
}

/** Stored paths of searchable leaves, as an index names them: without array levels. A Map's keys are data and have no index. */
function indexedPaths(root: PathNode): [string, PathNode][] {
  const found: [string, PathNode][] = []
  const visit = (node: PathNode, path: string): void => {
    if (node.field?.blindIndex !== undefined) found.push([path, node])
    for (const [name, child] of node.names) visit(child, path === '' ? name : `${path}.${name}`)
    if (node.element !== undefined) visit(node.element, path)
    if (node.values !== undefined && nodesOf(node.values).some(({ field }) => field?.blindIndex?.unique === true))
      throw configError(path, 'unique', 'inside a Map: its keys are data, and no index covers them')
  }
  visit(root, '')
  return found
}
