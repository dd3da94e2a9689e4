import { FieldsealError } from '@fieldseal/core/adapter'
import type { Doc } from '../bson/documents.ts'
import { stateOf } from '../install/intercept.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'

const SLOTS = { b: { bsonType: 'binData' }, n: { bsonType: 'binData' } } as const
const TOKENS = { bsonType: 'object', additionalProperties: false, properties: SLOTS } as const
/** As a path without an index is stored, and as one with an index is: whichever it has, documents of both may stand there. */
const SEALED = {
  bsonType: ['binData', 'object', 'null'],
  required: ['c'],
  additionalProperties: false,
  properties: { c: { bsonType: 'binData' }, ...SLOTS },
} as const

/**
 * A validator that refuses plaintext at the encrypted paths of a model, for writers that pass by this package: imports,
 * shells, other services. It says nothing about plain paths.
 *
 * `db.command({ collMod: Model.collection.collectionName, validator: jsonSchemaTripwire(Model) })`
 *
 * While a field is on its way from plaintext it is left out. Make the validator anew when a state becomes `encrypted`, a path
 * is encrypted or a compound index is added: the one of before lets everything pass there, and `doctor` tells of it. Take it
 * off before a path goes back to plaintext. A blind index of one path changes nothing. Beside conditions of your own:
 * `{ $and: [jsonSchemaTripwire(Model), …] }`.
 *
 * It cannot look into binary data, so it takes any for ciphertext: plaintext of a Buffer path is found when it is read.
 *
 * @throws FieldsealError ERR_ARGUMENT_INVALID for a model without encrypted paths
 * @see https://www.mongodb.com/docs/manual/reference/operator/query/jsonSchema/
 */
export function jsonSchemaTripwire(model: { readonly modelName: string; readonly collection: object }): {
  readonly $jsonSchema: Doc
} {
  const state = stateOf(model.collection)
  if (state === undefined)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: model.modelName, reason: 'it has no encrypted path' })
  return tripwireOf(state.model())
}

export function tripwireOf({ root }: Pick<StoredModel, 'root'>): { readonly $jsonSchema: Doc } {
  return { $jsonSchema: schemaOf(root) }
}

/** Whether a path that holds no plaintext any more is here or below. */
function isStrict(node: PathNode): boolean {
  if (node.tokensOf !== undefined) return true
  const isOne = node.annotation !== undefined || node.plainOf !== undefined
  return isOne ? (node.plainOf ?? node).state === 'encrypted' : [...node.children()].some(isStrict)
}

/** Only what leads to encrypted paths; MongoDB lets everything else be. */
function schemaOf(node: PathNode): Doc {
  const { field, element, values } = node
  if (node.tokensOf !== undefined) return TOKENS
  if (node.plainOf !== undefined) return { bsonType: ['null'] }
  if (field !== undefined) return SEALED
  if (element !== undefined) {
    // MongoDB lets one value stand where the schema has an array.
    const { bsonType, ...one } = schemaOf(element)
    return {
      ...one,
      bsonType: ['array', ...(bsonType as string[]).filter((type) => type !== 'array')],
      items: schemaOf(element),
    }
  }
  if (values !== undefined) return { bsonType: ['object', 'null'], additionalProperties: schemaOf(values) }
  const properties = [...node.names]
    .filter(([, child]) => isStrict(child))
    .map(([name, child]) => [name, schemaOf(child)] as const)
  return { bsonType: ['object', 'null'], properties: Object.fromEntries(properties) }
}
