import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import type { KeyStore } from '../../src/keys/key-store.ts'
import { recordFromJson, recordToJson } from '../../src/keys/record-json.ts'
import { keyspaceOf, slotOf, type KeyStoreRecord } from '../../src/keys/records.ts'

/** A key store in memory: records as JSON text, as a database would hold them. */
export interface ArrayKeyStore extends KeyStore {
  readonly rows: Map<string, string>
  reads: number
  down: boolean
  /** Replaces a stored record as an attacker with database access would. */
  tamper(id: string, change: (record: KeyStoreRecord) => KeyStoreRecord): void
}

export function arrayKeyStore(): ArrayKeyStore {
  const rows = new Map<string, string>()
  const all = () => [...rows.values()].map(recordFromJson)
  function answer(): void {
    if (store.down) throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE')
  }
  const store: ArrayKeyStore = {
    rows,
    reads: 0,
    down: false,
    tamper(id, change) {
      const text = rows.get(id)
      if (text !== undefined) rows.set(id, recordToJson(change(recordFromJson(text))))
    },
    async find(ids) {
      answer()
      store.reads++
      return all().filter((record) => ids.includes(record.id))
    },
    async load(refs) {
      answer()
      store.reads++
      return all().filter((r) =>
        refs.some((ref) => ref.app === r.app && ref.tenant === r.tenant && ref.keyspace === keyspaceOf(r)),
      )
    },
    async insert(record) {
      answer()
      if (rows.has(record.id) || all().some((other) => slotOf(other) === slotOf(record))) return 'exists'
      rows.set(record.id, recordToJson(record))
      return 'inserted'
    },
    async update(record) {
      answer()
      const text = rows.get(record.id)
      if (text === undefined || recordFromJson(text).rowVersion !== record.rowVersion - 1) return 'changed'
      rows.set(record.id, recordToJson(record))
      return 'updated'
    },
    async *list({ app, tenant }) {
      answer()
      for (const record of all())
        if (record.app === app && (tenant === undefined || record.tenant === tenant)) yield record
    },
  }
  return store
}
