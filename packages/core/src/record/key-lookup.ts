import type { Use } from '../cache/revalidating-cache.ts'
import type { KekId } from '../context/record-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import type { KeyspaceRef } from '../keys/key-store.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import type { RowFacts } from './ports.ts'

/** The outcome of looking for one KEK: a batch may hold rows that can be opened beside rows that cannot. */
export type FoundKek = { readonly kek: LiveKek } | { readonly error: unknown }

/** The KEKs of one batch, each looked for once and held until the batch is done. */
export interface KeyLookup {
  want(facts: RowFacts, id: KekId): void
  /** Looks for all that was wanted, at the same time, and again for what was purged since. */
  settle(): Promise<void>
  found(facts: RowFacts, id: KekId): FoundKek
  release(): void
}

interface Sought {
  readonly ref: KeyspaceRef
  readonly id: KekId
  found?: FoundKek
  release?: () => void
}

const MAX_ROUNDS = 3

export function createKeyLookup(app: string, keyrings: Keyrings, use: Use, via: unknown): KeyLookup {
  const sought = new Map<string, Sought>()
  let last: Sought | undefined // rows of a batch that follow each other mostly share a KEK

  /** What was wanted for these facts and this id. */
  function soughtFor({ tenant, keyspace }: RowFacts, id: KekId): Sought | undefined {
    if (last?.id === id && last.ref.tenant === tenant && last.ref.keyspace === keyspace) return last
    return (last = sought.get(nameOf(tenant, keyspace, id)))
  }

  const isOpen = ({ found }: Sought) => found === undefined || ('kek' in found && found.kek.key.disposed)

  async function look(one: Sought): Promise<void> {
    one.release?.()
    try {
      const kek = (await keyrings.toUnwrap(one.ref, [one.id], use, via)).get(one.id)
      if (kek?.record.purpose !== 'wrap') throw notFound(one.ref.tenant, one.id) // an index KEK never opens a value
      one.found = { kek }
      one.release = kek.hold()
    } catch (error) {
      one.found = { error }
    }
  }

  return {
    want(facts, id) {
      if (soughtFor(facts, id) !== undefined) return
      const { tenant, keyspace } = facts
      last = { ref: { app, tenant, keyspace }, id }
      sought.set(nameOf(tenant, keyspace, id), last)
    },
    async settle() {
      // While one key is waited for, another may be purged.
      for (let round = 0; round < MAX_ROUNDS; round++) {
        const open = [...sought.values()].filter(isOpen)
        if (open.length === 0) return
        await Promise.all(open.map(look))
      }
    },
    found(facts, id) {
      return soughtFor(facts, id)?.found ?? { error: notFound(facts.tenant, id) }
    },
    release() {
      for (const { release } of sought.values()) release?.()
    },
  }
}

function notFound(tenant: string, kekId: KekId): FieldsealError {
  return new FieldsealError('ERR_KEY_NOT_FOUND', { tenant, kekId })
}

/** Rows are sealed and opened for the context's tenant alone; a system context takes each row's own. */
export function assertOwnRow(model: string, facts: RowFacts, { tenant }: OperationContext): void {
  if (typeof tenant === 'string' && tenant !== facts.tenant)
    throw new FieldsealError('ERR_TENANT_MISMATCH', { model, tenant })
}

function nameOf(tenant: string, keyspace: string, id: KekId): string {
  return `${tenant}\0${keyspace}\0${id}`
}
