import { FieldsealError } from '@fieldseal/core/adapter'
import mongoose, { type Model } from 'mongoose'

/** Everything of Mongoose's that this package overrides or calls beyond what an application does, by owner. */
export function reliedOn(
  model: Model<unknown>,
): readonly { readonly owner: string; readonly of: object; readonly members: readonly string[] }[] {
  return [
    {
      owner: 'Model',
      of: model,
      members: [
        'Query',
        'aggregate',
        'hydrate',
        'insertMany',
        'validate',
        'bulkWrite',
        'bulkSave',
        'castObject',
        'watch',
        'collection',
        'db',
        'schema',
        'base',
      ],
    },
    {
      owner: 'Model.prototype',
      of: model.prototype as object,
      members: ['save', '$save', 'validate', 'validateSync', 'set', '$set'],
    },
    {
      owner: 'Query.prototype',
      of: mongoose.Query.prototype,
      members: ['exec', 'cursor', 'clone', 'orFail', 'explain', 'getQuery', 'toConstructor'],
    },
    { owner: 'Connection', of: model.db, members: ['openUri', 'collections', 'models', 'on'] },
    { owner: 'Collection', of: model.collection, members: ['name', 'conn', 'queue', 'addQueue', 'removeQueue'] },
    {
      owner: 'Schema',
      of: model.schema,
      members: ['paths', 'childSchemas', 'indexes', 'index', 'removeIndex', 'path', 'on'],
    },
  ]
}

/**
 * Refuses to run with a Mongoose that this package does not know: each member must be there, and a model must use the one
 * collection object that its connection keeps.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID naming the member
 */
export function assertMembers(model: Model<unknown>): void {
  const fail = (member: string) => {
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      field: member,
      reason: `this Mongoose (${mongoose.version}) lacks it or uses it otherwise`,
      hint: 'use a version that the package names as its peer',
    })
  }
  for (const { owner, of, members } of reliedOn(model))
    for (const member of members) if (!(member in of)) fail(`${owner}.${member}`)
  const { collection } = model
  const prototype = model.prototype as { readonly $collection?: unknown; readonly collection?: unknown }
  if ((prototype.$collection ?? prototype.collection) !== collection) fail('Model.prototype.$collection')
  if (model.db.collections[collection.collectionName] !== collection) fail('Connection.collections')
}
