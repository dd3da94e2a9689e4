import { isDeepStrictEqual } from 'node:util'
import type { Schema } from 'mongoose'
import { isDoc, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import { touchesEncrypted } from '../path-graph/walk-path.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { toArray } from './to-array.ts'

const NO_SUCH_COLLECTION = 26

interface IndexedSchema {
  indexes(): [Doc, Doc][]
}

/** Indexes over tokens and key ids that the collection lacks or has otherwise, for `doctor`; none before it exists. */
export async function inspectIndexes(
  state: CollectionState,
): Promise<readonly { readonly problem: string; readonly fix: string }[]> {
  const { root } = state.model()
  const found = await indexesOf(state)
  if (found === undefined) return []
  const expected = new Map<string, Doc>()
  for (const schema of state.schemas)
    for (const [keys, options] of (schema as Schema & IndexedSchema).indexes()) {
      const isOurs = Object.keys(keys).some((path) => path.startsWith(`${KEYS_PATH}.`) || touchesEncrypted(root, path))
      if (isOurs) expected.set(JSON.stringify(keys), options)
    }
  return [...expected].flatMap(([keys, { unique = false, partialFilterExpression }]) => {
    const index = found.find(({ key }) => JSON.stringify(key) === keys)
    const isUnique = (index?.['unique'] ?? false) === unique
    const isFor = index?.['partialFilterExpression']
    if (index !== undefined && isUnique && isDeepStrictEqual(isFor, partialFilterExpression)) return []
    const differs = isUnique ? 'is for other documents' : unique === true ? 'is not unique' : 'is unique'
    const what = index === undefined ? 'is missing' : differs
    return [{ problem: `index ${keys} ${what}`, fix: 'run syncIndexes() of the model' }]
  })
}

async function indexesOf({ raw }: CollectionState): Promise<readonly Doc[] | undefined> {
  try {
    return await toArray(raw.listIndexes({}))
  } catch (error) {
    if (isDoc(error) && error['code'] === NO_SUCH_COLLECTION) return undefined
    throw error
  }
}
