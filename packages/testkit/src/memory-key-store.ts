import {
  FieldsealError,
  keyspaceOf,
  recordFromJson,
  recordToJson,
  slotOf,
  type KeyStore,
  type KeyStoreRecord,
} from '@fieldseal/core/adapter'

/** A key store for tests: in memory, with the compare-and-set and unique slots of a real one. Losing it loses all data. */
export interface MemoryKeyStore extends KeyStore {
  /** How often each operation was asked for. */
  readonly calls: { find: number; load: number; insert: number; update: number }
  /** Every operation fails as if the database did not answer. */
  disconnect(): void
  restore(): void
  /** The stored records as an attacker with database access sees them: JSON text by id. May be changed. */
  readonly rows: Map<string, string>
}

export function memoryKeyStore(): MemoryKeyStore {
  const rows = new Map<string, string>()
  const calls = { find: 0, load: 0, insert: 0, update: 0 }
  let connected = true

  function answer(operation?: keyof typeof calls): void {
    if (operation !== undefined) calls[operation]++
    if (!connected) throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE')
  }
  // Parsed on every read: callers get copies, as from a database.
  const records = (): KeyStoreRecord[] => [...rows.values()].map(recordFromJson)

  return {
    calls,
    rows,
    disconnect: () => void (connected = false),
    restore: () => void (connected = true),
    async find(ids) {
      answer('find')
      return records().filter((record) => ids.includes(record.id))
    },
    async load(keyspaces) {
      answer('load')
      return records().filter((record) =>
        keyspaces.some(
          (ref) => ref.app === record.app && ref.tenant === record.tenant && ref.keyspace === keyspaceOf(record),
        ),
      )
    },
    async insert(record) {
      answer('insert')
      if (rows.has(record.id) || records().some((other) => slotOf(other) === slotOf(record))) return 'exists'
      rows.set(record.id, recordToJson(record))
      return 'inserted'
    },
    async update(record) {
      answer('update')
      const stored = rows.get(record.id)
      if (stored === undefined || recordFromJson(stored).rowVersion !== record.rowVersion - 1) return 'changed'
      rows.set(record.id, recordToJson(record))
      return 'updated'
    },
    async *list({ app, tenant, cmk }) {
      answer()
      for (const record of records()) {
        if (record.app !== app || (tenant !== undefined && record.tenant !== tenant)) continue
        if (cmk === undefined || urisOf(record).includes(cmk)) yield record
      }
    },
  }
}

function urisOf(record: KeyStoreRecord): readonly string[] {
  if (record.kind === 'kek') return record.wraps.map(({ uri }) => uri)
  return record.kind === 'direct' ? [record.uri] : []
}
