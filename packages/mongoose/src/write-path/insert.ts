import { FieldsealError, type OperationContext } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { isDoc, plain, type Doc } from '../bson/documents.ts'
import type { CollectionState } from '../install/collection-state.ts'
import { compoundLeaf, COMPOUNDS_NAME } from '../path-graph/compound-paths.ts'
import { KEYS_PATH, type StoredModel } from '../path-graph/stored-model.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { factsOf } from '../read-path/collect-rows.ts'
import { Draft, keysOf, sealDrafts } from './draft.ts'
import { sealDocument } from './seal-value.ts'

/** A document to be written as a whole. */
export interface PreparedDocument {
  readonly draft: Draft
  /** The document to send, once the draft is sealed. */
  finish(): Doc
}

/**
 * @param id what the document's `_id` is known to be; it makes one up for a document that has none
 * @throws FieldsealError ERR_TENANT_MISMATCH, ERR_WRITE_UNSUPPORTED when the document does not say whose it is
 */
export function prepareDocument(
  given: unknown,
  model: StoredModel,
  context: OperationContext,
  id: { readonly known?: unknown; readonly makes?: boolean } = {},
): PreparedDocument {
  const document = plain(given)
  if (!isDoc(document)) throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: model.map.id, reason: 'a document' })
  const draft = new Draft(model)
  const sealed = sealDocument(document, model, draft)
  const _id = document['_id'] ?? id.known ?? (id.makes === true ? new mongo.ObjectId() : undefined)
  draft.facts = factsOf(_id === undefined ? document : { ...document, _id }, model, context)
  return {
    draft,
    finish() {
      const leaves = [...draft.compounds].flatMap(([{ id: of }, tokens]) => {
        const leaf = compoundLeaf(tokens)
        return leaf === undefined ? [] : [[of, leaf] as const]
      })
      const tokens = leaves.length === 0 ? {} : { [COMPOUNDS_NAME]: Object.fromEntries(leaves) }
      const keys = draft.kekIds.length === 0 ? {} : { [KEYS_PATH]: { ...keysOf(draft.kekIds), ...tokens } }
      if (id.makes !== true) return { ...sealed, ...keys }
      const { _id: _given, ...content } = sealed // null there would make the driver give it another
      return { _id, ...content, ...keys }
    },
  }
}

export async function insertOne(state: CollectionState, given: unknown, options: unknown): Promise<unknown> {
  const context = state.host.capture()
  const prepared = prepareDocument(given, state.model(), context, { makes: true })
  await sealDrafts([prepared.draft], state.host, context)
  const document = prepared.finish()
  keepId(given, document)
  return state.raw.insertOne(document, options)
}

export async function insertMany(state: CollectionState, given: unknown, options: unknown): Promise<unknown> {
  const context = state.host.capture()
  const model = state.model()
  if (!Array.isArray(given)) return state.raw.insertMany(given as never, options) // the driver says what is wrong
  const prepared = given.map((each: unknown) => prepareDocument(each, model, context, { makes: true }))
  await sealDrafts(
    prepared.map(({ draft }) => draft),
    state.host,
    context,
  )
  const documents = prepared.map(({ finish }) => finish())
  documents.forEach((document, at) => keepId(given[at], document))
  return state.raw.insertMany(documents, options)
}

/** The driver writes the `_id` it makes into the caller's object; ours is sent in a copy. */
export function keepId(given: unknown, sent: Doc): void {
  if (isDoc(given) && !('$__' in given) && (given['_id'] ?? undefined) === undefined) given['_id'] = sent['_id']
}

/** A document to replace whatever one document a filter meets. @throws as `prepareDocument` */
export function prepareReplacement(
  given: unknown,
  pinnedId: unknown,
  model: StoredModel,
  context: OperationContext,
): PreparedDocument {
  const document = plain(given)
  if (isDoc(document) && Object.keys(document).some((key) => key.startsWith('$')))
    refuseWrite(model.map.id, '', 'update-as-replacement', 'a replacement has no operators: use updateOne')
  return prepareDocument(document, model, context, { known: pinnedId })
}
