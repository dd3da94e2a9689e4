import type { BlindIndex, PlainEquality } from '@fieldseal/core/adapter'
import type { Schema } from 'mongoose'
import { type Doc, valueAt } from '../bson/documents.ts'
import { numeric } from '../bson/numbers.ts'
import { configError } from '../encrypted-path/config-error.ts'
import type { StoredModel } from './stored-model.ts'
import { touchesEncrypted, walkPath } from './walk-path.ts'

const INSTANCES: Readonly<Record<string, string>> = { string: 'String', number: 'Number', boolean: 'Boolean' }

/**
 * Refuses what a partial index would not see as it is meant: no document would count, and nothing would be unique.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID naming the path
 */
export function assertUniqueWhere(schemas: readonly Schema[], { map, root }: StoredModel): void {
  const all = schemas.flatMap((schema) => [schema, ...(Object.values(schema.discriminators ?? {}) as Schema[])])
  for (const { path, equals } of map.indexes.flatMap(({ uniqueWhere }) => uniqueWhere)) {
    const refuse = (reason: string) => configError(path, 'unique.where', reason)
    const { node, mapKeys, positional, spread } = walkPath(root, path)
    if (touchesEncrypted(root, path)) throw refuse('it is encrypted: an index can be told of plain paths only')
    const isScalar = node?.declared === true && node.element === undefined && node.values === undefined
    if (!isScalar || positional || spread || mapKeys.length > 0)
      throw refuse('a path of the schema outside of arrays and Maps')
    const found = all.map((schema) => schema.path(path) as unknown as PlainType | undefined)
    const type = found.find((each) => each !== undefined)
    if (equals === null) continue
    if (type?.instance !== INSTANCES[typeof equals])
      throw refuse(`a path of type ${type?.instance ?? 'unknown'} is never equal to a ${typeof equals}`)
    if (type !== undefined && !canHold(type, equals))
      throw refuse('no document holds this value: a setter of the path changes it, or its enum lacks it')
  }
}

/** What is asked of a path's type in Mongoose. */
interface PlainType {
  readonly instance?: string
  readonly enumValues?: readonly unknown[]
  applySetters(value: unknown, scope: null): unknown
}

/** Whether a value stays as it is when it is written: not where `lowercase`, `trim` or an enumeration make another of it. */
function canHold(type: PlainType, equals: unknown): boolean {
  const { enumValues = [] } = type
  if (enumValues.length > 0 && !enumValues.includes(equals)) return false
  try {
    return type.applySetters(equals, null) === equals
  } catch {
    return true // a setter of the application that needs its document
  }
}

/** The condition of a partial index: which documents a unique index counts. */
export function whereExpression({ uniqueWhere }: Pick<BlindIndex, 'uniqueWhere'>): Doc {
  return Object.fromEntries(uniqueWhere.map(({ path, equals }) => [path, equals]))
}

/** Unique indexes that a document does not count for. */
export function outsideOf(document: Doc, { map }: StoredModel): ReadonlySet<BlindIndex> {
  return new Set(map.indexes.filter(({ uniqueWhere }) => !uniqueWhere.every((test) => meets(document, test))))
}

/** @param document as it is stored: the numbers of BSON are objects */
function meets(document: Doc, { path, equals }: PlainEquality): boolean {
  const value: unknown = valueAt(document, path) ?? null
  if (typeof equals !== 'number') return value === equals
  const number = numeric(value)
  return number !== undefined && Number(number) === equals
}
