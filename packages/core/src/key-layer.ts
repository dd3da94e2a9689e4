import type { Clock } from './cache/clock.ts'
import { createKmsCalls, type KmsCalls } from './cache/kms-calls.ts'
import type { KeyCachePolicy } from './cache/options.ts'
import type { RandomSource } from './cipher/random.ts'
import type { KekId } from './context/record-id.ts'
import { isFieldsealError } from './errors/fieldseal-error.ts'
import { type CmkMonitor, createCmkMonitor } from './keyring/cmk-monitor.ts'
import { createDirectDeks } from './keyring/direct-deks.ts'
import { createDirectKeys } from './keyring/direct-keys.ts'
import { createHealth, type Health } from './keyring/health.ts'
import { createKekWraps } from './keyring/kek-wraps.ts'
import { createKeyrings, type Keyrings, type KeyringSettings } from './keyring/keyrings.ts'
import { createSnapshots } from './keyring/snapshots.ts'
import { createTenantKeyring, type TenantKeySettings } from './keyring/tenant-keys.ts'
import type { KeyStore } from './keys/key-store.ts'
import type { EventBus } from './observe/events.ts'

/** Everything between a KMS and the keys that a cipher uses. */
export interface KeyLayer {
  readonly calls: KmsCalls
  readonly monitor: CmkMonitor
  readonly keyrings: Keyrings
  readonly settings: KeyringSettings
  readonly health: Health
}

export interface KeyLayerOptions extends Pick<TenantKeySettings, 'keys' | 'sharedKeys'> {
  readonly app: string
  readonly keyStore: KeyStore
  readonly policy: KeyCachePolicy
  readonly clock: Clock
  readonly random: RandomSource
  readonly events: EventBus
  readonly deniedKeks: ReadonlySet<KekId>
}

export function createKeyLayer({
  app,
  keys,
  sharedKeys,
  keyStore,
  policy,
  clock,
  random,
  events,
  deniedKeks,
}: KeyLayerOptions): KeyLayer {
  const calls = createKmsCalls({ clock, events })
  const monitor = createCmkMonitor({ events, now: () => clock.now() })
  const wraps = createKekWraps({ calls, clock, random })
  const tenantKeys = createTenantKeyring({
    keys,
    sharedKeys,
    policy,
    clock,
    onRevoked(tenant, error) {
      if (isFieldsealError(error)) events.emit('key.revoked', { tenant, kekId: '', code: error.code })
      keyrings.dropKeys(tenant)
    },
  })
  const snapshots = createSnapshots({
    keyStore,
    clock,
    maxEntries: policy.maxEntries,
    policyOf: (tenant) => tenantKeys.policyOf(tenant),
  })
  const directKeys = createDirectKeys({
    keyStore,
    snapshots,
    tenantKeys,
    wraps,
    calls,
    clock,
    random,
    events,
    deniedKeks,
    maxEntries: policy.maxEntries,
  })
  const directDeks = createDirectDeks({
    directKeys,
    tenantKeys,
    clock,
    maxEntries: policy.maxEntries,
    onDenied({ record: { tenant, id } }, { code }, dropped) {
      if (dropped) events.emit('key.revoked', { tenant, kekId: id, code })
      keyrings.dropKeys(tenant)
    },
  })
  const settings: KeyringSettings = {
    directKeys,
    directDeks,
    keyStore,
    snapshots,
    tenantKeys,
    wraps,
    clock,
    random,
    events,
    deniedKeks,
    maxEntries: policy.maxEntries,
  }
  const keyrings = createKeyrings(settings)
  const health = createHealth({ app, calls, wraps, tenantKeys, snapshots, monitor, clock, deniedKeks })
  return { calls, monitor, keyrings, settings, health }
}
