import type { KekFacts, KeyStoreRecord, RecordId, StoredWrap } from '../keys/records.ts'
import type { KeyStore } from '../keys/key-store.ts'
import { answered } from './snapshots.ts'

/** A key record as the key store tells it, without key material. Its MAC was not checked: for reports and plans, not for use. */
export type KeyInfo =
  | (KekFacts & {
      readonly rowVersion: number
      readonly denial?: string
      readonly wraps: readonly Omit<StoredWrap, 'blob'>[]
    })
  | Exclude<KeyStoreRecord, { readonly kind: 'kek' | 'index' }>
  | Omit<Extract<KeyStoreRecord, { readonly kind: 'index' }>, 'mac'>

/** Walks the key records of one tenant, or of all. */
export async function* listKeyRecords(
  keyStore: KeyStore,
  app: string,
  tenant: string | undefined,
): AsyncGenerator<KeyInfo> {
  const records = keyStore.list({ app, ...(tenant === undefined ? {} : { tenant }) })[Symbol.asyncIterator]()
  for (;;) {
    const next = await answered(() => records.next(), { tenant: tenant ?? '' })
    if (next.done === true) return
    yield infoOf(next.value)
  }
}

/** One record by its id. */
export async function findKeyRecord(keyStore: KeyStore, app: string, id: RecordId): Promise<KeyInfo | undefined> {
  const found = await answered(() => keyStore.find([id]), { tenant: '' })
  const record = found.find((one) => one.id === id && one.app === app)
  return record && infoOf(record)
}

function infoOf(record: KeyStoreRecord): KeyInfo {
  if (record.kind === 'direct') return record
  const { mac: _mac, ...facts } = record
  if (facts.kind === 'index') return facts
  return { ...facts, wraps: facts.wraps.map(({ blob: _blob, ...wrap }) => wrap) }
}
