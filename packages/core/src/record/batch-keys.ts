import type { IndexKeys, LiveIndexKey } from '../blind-index/index-keys.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import { built } from './blind-index-of-model.ts'
import type { BlindIndex, Row, RowFacts } from './ports.ts'

/** The keys that rows to be sealed need, each named once. */
export interface WantedKeys {
  readonly keyspaces: readonly Pick<RowFacts, 'tenant' | 'keyspace'>[]
  readonly indexes: readonly { readonly index: BlindIndex; readonly tenant: string }[]
}

/** Keys that the rows of a batch need, each resolved once and held until the batch is done. */
export interface BatchKeys {
  kekOf(row: Row<unknown>): LiveKek
  indexKeysOf(index: BlindIndex, tenant: string): readonly LiveIndexKey[]
  /** False when one of them was purged. */
  alive(): boolean
  release(): void
}

export interface BatchKeyDeps {
  readonly app: string
  readonly keyrings: Keyrings
  readonly indexKeys: IndexKeys
}

export function wantedBy(rows: readonly Row<unknown>[]): WantedKeys {
  const keyspaces = new Map<string, WantedKeys['keyspaces'][number]>()
  const indexes = new Map<BlindIndex, Set<string>>()
  for (const { map, facts, cells } of rows) {
    const name = nameOf(facts)
    if (map.mode === 'kek' && !keyspaces.has(name)) keyspaces.set(name, facts)
    for (const index of map.indexes) {
      if (!index.fields.every((field) => cells.some((cell) => cell.field === field))) continue
      const tenants = indexes.get(index)
      if (tenants === undefined) indexes.set(index, new Set([facts.tenant]))
      else tenants.add(facts.tenant)
    }
  }
  return {
    keyspaces: [...keyspaces.values()],
    indexes: [...indexes].flatMap(([index, tenants]) => [...tenants].map((tenant) => ({ index, tenant }))),
  }
}

export async function resolveKeys(
  { keyspaces, indexes }: WantedKeys,
  via: unknown,
  { app, keyrings, indexKeys }: BatchKeyDeps,
): Promise<BatchKeys> {
  const keks = new Map<string, LiveKek>()
  const live = new Map<BlindIndex, Map<string, readonly LiveIndexKey[]>>()
  const held: { readonly kek: LiveKek; readonly release: () => void }[] = []
  const hold = (kek: LiveKek) => void held.push({ kek, release: kek.hold() })
  const release = () => {
    for (const one of held) one.release()
  }
  try {
    for (const { tenant, keyspace } of keyspaces) {
      const kek = await keyrings.toWrap({ app, tenant, keyspace }, 'wrap', via)
      hold(kek)
      keks.set(nameOf({ tenant, keyspace }), kek)
    }
    for (const { index, tenant } of indexes) {
      const keys = await indexKeys.live(tenant, built.index(index).description, 'write', via)
      for (const { kek } of keys) hold(kek)
      live.set(index, (live.get(index) ?? new Map<string, readonly LiveIndexKey[]>()).set(tenant, keys))
    }
  } catch (error) {
    release()
    throw error
  }
  return {
    kekOf({ facts }) {
      const kek = keks.get(nameOf(facts))
      if (kek === undefined) throw new FieldsealError('ERR_KEY_NOT_FOUND', { tenant: facts.tenant })
      return kek
    },
    indexKeysOf: (index, tenant) => live.get(index)?.get(tenant) ?? [],
    alive: () => held.every(({ kek }) => !kek.key.disposed),
    release,
  }
}

function nameOf({ tenant, keyspace }: Pick<RowFacts, 'tenant' | 'keyspace'>): string {
  return `${tenant}\0${keyspace}`
}
