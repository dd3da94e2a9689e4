import type { OperationContext } from '@fieldseal/core/adapter'
import { deepCopyOf, type Doc } from '../bson/documents.ts'
import type { CollectionState, ModifyResult } from '../install/collection-state.ts'
import type { OperationOptions } from '../query-rewrite/scope.ts'
import { deleteCriteria, runReplace } from '../write-path/replace.ts'
import { runUpdate } from '../write-path/update.ts'
import { openingOf, prepareFind } from './find.ts'
import { openDocuments } from './open-documents.ts'

const WITH_METADATA = { includeResultMetadata: true } as const

export async function findOneAndUpdate(
  state: CollectionState,
  filter: unknown,
  update: unknown,
  given: OperationOptions,
) {
  return modify(state, given, (options, context) =>
    runUpdate<ModifyResult>(state, { filter, update, options, kind: 'one' }, context, {
      run: (criteria, sent, sentOptions) =>
        state.raw.findOneAndUpdate(criteria, sent, { ...sentOptions, ...WITH_METADATA }),
      // DocumentDB counts none where the document stays as it is; an upsert of a new one gives no document.
      matched: ({ value, lastErrorObject }) => (value === null ? Number(lastErrorObject?.['n'] ?? 0) : 1),
    }),
  )
}

export async function findOneAndReplace(
  state: CollectionState,
  filter: unknown,
  replacement: unknown,
  given: OperationOptions,
) {
  return modify(state, given, (options, context) =>
    runReplace<ModifyResult>(state, { filter, replacement, options }, context, (criteria, sent, sentOptions) =>
      state.raw.findOneAndReplace(criteria, sent, { ...sentOptions, ...WITH_METADATA }),
    ),
  )
}

export async function findOneAndDelete(state: CollectionState, filter: unknown, given: OperationOptions) {
  return modify(state, given, async (options, context) => {
    const { confined, rewritten } = await deleteCriteria(state, state.model(), filter, options, context)
    return state.raw.findOneAndDelete(confined, { ...rewritten, ...WITH_METADATA })
  })
}

/** Opens the document that comes back, before or after the change, and gives it as the caller asked for it. */
async function modify(
  state: CollectionState,
  given: OperationOptions,
  run: (options: OperationOptions, context: OperationContext) => Promise<ModifyResult>,
): Promise<unknown> {
  const context = state.host.capture()
  const model = state.model()
  const { options, trim } = await prepareFind(state, model, {}, given, context, false)
  const answer = await run(options, context)
  if (answer.value === null || answer.value === undefined)
    return given['includeResultMetadata'] === true ? answer : answer.value
  // The answer was handed to listeners of Mongoose and the driver, who may look at it later.
  const result = { ...answer, value: deepCopyOf(answer.value) as Doc }
  await openDocuments([result.value], openingOf(state, model.root, given, context))
  trim(result.value)
  return given['includeResultMetadata'] === true ? result : result.value
}
