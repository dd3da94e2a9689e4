import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { KekId, KekRecord } from '../keys/records.ts'
import { keyspaceOf } from '../keys/records.ts'
import type { SecretKey } from '../keys/secret-key.ts'
import { assertGenuine, isKek } from './kek-selection.ts'
import { kekContext } from './kek-wraps.ts'
import type { KeyringSettings } from './keyrings.ts'
import { createLiveKek, type LiveKek } from './live-kek.ts'
import { PARENT_PROVIDER, unwrapUnderParent } from './parent-wrap.ts'
import { answered } from './snapshots.ts'

/** Opens KEKs whatever state they are in, to change their records: a key that is retired can be brought back. Never for values. */
export interface KekOpener extends Disposable {
  /**
   * The key of a record whose facts were found genuine; the caller disposes of it.
   * @throws FieldsealError ERR_KEY_ERASED for a tombstone, ERR_KEY_RECORD_INVALID, and what the CMKs answer
   */
  open(record: KekRecord): Promise<SecretKey>
}

export function createKekOpener(settings: KeyringSettings): KekOpener {
  const { keyStore, tenantKeys, wraps } = settings
  const parents = new Map<KekId, Promise<LiveKek>>()

  async function open(record: KekRecord): Promise<SecretKey> {
    const { app, tenant } = record
    if (record.wraps.length === 0) throw new FieldsealError('ERR_KEY_ERASED', { tenant, kekId: record.id })
    const ref = { app, tenant, keyspace: keyspaceOf(record) }
    const key = record.parent === undefined ? await openByCmk(record) : await openByParent(record, record.parent)
    try {
      assertGenuine(ref, record, key) // Invariant: no MAC is renewed that did not hold.
      return key
    } catch (error) {
      key[Symbol.dispose]()
      throw error
    }
  }

  async function openByCmk(record: KekRecord): Promise<SecretKey> {
    const keys = await tenantKeys.get(record.tenant, 'write')
    const { key } = await wraps.unwrap(record, kekContext(record, record.purpose, record.id), keys, undefined)
    return key
  }

  async function openByParent(record: KekRecord, id: KekId): Promise<SecretKey> {
    let opening = parents.get(id)
    if (opening === undefined) parents.set(id, (opening = parentOf(record, id)))
    const parent = await opening
    const wrap = record.wraps.find(({ provider, uri }) => provider === PARENT_PROVIDER && uri === id)
    if (wrap === undefined) throw invalid(record)
    return unwrapUnderParent(parent, record, wrap.blob)
  }

  async function parentOf(child: KekRecord, id: KekId): Promise<LiveKek> {
    const { tenant } = child
    const found = (await answered(() => keyStore.find([id]), { tenant })).find((record) => record.id === id)
    // A parent has no parent: records that name each other could be followed for ever.
    if (found === undefined || !isKek(found) || found.tenant !== tenant || found.parent !== undefined)
      throw invalid(child)
    const key = await open(found)
    const { policy } = await tenantKeys.get(tenant, 'write')
    return createLiveKek(key, { record: found, legsCheckedAt: new Map(), policy }, settings)
  }

  return {
    open,
    [Symbol.dispose]() {
      for (const parent of parents.values())
        void parent.then(
          (kek) => kek[Symbol.dispose](),
          () => undefined, // told to whoever asked for it
        )
      parents.clear()
    },
  }
}

function invalid({ tenant, id }: KekRecord): FieldsealError {
  return new FieldsealError('ERR_KEY_RECORD_INVALID', { tenant, kekId: id })
}
