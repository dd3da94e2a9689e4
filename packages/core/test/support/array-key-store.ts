import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import type { KeyStore } from '../../src/keys/key-store.ts'
import { recordFromJson, recordToJson } from '../../src/keys/record-json.ts'
import {
  type IndexRecord,
  type KekRecord,
  keyspaceOf,
  type KeyStoreRecord,
  type RecordId,
  slotOf,
} from '../../src/keys/records.ts'

export type StoreOperation = 'find' | 'load' | 'insert' | 'update' | 'list'

/** A key store in memory: records as JSON text, as a database would hold them. */
export interface ArrayKeyStore extends KeyStore {
  readonly rows: Map<string, string>
  readonly calls: StoreOperation[]
  down: boolean
  /** Runs before each answer; what it throws is the answer. */
  before: ((operation: StoreOperation) => Promise<void> | void) | undefined
  /** The stored records. */
  records(): readonly KeyStoreRecord[]
  keks(): readonly KekRecord[]
  indexes(): readonly IndexRecord[]
  /** Replaces a stored record as an attacker with database access would. */
  tamper(id: RecordId, change: object): void
}

export function arrayKeyStore(rows = new Map<string, string>()): ArrayKeyStore {
  /** What was parsed before, to filter by; what is given out is parsed anew, as from a database. */
  const parsed = new Map<string, KeyStoreRecord>()
  function peek(text: string): KeyStoreRecord {
    const known = parsed.get(text) ?? recordFromJson(text)
    parsed.set(text, known)
    return known
  }
  const where = (wanted: (record: KeyStoreRecord) => boolean) =>
    [...rows.values()].filter((text) => wanted(peek(text))).map(recordFromJson)
  const all = () => where(() => true)
  async function answer(operation: StoreOperation): Promise<void> {
    store.calls.push(operation)
    await store.before?.(operation)
    if (store.down) throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE')
  }
  const store: ArrayKeyStore = {
    rows,
    calls: [],
    down: false,
    before: undefined,
    records: all,
    keks: () => all().filter((record) => record.kind === 'kek'),
    indexes: () => all().filter((record) => record.kind === 'index'),
    tamper(id, change) {
      const text = rows.get(id)
      if (text === undefined) throw new Error('no such record')
      rows.set(id, recordToJson({ ...recordFromJson(text), ...change }))
    },
    async find(ids) {
      await answer('find')
      return where(({ id }) => ids.includes(id))
    },
    async load(refs) {
      await answer('load')
      return where((r) =>
        refs.some((ref) => ref.app === r.app && ref.tenant === r.tenant && ref.keyspace === keyspaceOf(r)),
      )
    },
    async insert(record) {
      await answer('insert')
      if (rows.has(record.id) || where((other) => slotOf(other) === slotOf(record)).length > 0) return 'exists'
      rows.set(record.id, recordToJson(record))
      return 'inserted'
    },
    async update(record) {
      await answer('update')
      const text = rows.get(record.id)
      if (text === undefined || recordFromJson(text).rowVersion !== record.rowVersion - 1) return 'changed'
      rows.set(record.id, recordToJson(record))
      return 'updated'
    },
    async *list({ app, tenant }) {
      await answer('list')
      for (const record of all())
        if (record.app === app && (tenant === undefined || record.tenant === tenant)) yield record
    },
  }
  return store
}
