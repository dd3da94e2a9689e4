import type { OperationContext } from '@fieldseal/core/adapter'
import { isDoc, valueAt, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { factsOf } from '../read-path/collect-rows.ts'
import { openDocuments } from '../read-path/open-documents.ts'
import { applyEdit } from './apply-edit.ts'
import { addKeys, Draft, sealDrafts } from './draft.ts'
import type { Edit } from './plan-update.ts'
import { sealValue } from './seal-value.ts'
import {
  NOTHING,
  readOptions,
  TOUCH,
  withoutUpsert,
  type PreparedUpdate,
  type UpdateRunner,
} from './prepared-update.ts'
import { isStill } from './still.ts'
import { pinTo } from './update-facts.ts'

const MAX_ATTEMPTS = 20

/**
 * An update that needs the present plaintext: reads the document, computes the new values here, and writes them where
 * the encrypted ones are still those that were read. Another writer in between means: once more.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED for an upsert of a document that does not exist, and when others kept
 * writing the same values through 20 attempts
 */
export async function editMatched<R>(
  state: CollectionState,
  model: StoredModel,
  prepared: PreparedUpdate,
  context: OperationContext,
  runner: UpdateRunner<R>,
): Promise<R> {
  const { filter, options, edits, draft } = prepared
  const roots = [...new Set(edits.map(({ root }) => root))]
  const [first] = edits as readonly [Edit, ...Edit[]]
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const found = await state.raw.findOne(filter, {
      ...readOptions(options),
      projection: Object.fromEntries([...model.facts.map(({ path }) => path), ...roots].map((path) => [path, 1])),
    })
    if (found === null) {
      if (options['upsert'] === true)
        refuseWrite(
          model.map.id,
          first.root,
          'emulate-upsert',
          `${first.operator} has no value to begin with: set it with $setOnInsert in an upsert of its own`,
        )
      return runner.run(NOTHING, TOUCH, withoutUpsert(options))
    }
    const document: Doc = found
    const still = Object.fromEntries(roots.map((root) => [root, isStill(document, root)]))
    const row = new Draft(model, factsOf(document, model, context))
    const update = await computed(state, model, prepared, document, row, context)
    // Cells of the other operators join the same write.
    draft.facts = row.facts
    await sealDrafts([draft, row], state.host, context)
    const own = prepared.finish() as Doc // edits come from operators, never from a pipeline
    const merged = Object.fromEntries(
      ['$set', '$unset'].map((operator) => [operator, { ...operands(own, operator), ...operands(update, operator) }]),
    )
    const out = addKeys({ ...own, ...merged }, row.kekIds)
    const confined = pinTo(filter, document, model)
    const guarded = { ...confined, $and: [...((confined['$and'] as unknown[] | undefined) ?? []), still] }
    const result = await runner.run(guarded, withoutEmpty(out), withoutUpsert(options))
    if (runner.matched(result) > 0) return result
  }
  return refuseWrite(
    model.map.id,
    first.root,
    'emulate-contention',
    `others kept changing it through ${MAX_ATTEMPTS} attempts: try again later`,
  )
}

/** `$set` of the new values, `$unset` of those that the edits removed. */
async function computed(
  state: CollectionState,
  model: StoredModel,
  { edits }: PreparedUpdate,
  document: Doc,
  row: Draft,
  context: OperationContext,
): Promise<Doc> {
  const opening = { host: state.host, context, root: model.root, promote: {}, sought: new Map(), writer: undefined }
  const [plaintext = {}] = await openDocuments([structuredCopy(document)], opening)
  const [set, unset]: [Doc, Doc] = [{}, {}]
  for (const [root, ofRoot] of Map.groupBy(edits, (edit) => edit.root)) {
    const [{ node, mapKeys }] = ofRoot as [Edit, ...Edit[]]
    const value = ofRoot.reduce((present, edit) => applyEdit(present, edit, model.map.id), valueAt(plaintext, root))
    if (value === undefined && node.field?.encryptNull !== true) unset[root] = 1
    else sealValue(value ?? null, node, mapKeys, { holder: set, key: root }, row)
  }
  return { $set: set, ...(Object.keys(unset).length === 0 ? {} : { $unset: unset }) }
}

/** Containers copied, BSON values shared: opening replaces leaves, it never changes them. */
function structuredCopy(value: Doc): Doc {
  const copy = (each: unknown): unknown => {
    if (Array.isArray(each)) return each.map(copy)
    return isDoc(each) ? Object.fromEntries(Object.entries(each).map(([key, child]) => [key, copy(child)])) : each
  }
  return copy(value) as Doc // a document's copy is one
}

function operands(update: Doc, operator: string): Doc {
  const given = update[operator]
  return isDoc(given) ? given : {}
}

/** The server refuses an operator without paths. */
function withoutEmpty(update: Doc): Doc {
  return Object.fromEntries(
    Object.entries(update).filter(([, given]) => !isDoc(given) || Object.keys(given).length > 0),
  )
}
