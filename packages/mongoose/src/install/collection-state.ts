import type { AdapterHost } from '@fieldseal/core/adapter'
import type { Schema } from 'mongoose'
import type { Doc } from '../bson/documents.ts'
import type { PromoteOptions } from '../bson/driver-values.ts'
import type { BulkResult } from '../write-path/bulk-turns.ts'
import type { RewrapWriter } from '../record-source/compare-and-set.ts'
import type { StoredModel } from '../path-graph/stored-model.ts'

/** What the plugin was given. */
export interface PluginSettings {
  readonly host: AdapterHost
  readonly tenantBy: string | undefined
  readonly guard: GuardMode
}
export type GuardMode = 'enforce' | 'audit' | 'off'

/**
 * The driver's collection without our overrides, through Mongoose's buffering and debug log. Options pass through as the
 * caller gave them, so they are not looked at here.
 * https://mongodb.github.io/node-mongodb-native/7.0/classes/Collection.html
 */
export interface RawCollection {
  find(filter: Doc, options: unknown): unknown
  findOne(filter: Doc, options: unknown): Promise<Doc | null>
  aggregate(pipeline: readonly Doc[], options: unknown): unknown
  insertOne(document: Doc, options: unknown): Promise<unknown>
  insertMany(documents: readonly Doc[], options: unknown): Promise<unknown>
  updateOne(filter: Doc, update: unknown, options: unknown): Promise<WriteResult>
  updateMany(filter: Doc, update: unknown, options: unknown): Promise<WriteResult>
  replaceOne(filter: Doc, replacement: Doc, options: unknown): Promise<WriteResult>
  deleteOne(filter: Doc, options: unknown): Promise<unknown>
  deleteMany(filter: Doc, options: unknown): Promise<unknown>
  findOneAndUpdate(filter: Doc, update: unknown, options: unknown): Promise<ModifyResult>
  findOneAndReplace(filter: Doc, replacement: Doc, options: unknown): Promise<ModifyResult>
  findOneAndDelete(filter: Doc, options: unknown): Promise<ModifyResult>
  bulkWrite(operations: readonly unknown[], options: unknown): Promise<BulkResult>
  countDocuments(filter: Doc, options: unknown): Promise<number>
  distinct(key: string, filter: Doc, options: unknown): Promise<unknown[]>
  createIndex(keys: unknown, options: unknown): Promise<string>
  createIndexes(specs: readonly unknown[], options: unknown): Promise<string[]>
  listIndexes(options: unknown): unknown
  options(): Promise<Doc>
}
export interface WriteResult {
  readonly matchedCount: number
  readonly upsertedCount: number
}
/** What `findOneAnd…` gives with `includeResultMetadata`. */
export interface ModifyResult {
  readonly value: Doc | null
  readonly lastErrorObject?: Doc
}

/** One intercepted collection object of Mongoose. */
export interface CollectionState {
  readonly name: string
  readonly host: AdapterHost
  readonly raw: RawCollection
  readonly writer: RewrapWriter
  readonly schemas: Set<Schema>
  /** Text is compared under a collation unless a query says otherwise. */
  readonly collation: () => boolean
  /** How many servers must have a write before it is answered, unless a write says otherwise; 0: it is not answered. */
  readonly writeConcern: () => unknown
  /** How the connection reads BSON where a query does not say. */
  readonly promote: () => PromoteOptions
  /** What its schemas declare now; a schema may grow after its model was compiled. @throws FieldsealError ERR_CONFIG_INVALID */
  readonly model: () => StoredModel
  /** The model of another collection of the same connection, if it has encrypted documents. */
  readonly neighbour: (collection: string) => StoredModel | undefined
  /** Refuses to send anything while the guard is not in place. @throws FieldsealError ERR_CONFIG_INVALID */
  readonly assertGuarded: () => void
}
