import { dispositionOf } from '../errors/fieldseal-error.ts'
import { directWrapOf } from '../field/direct-value.ts'
import type { Use } from '../cache/revalidating-cache.ts'
import type { DirectDeks, LiveDek } from '../keyring/direct-deks.ts'
import { directContext, type DirectKey, type DirectKeys } from '../keyring/direct-keys.ts'
import type { CmkWrap } from '../keys/cmk.ts'
import type { RowWrap } from './parse-row.ts'
import type { Row } from './ports.ts'
import { pooled } from './pooled.ts'
import { type RowId, rowIdText } from './row-id.ts'

export interface DirectDeps {
  readonly app: string
  readonly directKeys: DirectKeys
  readonly directDeks: DirectDeks
}

/** The outcome of looking for one DEK of mode `direct`. */
export type FoundDek = { readonly dek: LiveDek; readonly key: DirectKey } | { readonly error: unknown }

/** The DEKs that the rows of one batch need of a KMS, each looked for once and held until the batch is done. */
export interface DirectLookup {
  want(row: Row<unknown>, wrap: RowWrap): void
  /** Looks for all that was wanted, some at once, and again for what was purged since. */
  settle(): Promise<void>
  found(wrap: RowWrap): FoundDek
  release(): void
}

/** Calls for one batch that may be under way at once; the credential scope has a limit of its own. */
export const CALLS_AT_ONCE = 16
const MAX_ROUNDS = 3

interface Sought {
  readonly row: Row<unknown>
  readonly wrap: RowWrap
  found?: FoundDek
  release?: () => void
}

/** @param goOn whether the batch wants to hear of every row although one has failed */
export function createDirectLookup(
  { app, directKeys, directDeks }: DirectDeps,
  { use, via, goOn }: { readonly use: Use; readonly via: unknown; readonly goOn: boolean },
): DirectLookup {
  const sought = new Map<RowWrap, Sought>()
  const keys = new Map<string, Promise<DirectKey>>()

  const isOpen = ({ found }: Sought) => found === undefined || ('dek' in found && found.dek.key.disposed)

  function keyOf({ row: { facts }, wrap: { kekId } }: Sought): Promise<DirectKey> {
    const { tenant, keyspace } = facts
    const name = `${tenant}\0${keyspace}\0${kekId}`
    let key = keys.get(name)
    if (key === undefined) {
      key = directKeys.toUnwrap({ app, tenant, keyspace }, kekId, use, via)
      keys.set(name, key)
      key.catch((error: unknown) => {
        if (dispositionOf(error) === 'revoke') directDeks.dropRecord(tenant, kekId) // no DEK outlives the word that it may not be used
      })
    }
    return key
  }

  async function look(one: Sought): Promise<void> {
    one.release?.()
    try {
      const key = await keyOf(one)
      const dek = await directDeks.get(key, wrapIn(one.wrap.envelope), rowContext(key, one.row))
      one.found = { dek, key }
      one.release = dek.hold()
    } catch (error) {
      one.found = { error }
      if (!goOn) throw error
    }
  }

  return {
    want(row, wrap) {
      if (!sought.has(wrap)) sought.set(wrap, { row, wrap })
    },
    async settle() {
      // While one DEK is waited for, another may be purged.
      for (let round = 0; round < MAX_ROUNDS; round++) {
        const open = [...sought.values()].filter(isOpen)
        if (open.length === 0) return
        keys.clear()
        // Invariant: what comes before a failure has been looked for, so that its own outcome is told first.
        await pooled(open, CALLS_AT_ONCE, look).catch((error: unknown) => {
          for (const one of open) one.found ??= { error }
        })
      }
    },
    found: (wrap) => sought.get(wrap)?.found ?? { error: new Error('never looked for') },
    release() {
      for (const { release } of sought.values()) release?.()
    },
  }
}

/** What the KMS authenticates with the DEK of a row. */
export function rowContext({ ref, record }: DirectKey, { map, facts }: Row<unknown>) {
  return directContext(ref, record.id, { model: map.id, row: rowIdText(facts.rowId as RowId) }) // checked when the row was parsed or taken
}

/** The wrap in a `direct` envelope. Its label is passed on only where it can be a version's name. */
export function wrapIn(envelope: Buffer): CmkWrap {
  const { label, blob } = directWrapOf(envelope)
  const named = /^[\x21-\x7e]{1,64}$/.test(label)
  return { blob, ...(named ? { keyVersion: label } : {}), versionEvidence: 'unknown' }
}
