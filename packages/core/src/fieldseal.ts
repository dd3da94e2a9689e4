import type { Clock } from './cache/clock.ts'
import type { KeyCacheOptions, RevocationBound } from './cache/options.ts'
import type { HealthReport } from './health-report.ts'
import type { GrantOptions } from './keyring/activate.ts'
import type { KeyRegistry, TenantKeys } from './keyring/tenant-keys.ts'
import type { Cmk } from './keys/cmk.ts'
import type { KeyStore } from './keys/key-store.ts'
import type { AuditOptions, AuditSink } from './observe/audit.ts'
import type { EventName, Listener } from './observe/events.ts'

export type Tenancy = 'single' | 'multi'

export interface FieldsealOptions<T extends Tenancy> {
  /** Name of the application, authenticated with every key: `[a-z0-9][a-z0-9_.-]{0,63}`. Never change it: keys made under another name do not open. */
  readonly app: string
  /** `single`: the application has no tenants. `multi`: every operation runs as one, see `runAs`. */
  readonly tenancy: T
  /** Where key records live. No default: losing them loses the data. */
  readonly keyStore: KeyStore
  /** The CMKs of all tenants, or a registry that knows those of each. */
  readonly keys: T extends 'single' ? TenantKeys : TenantKeys | KeyRegistry
  /** CMKs for indexes across tenants, beside a registry. */
  readonly sharedKeys?: { readonly cmks: readonly Cmk[] }
  /** How long unwrapped keys live in this process; a tenant's may only be stricter. @defaultValue see `cache` */
  readonly cache?: KeyCacheOptions
  /**
   * Where the audit trail goes: every call to a KMS, every denial, every privileged act; with `{ sink, decrypts: true }`
   * every decrypted value. While the sink fails, privileged acts are refused; reads and writes go on. @defaultValue none
   */
  readonly audit?: AuditSink | AuditOptions
  /** Ids of KEKs that this process must not use, whatever the key store says: 24 hex digits each. @defaultValue [] */
  readonly deniedKeks?: readonly string[]
  /** For tests. @defaultValue the system's clocks */
  readonly clock?: Clock
}

type TenantOption<T extends Tenancy> = T extends 'single' ? { readonly tenant?: never } : { readonly tenant: string }
export type RunAs<T extends Tenancy> = TenantOption<T> & {
  readonly actor?: string
  readonly purpose?: string
  /** `mark`: values that cannot be opened become sentinels (`isUnreadable`) instead of errors. @defaultValue 'throw' */
  readonly onUnreadable?: 'throw' | 'mark'
}
export interface PrepareOptions {
  /** Keyspaces beside those that models fix: `class:<name>` or `subject:<of>:<id>`. */
  readonly keyspaces?: readonly string[]
}

export interface ActivateOptions extends PrepareOptions, GrantOptions {}

/** The one object of an application. */
export interface Fieldseal<T extends Tenancy = Tenancy> {
  /** Runs `fn` as a tenant and returns its own result. @throws FieldsealError ERR_TENANT_MISMATCH inside the `runAs` of another tenant */
  runAs<R>(options: RunAs<T>, fn: () => R): R
  /**
   * Runs `fn` across tenants: each row under its own tenant's keys. Emits `system.entered`.
   * @throws FieldsealError ERR_AUDIT_UNAVAILABLE before `fn` runs when the audit sink refuses the entry; with a sink that
   * answers later, before any key is used
   */
  runAsSystem<R>(options: { readonly reason: string; readonly actor?: string }, fn: () => R): R
  /** Makes and loads the keys of a tenant, before you open a transaction of your own. */
  prepare(
    ...args: T extends 'single' ? [options?: PrepareOptions] : [tenant: string, options?: PrepareOptions]
  ): Promise<void>
  /**
   * For a tenant whose CMKs were just registered: has each prove that it wraps and unwraps under this tenant's context and
   * no other's, waits until a new grant has arrived, then does what `prepare` does. May be repeated.
   * @throws FieldsealError ERR_ACTIVATION_REFUSED when a CMK fails the proof; kind `denied` when it still refuses after `waitForGrantMs`
   */
  activate(
    ...args: T extends 'single' ? [options?: ActivateOptions] : [tenant: string, options?: ActivateOptions]
  ): Promise<void>
  /**
   * What is known of a tenant's CMKs, asked now; without a tenant, of all tenants that this process has worked for, asked at
   * most once per `refreshAfterMs`. Broken keys, registries and key stores are told, never thrown.
   */
  health(tenant?: T extends 'single' ? never : string): Promise<HealthReport>
  /** Drops a tenant's keys, records and configuration from this process. Emits nothing. Without a tenant: in tenancy `single` only. */
  purge(tenant?: string): void
  /** Within how many milliseconds a revocation takes effect in this process, beside the provider's own propagation. */
  revocationBoundMs(tenant?: string): RevocationBound
  /** Call after a snapshot of the machine or function was restored: see docs/concepts/threat-model.md. @throws FieldsealError ERR_CONFIG_INVALID where the kernel's generator cannot be read */
  afterRestore(): void
  /** @returns a function that ends the listening */
  on<N extends EventName>(name: N, listener: Listener<N>): () => void
  /** Resolves when all lazy rewraps found so far were written or given up. */
  flush(): Promise<{ readonly updated: number; readonly changed: number }>
  /** Finishes lazy rewraps, drops all keys, closes the key store and the audit sink. Everything that needs a key throws ERR_CLOSED afterwards. */
  close(): Promise<void>
}
