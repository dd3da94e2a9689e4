import { createIndexKeys } from './blind-index/index-keys.ts'
import { systemClock } from './cache/clock.ts'
import { cachePolicy, revocationBoundOf } from './cache/options.ts'
import { createRandomSource } from './cipher/random.ts'
import { isRecordId } from './context/record-id.ts'
import { checkedTenant, SINGLE_TENANT } from './context/tenant-id.ts'
import { FieldsealError } from './errors/fieldseal-error.ts'
import { activate } from './keyring/activate.ts'
import { type AuditActor, createAudit } from './observe/audit.ts'
import { createEventBus } from './observe/events.ts'
import type { ActivateOptions, Fieldseal, FieldsealOptions, PrepareOptions, Tenancy } from './fieldseal.ts'
import { createCellAudit } from './record/cell-audit.ts'
import { createModelRegistry } from './record/model-registry.ts'
import { assertKnown } from './record/option-checks.ts'
import { createRecordCipher } from './record/record-cipher.ts'
import { createRewrapQueue } from './record/rewrap-queue.ts'
import { healthReport } from './health-report.ts'
import { createKeyLayer } from './key-layer.ts'
import { hideInternals, type Internals } from './internals.ts'
import { createContextScope } from './tenant/context-scope.ts'
import { createTenantContext, type OperationContext } from './tenant/tenant-context.ts'

/**
 * Makes a Fieldseal. Does no I/O.
 * @throws FieldsealError ERR_CONFIG_INVALID naming the option
 */
export function createFieldseal<const T extends Tenancy>(options: FieldsealOptions<T>): Fieldseal<T> {
  const { app, tenancy, keyStore } = options
  assertOptions(options)
  const deniedKeks = new Set((options.deniedKeks ?? []).map((id) => (isRecordId(id) ? id : refuseDenied())))
  const policy = cachePolicy(options.cache)
  const clock = options.clock ?? systemClock
  const events = createEventBus()
  const random = createRandomSource()
  const { keys, sharedKeys } = options
  const keyLayer = createKeyLayer({ app, keys, sharedKeys, keyStore, policy, clock, random, events, deniedKeks })
  const { keyrings, settings } = keyLayer
  const { tenantKeys, directKeys, directDeks } = settings
  const indexKeys = createIndexKeys({ app, keyrings, keyStore, random })
  const audit =
    options.audit === undefined
      ? undefined
      : createAudit(options.audit, { app, events, now: () => clock.now(), whoAsks: () => actorOf(scope.capture()) })
  const act: Internals['act'] = audit === undefined ? (_facts, run) => run() : audit.act
  const cellAudit = createCellAudit(audit)
  const context = createTenantContext(tenancy, {
    admit: (asked) => audit?.admit({ type: 'act', operation: 'run-as-system', outcome: 'begun' }, asked),
    refused: (error) => cellAudit.refused('run-as', error),
  })
  const scope = createContextScope(context)
  const cipher = createRecordCipher({ app, keyrings, indexKeys, random, cellAudit, directKeys, directDeks })
  const rewraps = createRewrapQueue({ app, keyrings, random, events, directKeys, directDeks })
  const hasSharedKeys = sharedKeys !== undefined || typeof keys !== 'function'
  const models = createModelRegistry({ app, tenancy, hasSharedKeys, keyrings, indexKeys, directKeys, cellAudit })
  let closed = false
  const internals: Internals = {
    app,
    tenancy,
    keyStore,
    keyrings,
    settings,
    scope,
    cipher,
    rewraps,
    models,
    events,
    cellAudit,
    indexKeys,
    act,
    flushGuards: [],
    assertOpen() {
      if (closed) throw new FieldsealError('ERR_CLOSED')
    },
  }
  let closing: Promise<void> | undefined
  async function close(): Promise<void> {
    await rewraps.close()
    closed = true
    keyrings.close()
    try {
      await keyStore.close?.()
    } finally {
      await audit?.close()
    }
  }
  /** Arguments of what takes a tenant only where there are several. */
  const targetOf = <O extends object>(args: readonly unknown[]): readonly [string, Partial<O>] => {
    const [tenant, asked] = tenancy === 'single' ? [undefined, args[0]] : args
    return [tenantOf(tenant as string | undefined), (asked ?? {}) as Partial<O>] // checked by those who use them
  }
  const tenantOf = (tenant: string | undefined) => (tenancy === 'single' ? SINGLE_TENANT : checkedTenant(tenant))

  return hideInternals(internals, {
    runAs: (asked, fn) => context.runAs(asked, fn),
    runAsSystem(asked, fn) {
      return context.runAsSystem(asked, () => {
        events.emit('system.entered', asked)
        return fn()
      })
    },
    async prepare(...args: readonly unknown[]) {
      internals.assertOpen()
      const [tenant, { keyspaces = [] }] = targetOf<PrepareOptions>(args)
      await models.prepare(tenant, keyspaces)
    },
    async activate(...args: readonly unknown[]) {
      internals.assertOpen()
      const [tenant, { keyspaces = [], ...grant }] = targetOf<ActivateOptions>(args)
      const { assertOpen } = internals
      await act({ operation: 'activate', tenant }, () =>
        activate(tenant, grant, () => models.prepare(tenant, keyspaces), { ...settings, ...keyLayer, app, assertOpen }),
      )
    },
    async health(tenant) {
      internals.assertOpen()
      const asksNow = tenancy === 'single' || tenant !== undefined
      const policyOf = (one: string) => tenantKeys.policyOf(one)
      const tenants = asksNow ? [tenantOf(tenant)] : keyLayer.monitor.tenants()
      return healthReport(tenants, { asksNow, health: keyLayer.health, policyOf, audit })
    },
    purge: (tenant) => keyrings.purge(tenantOf(tenant)),
    revocationBoundMs: (tenant) => revocationBoundOf(tenant === undefined ? policy : tenantKeys.policyOf(tenant)),
    afterRestore: () => random.mixKernelBytes(),
    on: (name, listener) => events.on(name, listener),
    async flush() {
      internals.assertOpen()
      for (const guard of internals.flushGuards) guard()
      return rewraps.flush()
    },
    close: () => (closing ??= close()),
  })
}

