import type { KeyStoreRecord, RecordId } from './records.ts'

/** Names the records of one keyspace of one tenant. */
export interface KeyspaceRef {
  readonly app: string
  readonly tenant: string
  readonly keyspace: string
}

/**
 * Where key records live: a table or collection of the user's own database, on a connection of its own.
 *
 * Losing records loses data, so an implementation reports `inserted` or `updated` only for what is durable.
 * Every failure to answer is thrown as a FieldsealError `ERR_KEY_STORE_UNAVAILABLE`.
 */
export interface KeyStore {
  /** The records with these ids, in any order; unknown ids are left out. Reads the primary, never a replica. */
  find(ids: readonly RecordId[]): Promise<readonly KeyStoreRecord[]>
  /** All records of these keyspaces: all kinds, all versions, tombstones too. Reads the primary, never a replica. */
  load(keyspaces: readonly KeyspaceRef[]): Promise<readonly KeyStoreRecord[]>
  /**
   * Adds a record, unless its id or its slot (`slotOf`) is taken. Never joins the caller's transaction.
   * @returns `exists` when another record has the id or the slot
   */
  insert(record: KeyStoreRecord): Promise<'inserted' | 'exists'>
  /**
   * Replaces the record with the same id whose `rowVersion` is one less than that of `record`.
   * @returns `changed` when somebody else was faster or the record is gone; nothing is written then
   */
  update(record: KeyStoreRecord): Promise<'updated' | 'changed'>
  /** Walks records in any order. `cmk` is the uri of a wrap or of a direct record. */
  list(filter: { readonly app: string; readonly tenant?: string; readonly cmk?: string }): AsyncIterable<KeyStoreRecord>
  /**
   * For engines with one connection: the same reads through the connection that `via` holds, which may be inside a
   * transaction. `insert` is present only while `via` is outside of any transaction. Absent = never needed.
   */
  joining?(via: unknown): Pick<KeyStore, 'find' | 'load'> & Partial<Pick<KeyStore, 'insert'>>
  close?(): Promise<void>
}
