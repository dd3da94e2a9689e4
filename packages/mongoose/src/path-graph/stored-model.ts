import type { FieldPath, RecordMap, RowKeyKind } from '@fieldseal/core/adapter'
import type { PathNode } from './path-node.ts'

/** A column that says whose key a document needs. */
export interface FactPath {
  readonly path: FieldPath
  readonly kind: RowKeyKind
}

/** The encrypted documents of one collection. */
export interface StoredModel {
  readonly map: RecordMap
  readonly root: PathNode
  /** `_id`, tenant and keyspace, as far as the model has them. */
  readonly facts: readonly FactPath[]
  readonly tenant: FactPath | undefined
  readonly keyspace: FactPath | undefined
  readonly id: FactPath
  /** Keys of the indexes that the schemas declare, by name; filled when token indexes are added. */
  readonly indexNames: Map<string, Readonly<Record<string, unknown>>>
}

/** Where each document keeps a superset of the ids of the KEKs it may need. */
export const KEYS_PATH = '__fieldseal'