const OPTIONS: readonly string[] = [
  'app',
  'tenancy',
  'keyStore',
  'keys',
  'sharedKeys',
  'cache',
  'audit',
  'deniedKeks',
  'clock',
] satisfies (keyof FieldsealOptions<Tenancy>)[]

function assertOptions(options: FieldsealOptions<Tenancy>): void {
  const { app, tenancy, keyStore, keys } = options
  assertKnown(options, OPTIONS, (option, reason) => {
    throw invalid(option, reason)
  })
  if (typeof app !== 'string' || !/^[a-z0-9][a-z0-9_.-]{0,63}$/.test(app))
    throw invalid('app', '[a-z0-9][a-z0-9_.-]{0,63}')
  if (tenancy !== 'single' && tenancy !== 'multi') throw invalid('tenancy', "'single' or 'multi'")
  if (typeof keyStore?.load !== 'function')
    throw invalid('keyStore', 'name the place of the key records, e.g. typeormKeyStore(dataSource.options)')
  if (tenancy === 'single' && typeof keys === 'function')
    throw invalid('keys', "tenancy 'single' has one tenant: give { cmks }, not a registry")
  if (typeof keys !== 'function' && (typeof keys !== 'object' || keys === null))
    throw invalid('keys', '{ cmks } or a registry')
}

function invalid(option: string, reason: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', { field: option, reason })
}

function actorOf(context: OperationContext | undefined): AuditActor {
  const { actor, purpose, systemReason } = context ?? {}
  return {
    ...(actor === undefined ? {} : { actor }),
    ...(purpose === undefined ? {} : { purpose }),
    ...(systemReason === undefined ? {} : { systemReason }),
  }
}

function refuseDenied(): never {
  throw invalid('deniedKeks', 'ids of KEKs: 24 lower-case hex digits each')
}
