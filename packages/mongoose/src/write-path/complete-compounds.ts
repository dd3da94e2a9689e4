import type { OperationContext } from '@fieldseal/core/adapter'
import { AS_STORED } from '../bson/bson-codec.ts'
import { deepCopyOf, valueAt, type Doc } from '../bson/documents.ts'
import { toCoreValue } from '../bson/driver-values.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { comparesByCollation } from '../query-rewrite/scope.ts'
import { factsOf } from '../read-path/collect-rows.ts'
import { openDocuments } from '../read-path/open-documents.ts'
import { sealDrafts } from './draft.ts'
import {
  MAX_ATTEMPTS,
  NOTHING,
  optionsOfNothing,
  readOptions,
  UNCHANGED,
  type PreparedUpdate,
  type UpdateRunner,
} from './prepared-update.ts'
import { isStill } from './still.ts'
import { isByBytes, pinTo } from './update-facts.ts'

/**
 * An update that writes some paths of a compound index: reads the others, and writes where they are still those that were
 * read. Another writer in between means: once more.
 *
 * @returns undefined when the document that was read to learn whose it is has become another's, or is gone
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED when others kept writing the same values through 20 attempts
 */
export async function completeMatched<R>(
  state: CollectionState,
  model: StoredModel,
  prepared: PreparedUpdate,
  context: OperationContext,
  runner: UpdateRunner<R>,
): Promise<R | undefined> {
  const { filter, options, draft, missing } = prepared
  const paths = missing.map(({ path }) => path)
  const projection = Object.fromEntries([...model.facts.map((fact) => fact.path), ...paths].map((path) => [path, 1]))
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const found = await state.raw.findOne(filter, { ...readOptions(options), projection })
    if (found === null) {
      if (prepared.known) return undefined
      return runner.run(NOTHING, UNCHANGED, optionsOfNothing(options))
    }
    const document: Doc = found
    const still = Object.fromEntries(paths.map((path) => [path, isStill(document, path)]))
    const facts = factsOf(document, model, context)
    const bound = isByBytes(model.id, comparesByCollation(state, options))
    draft.facts = bound ? facts : { ...facts, rowId: undefined }
    const [plaintext = {}] = await openDocuments([deepCopyOf(document) as Doc], {
      host: state.host,
      context: { ...context, onUnreadable: 'throw' as const }, // no token is made of a sentinel
      root: model.root,
      promote: AS_STORED,
      sought: new Map(),
      writer: undefined,
      whole: false,
    })
    draft.known = missing.map((field) => ({ field, value: knownValue(plaintext, field.path, field.type) }))
    await sealDrafts([draft], state.host, context)
    const confined = pinTo(filter, document, model)
    const guarded = { ...confined, $and: [...((confined['$and'] as unknown[] | undefined) ?? []), still] }
    const result = await runner.run(guarded, prepared.finish(), { ...options, upsert: false })
    if (runner.matched(result) > 0) return result
  }
  return refuseWrite(
    model.map.id,
    paths[0] ?? '',
    'emulate-contention',
    `others kept changing it through ${MAX_ATTEMPTS} attempts: try again later`,
  )
}

function knownValue(document: Doc, path: string, type: string): unknown {
  const value = valueAt(document, path) ?? null
  return value === null ? null : toCoreValue(type, value)
}
