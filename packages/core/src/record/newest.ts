import type { RecordId } from '../context/record-id.ts'
import { directWrapOf } from '../field/direct-value.ts'
import type { DirectKeys } from '../keyring/direct-keys.ts'
import { keksOf } from '../keyring/kek-selection.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { KeyspaceRef } from '../keys/key-store.ts'
import type { KeyMode } from './options.ts'
import type { RowWrap } from './parse-row.ts'
import type { Row } from './ports.ts'

/** What a new wrap of a row would be made by. */
export interface Newest {
  readonly layout: KeyMode
  /** The KEK, or the direct key record. */
  readonly id: RecordId
  /** Only in `direct`: the CMK version, as far as this process has seen it. */
  readonly version?: string | undefined
  /** KEKs whose DEKs may be known to an attacker: a rewrap would only hide them from a re-encryption. */
  readonly compromised: ReadonlySet<RecordId>
}

export interface NewestDeps {
  readonly app: string
  readonly keyrings: Keyrings
  readonly directKeys: DirectKeys
}

/** Undefined where the key would have to be made first. */
export async function newestOf(
  { map, facts: { tenant, keyspace } }: Row<unknown>,
  via: unknown,
  { app, keyrings, directKeys }: NewestDeps,
): Promise<Newest | undefined> {
  const ref = { app, tenant, keyspace }
  const direct = map.mode === 'direct'
  const id = await (direct ? directKeys.newestId(ref, via) : keyrings.newestId(ref, via))
  if (id === undefined) return undefined
  // Read after the newest id: whoever knows a new KEK knows what it was made to replace.
  const compromised = await compromisedIds(ref, via, keyrings)
  return direct
    ? { layout: 'direct', id, version: directKeys.versionOf(id), compromised }
    : { layout: 'kek', id, compromised }
}

/** KEKs of a keyspace whose values are left for a re-encryption. */
export async function compromisedIds(
  ref: KeyspaceRef,
  via: unknown,
  keyrings: Keyrings,
): Promise<ReadonlySet<RecordId>> {
  const records = keksOf(await keyrings.snapshot(ref, 'read', via), 'wrap')
  return new Set(records.filter(({ compromised }) => compromised).map(({ id }) => id))
}

/**
 * Whether a wrap is to be made anew. One that is bound to no row stays what it is in a model of mode `direct`: a lazy
 * binding would certify a swapped cell.
 */
export function isOutdated({ layout, kekId, rowBound, envelope }: RowWrap, newest: Newest): boolean {
  if (newest.compromised.has(kekId)) return false
  if (newest.layout === 'direct' && !rowBound) return false
  if (layout !== newest.layout || kekId !== newest.id) return true
  if (layout === 'kek' || newest.version === undefined) return false
  const { label } = directWrapOf(envelope)
  return label !== '' && label !== newest.version
}
