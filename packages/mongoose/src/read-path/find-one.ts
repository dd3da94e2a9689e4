import { deepCopyOf, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { OperationOptions } from '../query-rewrite/scope.ts'
import { find } from './cursors.ts'
import { openingOf, prepareFind } from './find.ts'
import { openDocuments } from './open-documents.ts'

/** One document; where a truncated index may find others in vain, the first one that really has the value. */
export async function findOne(
  state: CollectionState,
  filter: unknown,
  { limit: _limit, ...options }: OperationOptions,
): Promise<Doc | null> {
  const context = state.host.capture()
  const model = state.model()
  const prepared = await prepareFind(state, model, filter, options, context, true)
  if ([...prepared.sought.keys()].some(({ truncated }) => truncated)) {
    const cursor = await find(state, filter, options)
    try {
      return await cursor.next()
    } finally {
      await cursor.close()
    }
  }
  const document = await state.raw.findOne(prepared.filter, prepared.options)
  if (document === null) return null
  const [opened = null] = await openDocuments(
    [deepCopyOf(document) as Doc], // listeners of Mongoose and the driver have it too, and may look at it later
    openingOf(state, model.root, options, context, prepared.sought),
  )
  if (opened !== null) prepared.trim(opened)
  return opened
}
