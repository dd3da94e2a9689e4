import type { BlindIndex, IndexToken } from '@fieldseal/core/adapter'
import { tokenSlot } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import type { Doc } from '../bson/documents.ts'
import { configError } from '../encrypted-path/config-error.ts'
import { SLOT_NAMES } from '../query-rewrite/token-terms.ts'
import { markReaches } from './path-node.ts'
import { KEYS_PATH, type StoredModel } from './stored-model.ts'
import { walkPath } from './walk-path.ts'

/** Where documents keep the tokens of several paths together, by index: `{ b: odd epochs, n: even epochs }`. */
export const COMPOUNDS_NAME = 't'

/** The indexes over several paths. */
export function compoundsOf({ map }: Pick<StoredModel, 'map'>): readonly BlindIndex[] {
  return map.indexes.filter(({ fields }) => fields.length > 1)
}

/** Where the tokens of an index over several paths stand. */
export function compoundPath({ id }: Pick<BlindIndex, 'id'>): string {
  return `${KEYS_PATH}.${COMPOUNDS_NAME}.${id}`
}

/** Makes those places known, so that nothing but tokens is compared with them or written there, and nobody reads them. */
export function growCompounds(model: StoredModel): void {
  const compounds = compoundsOf(model)
  if (compounds.length === 0) return
  const keys = model.root.grow(KEYS_PATH)
  for (const index of compounds) keys.grow(COMPOUNDS_NAME).grow(index.id).tokensOf = index
  markReaches(keys)
}

/** What stands there; undefined for no token. */
export function compoundLeaf(tokens: readonly IndexToken[] = []): Doc | undefined {
  const { Binary } = mongo
  const slots = tokens.map((token) => [SLOT_NAMES[tokenSlot(token)], new Binary(token, Binary.SUBTYPE_USER_DEFINED)])
  return slots.length === 0 ? undefined : Object.fromEntries(slots)
}

/**
 * Refuses indexes over what a document may hold more than once, or an update may write without naming it.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID naming index or path
 */
export function assertCompounds(model: StoredModel): void {
  for (const { id, fields } of compoundsOf(model)) {
    if (/[.$\0]/.test(id)) throw configError(id, 'compoundIndexes', 'an id without dots and dollars: it names a path')
    for (const { path, type } of fields) {
      const { node, spread, positional, mapKeys } = walkPath(model.root, path)
      const isOne = node?.field?.path === path && !spread && !positional && mapKeys.length === 0
      if (!isOne || node.element !== undefined || node.values !== undefined || node.plainName !== undefined)
        throw configError(path, `compoundIndexes.${id}`, 'a path of the document, outside of arrays and Maps')
      if (type === 'bson')
        throw configError(path, `compoundIndexes.${id}`, 'a text, number, boolean, bigint, date or Buffer')
    }
  }
}
