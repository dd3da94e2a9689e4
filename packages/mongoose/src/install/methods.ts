import { FieldsealError } from '@fieldseal/core/adapter'
import type { CollectionState } from './collection-state.ts'

/** Methods that carry neither documents nor conditions. */
export const PASSED_METHODS: readonly string[] = [
  'rename',
  'drop',
  'options',
  'isCapped',
  'dropIndex',
  'dropIndexes',
  'listIndexes',
  'indexes',
  'indexExists',
  'indexInformation',
  'estimatedDocumentCount',
  'listSearchIndexes',
  'dropSearchIndex',
]

const HINTS: Readonly<Record<string, string>> = {
  watch: 'change streams were never tried on a server that has them: they are refused until they are',
  initializeOrderedBulkOp: 'use bulkWrite',
  initializeUnorderedBulkOp: 'use bulkWrite',
}

/**
 * What no one has looked at is refused, a method of a later driver too. At once, since some of them give no promise that
 * anybody would wait for.
 */
export function refusedMethod({ name: collection }: CollectionState, method: string): () => never {
  return () => {
    throw new FieldsealError(method === 'watch' ? 'ERR_QUERY_UNSUPPORTED' : 'ERR_WRITE_UNSUPPORTED', {
      model: collection,
      operation: method,
      reason: method === 'watch' ? 'change-streams' : 'unsupported-method',
      hint: HINTS[method] ?? `${method}() is not known to protect encrypted paths`,
    })
  }
}
