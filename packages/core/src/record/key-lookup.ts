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

/** The KEKs of one batch, each looked for once. */
export interface KeyLookup {
  want(facts: RowFacts, id: KekId): void
  /** Looks for all that was wanted and is not at hand, at the same time. */
  settle(): Promise<void>
  found(facts: RowFacts, id: KekId): FoundKek
}

export function createKeyLookup(app: string, keyrings: Keyrings, use: Use, via: unknown): KeyLookup {
  const wanted = new Map<string, { readonly ref: KeyspaceRef; readonly id: KekId }>()
  const settled = new Map<string, FoundKek>()

  return {
    want({ tenant, keyspace }, id) {
      const name = nameOf(tenant, keyspace, id)
      const known = settled.get(name)
      // A key may have been purged while the event loop turned: it is asked for again.
      if (known === undefined || ('kek' in known && known.kek.key.disposed))
        wanted.set(name, { ref: { app, tenant, keyspace }, id })
    },
    async settle() {
      const asked = [...wanted]
      wanted.clear()
      await Promise.all(
        asked.map(async ([name, { ref, id }]) => {
          try {
            const kek = (await keyrings.toUnwrap(ref, [id], use, via)).get(id)
            settled.set(
              name,
              kek === undefined
                ? { error: new FieldsealError('ERR_KEY_NOT_FOUND', { tenant: ref.tenant, kekId: id }) }
                : { kek },
            )
          } catch (error) {
            settled.set(name, { error })
          }
        }),
      )
    },
    found({ tenant, keyspace }, id) {
      return (
        settled.get(nameOf(tenant, keyspace, id)) ?? {
          error: new FieldsealError('ERR_KEY_NOT_FOUND', { tenant, kekId: id }),
        }
      )
    },
  }
}

/** Rows are sealed and opened for the context's tenant alone; a system context takes each row's own. */
export function assertOwnRow(model: string, facts: RowFacts, { tenant }: OperationContext): void {
  if (typeof tenant === 'string' && tenant !== facts.tenant)
    throw new FieldsealError('ERR_TENANT_MISMATCH', { model, tenant })
}

function nameOf(tenant: string, keyspace: string, id: KekId): string {
  return `${tenant}\0${keyspace}\0${id}`
}
