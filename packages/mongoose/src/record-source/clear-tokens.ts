import type { Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import { compoundsOf, COMPOUNDS_NAME } from '../path-graph/compound-paths.ts'
import { KEYS_PATH } from '../path-graph/stored-model.ts'
import { SLOT_NAMES } from '../query-rewrite/token-terms.ts'
import type { DocumentKey } from './document-key.ts'
import { DURABLE, refusedBy } from './send-with-keys.ts'

/** Removes the tokens of documents, and leaves their ciphertext. */
export async function clearTokens({ raw, model }: CollectionState, keys: readonly unknown[]): Promise<void> {
  const compounds = compoundsOf(model())
  const operations = keys.flatMap((key) => {
    const { id, owner, paths, plain } = key as DocumentKey // opaque to core: it gives back what pages() made
    const unset: Doc = compounds.length === 0 ? {} : { [`${KEYS_PATH}.${COMPOUNDS_NAME}`]: 1 }
    for (const path of [...paths.values(), ...[...plain.values()].map((cell) => cell.path)].flat())
      for (const slot of Object.values(SLOT_NAMES)) unset[`${path}.${slot}`] = 1
    return Object.keys(unset).length === 0
      ? []
      : [{ updateOne: { filter: { _id: id, ...owner }, update: { $unset: unset } } }]
  })
  if (operations.length === 0) return
  await raw.bulkWrite(operations, { ...DURABLE, ordered: false }).catch((error: unknown) => refusedBy(error, []))
}
