import { createHash } from 'node:crypto'
import { lp } from '../bytes/lp.ts'
import type { Clock } from '../cache/clock.ts'
import { strictest } from '../cache/options.ts'
import { createRevalidatingCache } from '../cache/revalidating-cache.ts'
import { contextBytes, type EncryptionContext } from '../context/encryption-context.ts'
import type { RecordId } from '../context/record-id.ts'
import { dispositionOf, FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { CmkWrap } from '../keys/cmk.ts'
import type { SecretKey } from '../keys/secret-key.ts'
import type { DirectKey, DirectKeys } from './direct-keys.ts'
import { createHolding, type Holding } from './holding.ts'
import type { ResolvedTenantKeys, TenantKeyring } from './tenant-keys.ts'

/** A DEK that a CMK has unwrapped, in memory. */
export interface LiveDek extends Holding, Disposable {
  readonly key: SecretKey
}

/**
 * DEKs of mode `direct` in this process: each blob is unwrapped once per `validForMs`, whoever waits, and never used
 * beyond that. No refresh, nothing stale.
 */
export interface DirectDeks {
  get(key: DirectKey, wrap: CmkWrap, context: EncryptionContext): Promise<LiveDek>
  /** Drops a tenant's DEKs and remembered denials. */
  purge(tenant: string): void
  /** Drops the DEKs of one direct key record. */
  dropRecord(tenant: string, id: RecordId): void
  /** Drops the DEKs whose name (tenant, record, digest, separated by U+0000) begins so; those under way are not cached any more. */
  drop(prefix: string): void
  /** Zeroes everything; nothing is cached afterwards. */
  close(): void
}

export interface DirectDekSettings {
  readonly directKeys: DirectKeys
  readonly tenantKeys: TenantKeyring
  readonly clock: Clock
  readonly maxEntries: number
  /** A CMK denied: the tenant's DEKs are gone, `dropped` when there were any; whatever else it opened is to be asked for again. */
  readonly onDenied: (key: DirectKey, error: FieldsealError, dropped: boolean) => void
}

interface CachedDek extends LiveDek {
  readonly name: string
  readonly tenant: string
  readonly policy: ResolvedTenantKeys['policy']
}

export function createDirectDeks(settings: DirectDekSettings): DirectDeks {
  const { directKeys, tenantKeys, clock, maxEntries, onDenied } = settings
  /** DEKs that left the cache while somebody may still use them. */
  const leaving = new Set<CachedDek>()
  let zeroed = 0
  let closed = false
  const cache = createRevalidatingCache<CachedDek>({
    clock,
    maxEntries,
    limitsOf({ tenant, policy }) {
      const { validForMs } = strictest(policy, tenantKeys.policyOf(tenant))
      return { refreshAfterMs: Number.POSITIVE_INFINITY, validForMs, maxStaleMs: validForMs }
    },
    dispose: zero,
    release(dek) {
      if (dek.key.disposed) return
      leaving.add(dek)
      dek.retire(() => leaving.delete(dek))
    },
  })

  function zero(dek: CachedDek): void {
    zeroed++
    dek[Symbol.dispose]()
  }

  function drop(prefix: string): void {
    cache.drop(prefix)
    for (const dek of leaving) if (dek.name.startsWith(prefix)) zero(dek)
  }

  function denied(key: DirectKey, error: FieldsealError): void {
    const before = zeroed
    drop(`${key.record.tenant}\0`)
    onDenied(key, error, zeroed > before)
  }

  return {
    drop,
    dropRecord: (tenant, id) => drop(`${tenant}\0${id}\0`),
    async get(key, wrap, context) {
      if (closed) throw new FieldsealError('ERR_CLOSED')
      const name = nameOf(key, wrap, context)
      const known = cache.fresh(name)
      if (known !== undefined) return known
      let asked = false
      try {
        return await cache.get(name, 'read', async () => {
          asked = true
          return liveDek(name, key, await directKeys.unwrap(key, wrap, context))
        })
      } catch (error) {
        // Heard by whoever asked: a remembered denial is no news.
        if (asked && isFieldsealError(error) && dispositionOf(error) === 'revoke') denied(key, error)
        throw error
      }
    },
    purge(tenant) {
      drop(`${tenant}\0`)
      cache.forgive(`${tenant}\0`)
    },
    close() {
      closed = true
      drop('')
    },
  }
}

/** Invariant: the digest covers the whole blob and the full context, so that no DEK is found under another's name. */
function nameOf({ record, cmk }: DirectKey, { blob }: CmkWrap, context: EncryptionContext): string {
  const facts = lp(cmk.provider, record.uri, blob, contextBytes(context))
  return `${record.tenant}\0${record.id}\0${createHash('sha256').update(facts).digest('base64')}`
}

function liveDek(name: string, { record, keys }: DirectKey, key: SecretKey): CachedDek {
  const zero = () => key[Symbol.dispose]()
  const holding = createHolding(zero)
  return {
    name,
    tenant: record.tenant,
    policy: keys.policy,
    key,
    hold: holding.hold,
    retire: holding.retire,
    get retired() {
      return holding.retired
    },
    [Symbol.dispose]: zero,
  }
}
