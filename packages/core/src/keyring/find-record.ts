import type { Clock } from '../cache/clock.ts'
import type { RecordId } from '../context/record-id.ts'
import type { KeyspaceRef } from '../keys/key-store.ts'
import type { KeyStoreRecord } from '../keys/records.ts'
import type { Snapshot, Snapshots } from './snapshots.ts'

/** Finds records that another process may just have made, without asking again and again for ids that nobody knows. */
export interface RecordFinder {
  /** The record of a keyspace, undefined when the key store has none with this id. */
  find(ref: KeyspaceRef, id: RecordId, snapshot: Snapshot, via: unknown): Promise<KeyStoreRecord | undefined>
  forget(tenant: string): void
}

const UNKNOWN_ID_MS = 10_000

export function createRecordFinder({
  snapshots,
  clock,
  maxEntries,
}: {
  readonly snapshots: Snapshots
  readonly clock: Clock
  readonly maxEntries: number
}): RecordFinder {
  const unknownIds = new Map<string, number>()
  return {
    async find(ref, id, snapshot, via) {
      const record = snapshot.records.get(id)
      if (record !== undefined) return record
      const name = `${ref.tenant}\0${ref.keyspace}\0${id}`
      const askedAt = unknownIds.get(name)
      if (askedAt !== undefined && clock.monotonic() - askedAt < UNKNOWN_ID_MS) return undefined
      const again = (await snapshots.reload(ref, via)).records.get(id)
      if (again !== undefined) return again
      if (unknownIds.size >= maxEntries) unknownIds.clear()
      unknownIds.set(name, clock.monotonic())
      return undefined
    },
    forget(tenant) {
      for (const name of unknownIds.keys()) if (name.startsWith(`${tenant}\0`)) unknownIds.delete(name)
    },
  }
}
