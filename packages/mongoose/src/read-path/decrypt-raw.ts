import { FieldsealError } from '@fieldseal/core/adapter'
import { stateOf } from '../install/intercept.ts'
import { deepCopyOf, type Doc } from '../bson/documents.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { openingOf } from './find.ts'
import { openDocuments } from './open-documents.ts'

/**
 * Decrypts documents of a model that were read past Mongoose: by the driver, in a change event, from a dump. Returns
 * copies as the model's queries would give them with `lean()`.
 *
 * The documents must hold `_id`, and the tenant's and data subject's path where the model has them.
 *
 * @throws FieldsealError ERR_ARGUMENT_INVALID when such a path is missing, ERR_TENANT_MISSING, ERR_TENANT_MISMATCH, and
 * what opening throws
 */
export async function decryptRaw(model: { readonly collection: object }, rows: readonly object[]): Promise<Doc[]> {
  const state = stateOf(model.collection)
  const copies = rows.map((row) => deepCopyOf(row) as Doc) // an object's copy is one
  if (state === undefined) return copies
  const stored = state.model()
  for (const copy of copies) {
    for (const { path } of stored.facts)
      if (!Object.hasOwn(copy, path.split('.')[0] as string))
        throw new FieldsealError('ERR_ARGUMENT_INVALID', {
          model: stored.map.id,
          field: path,
          reason: 'the documents lack it',
          hint: 'read it with them: it tells whose document it is',
        })
    Reflect.deleteProperty(copy, KEYS_PATH)
  }
  return openDocuments(copies, { ...openingOf(state, stored.root, {}, state.host.capture()), writer: undefined })
}
