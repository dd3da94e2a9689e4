import type { RecordId } from '../context/record-id.ts'
import { directWrapOf } from '../field/direct-value.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { DirectKeys } from '../keyring/direct-keys.ts'
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
  return direct ? { layout: 'direct', id, version: directKeys.versionOf(id) } : { layout: 'kek', id }
}

/**
 * Whether a wrap is to be made anew. One that is bound to no row stays what it is in a model of mode `direct`: a lazy
 * binding would certify a swapped cell.
 */
export function isOutdated({ layout, kekId, rowBound, envelope }: RowWrap, newest: Newest): boolean {
  if (newest.layout === 'direct' && !rowBound) return false
  if (layout !== newest.layout || kekId !== newest.id) return true
  if (layout === 'kek' || newest.version === undefined) return false
  const { label } = directWrapOf(envelope)
  return label !== '' && label !== newest.version
}
