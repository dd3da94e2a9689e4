import type { OperationContext } from '@fieldseal/core/adapter'
import { valueAt, type Doc } from '../bson/documents.ts'
import { toCoreValue } from '../bson/driver-values.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { sealDrafts } from './draft.ts'
import type { PreparedUpdate, UpdateRunner } from './prepared-update.ts'
import { writeWhereStill } from './write-where-still.ts'

/**
 * An update that writes some paths of a compound index: its token is made of the stored values of the others.
 *
 * @returns undefined when the document that was read to learn whose it is has become another's, or is gone
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED as `writeWhereStill`
 */
export async function completeMatched<R>(
  state: CollectionState,
  model: StoredModel,
  prepared: PreparedUpdate,
  context: OperationContext,
  runner: UpdateRunner<R>,
): Promise<R | undefined> {
  const { draft, missing } = prepared
  return writeWhereStill(state, model, prepared, context, runner, {
    places: missing.map(({ path }) => path),
    async update({ plaintext }) {
      draft.known = missing.map((field) => ({ field, value: knownValue(plaintext, field.path, field.type) }))
      await sealDrafts([draft], state.host, context)
      return prepared.finish()
    },
  })
}

function knownValue(document: Doc, path: string, type: string): unknown {
  const value = valueAt(document, path) ?? null
  return value === null ? null : toCoreValue(type, value)
}
