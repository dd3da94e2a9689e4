import { AsyncLocalStorage } from 'node:async_hooks'
import { checkedTenant, SINGLE_TENANT } from '../context/tenant-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { AuditActor } from '../observe/audit.ts'

/** Work across tenants: each row under its own tenant's keys. */
export interface SystemContext {
  readonly reason: string
}

/** Who runs an operation; captured when a query, cursor or stream is created, never when it runs. */
export interface OperationContext {
  readonly tenant: string | SystemContext
  readonly actor?: string
  readonly purpose?: string
  readonly onUnreadable: 'throw' | 'mark'
  /** The reason of the `runAsSystem` around it. */
  readonly systemReason?: string
  /**
   * Only inside `runAsSystem` with an audit sink that answers later: resolves when the sink has taken the entry. No key
   * is used before, and none when it rejects with ERR_AUDIT_UNAVAILABLE.
   */
  readonly admitted?: Promise<void>
}

export interface RunAsOptions {
  readonly tenant?: string
  readonly actor?: string
  readonly purpose?: string
  /** `mark`: a value that cannot be opened becomes an `Unreadable` that can never be written back. @defaultValue 'throw' */
  readonly onUnreadable?: 'throw' | 'mark'
}

export interface TenantContext {
  runAs<R>(options: RunAsOptions, fn: () => R): R
  runAsSystem<R>(options: { readonly reason: string; readonly actor?: string }, fn: () => R): R
  /** @throws FieldsealError ERR_TENANT_MISSING outside of any `runAs` in tenancy `multi` */
  capture(): OperationContext
  /** As `capture`, or undefined where it throws. */
  captureIfAny(): OperationContext | undefined
}

export interface TenantContextHooks {
  /** Asked before `runAsSystem` enters; throws, or gives a promise, where its audit entry is not yet taken. */
  readonly admit?: (asked: AuditActor) => Promise<void> | undefined
  /** Hears of a `runAs` inside that of another tenant. */
  readonly refused?: (error: FieldsealError) => void
}

export function createTenantContext(tenancy: 'single' | 'multi', hooks: TenantContextHooks = {}): TenantContext {
  const storage = new AsyncLocalStorage<OperationContext>()
  const current = () => storage.getStore() ?? (tenancy === 'single' ? SINGLE_CONTEXT : undefined)
  return {
    runAs(options, fn) {
      const outer = storage.getStore()
      const tenant = tenancy === 'single' ? SINGLE_TENANT : checkedTenant(options.tenant) // never the outer one: a missing tenant is a fault
      if (tenancy === 'single' && options.tenant !== undefined) {
        throw new FieldsealError('ERR_ARGUMENT_INVALID', {
          field: 'tenant',
          hint: "tenancy is 'single': runAs takes no tenant",
        })
      }
      if (typeof outer?.tenant === 'string' && outer.tenant !== tenant) {
        const error = new FieldsealError('ERR_TENANT_MISMATCH', {
          tenant: outer.tenant,
          reason: 'runAs inside the runAs of another tenant',
          hint: 'use runAsSystem for work across tenants, and runAs inside it',
        })
        hooks.refused?.(error)
        throw error
      }
      const context: OperationContext = Object.freeze({
        ...pick(outer, options),
        tenant,
        onUnreadable: options.onUnreadable ?? outer?.onUnreadable ?? 'throw',
      })
      return storage.run(context, fn)
    },
    runAsSystem(options, fn) {
      if (typeof options.reason !== 'string' || options.reason.trim() === '') {
        throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'reason', hint: 'say why: runAsSystem({ reason })' })
      }
      const { admitted: before, ...who } = pick(storage.getStore(), options, options.reason)
      const admitted = both(before, hooks.admit?.(who))
      const context: OperationContext = Object.freeze({
        ...who,
        ...(admitted === undefined ? {} : { admitted }),
        tenant: tenancy === 'single' ? SINGLE_TENANT : Object.freeze({ reason: options.reason }),
        onUnreadable: 'throw' as const,
      })
      return storage.run(context, fn)
    },
    captureIfAny: current,
    capture() {
      const context = current()
      if (context === undefined) throw new FieldsealError('ERR_TENANT_MISSING')
      return context
    },
  }
}

const SINGLE_CONTEXT: OperationContext = Object.freeze({ tenant: SINGLE_TENANT, onUnreadable: 'throw' })

function pick(
  outer: OperationContext | undefined,
  inner: { readonly actor?: string; readonly purpose?: string },
  systemReason = outer?.systemReason,
): AuditActor & Pick<OperationContext, 'admitted'> {
  const actor = inner.actor ?? outer?.actor
  const purpose = inner.purpose ?? outer?.purpose
  return {
    ...(actor === undefined ? {} : { actor }),
    ...(purpose === undefined ? {} : { purpose }),
    ...(systemReason === undefined ? {} : { systemReason }),
    ...(outer?.admitted === undefined ? {} : { admitted: outer.admitted }),
  }
}

function both(outer: Promise<void> | undefined, inner: Promise<void> | undefined): Promise<void> | undefined {
  const admitted = outer && inner ? Promise.all([outer, inner]).then(() => undefined) : (inner ?? outer)
  admitted?.catch(() => undefined) // whoever uses a key hears of it
  return admitted
}
