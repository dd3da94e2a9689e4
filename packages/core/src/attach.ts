import { checkedTenant, SHARED_TENANT, SINGLE_TENANT } from './context/tenant-id.ts'
import { FieldsealError } from './errors/fieldseal-error.ts'
import type { Fieldseal } from './fieldseal.ts'
import { guardedCipher } from './guarded-cipher.ts'
import { internalsOf, type Internals } from './internals.ts'
import { moveWraps as moveWrapsOf, type MovedWraps } from './keyring/move-wraps.ts'
import { rotateKek as rotateKekOf, type RotatedKek } from './keyring/rotate-kek.ts'
import { checkedKeyspace, DEFAULT_KEYSPACE } from './context/keyspace.ts'
import type { Adapter, AdapterHost } from './record/adapter-host.ts'
import { leakGuard } from './record/leak-guard.ts'

/** Connects an ORM adapter to a Fieldseal. Several adapters may share one. @throws FieldsealError ERR_ARGUMENT_INVALID, ERR_CLOSED */
export function attach(fieldseal: Fieldseal<never> | Fieldseal, adapter: Adapter): AdapterHost {
  const internals = internalsOf(fieldseal)
  internals.assertOpen()
  if (adapter.beforeFlush !== undefined) internals.flushGuards.push(() => adapter.beforeFlush?.())
  const { tenancy, rewraps, keyStore, events, scope, models } = internals
  return {
    tenancy,
    cipher: guardedCipher(internals),
    rewraps,
    guard: leakGuard,
    keyStore,
    events,
    defineModel: (declaration) => models.define(declaration, adapter),
    capture() {
      internals.assertOpen()
      const captured = scope.capture()
      if (captured === undefined) throw new FieldsealError('ERR_TENANT_MISSING')
      return captured
    },
    captureIfAny: () => scope.capture(),
    run: (captured, fn) => scope.run(captured, fn),
    async load(maps, operation, options) {
      internals.assertOpen()
      await operation.admitted
      await models.load(maps, operation, options ?? {})
    },
  }
}

/** Which keys an operation is about. In tenancy `single` no tenant; `acrossTenants` means the index keys of all tenants together. */
export interface KeyTarget {
  readonly tenant?: string
  readonly acrossTenants?: boolean
}

/** Gives a keyspace a new KEK; old data stays readable and is rewrapped lazily. See `keyring/rotate-kek.ts`. @throws FieldsealError ERR_ARGUMENT_INVALID for what is no keyspace */
export async function rotateKek(
  fieldseal: Fieldseal<never> | Fieldseal,
  target: { readonly tenant?: string; readonly keyspace?: string } = {},
): Promise<RotatedKek> {
  const internals = internalsOf(fieldseal)
  internals.assertOpen()
  const keyspace = checkedKeyspace(target.keyspace ?? DEFAULT_KEYSPACE)
  const ref = { app: internals.app, tenant: tenantOf(internals, target), keyspace }
  return internals.act({ operation: 'rotate-kek', tenant: ref.tenant, keyspace }, () =>
    rotateKekOf(ref, internals.keyrings, internals.settings),
  )
}

/** Makes the wraps of a tenant's KEKs agree with its configured CMKs; writes key records only. See `keyring/move-wraps.ts`. */
export async function moveWraps(fieldseal: Fieldseal<never> | Fieldseal, target: KeyTarget = {}): Promise<MovedWraps> {
  const internals = internalsOf(fieldseal)
  internals.assertOpen()
  const tenant = tenantOf(internals, target)
  return internals.act({ operation: 'move-wraps', tenant }, () =>
    moveWrapsOf(internals.app, tenant, internals.keyrings, internals.settings),
  )
}

function tenantOf({ tenancy }: Internals, { tenant, acrossTenants }: KeyTarget): string {
  if (acrossTenants === true) return SHARED_TENANT
  return tenancy === 'single' ? SINGLE_TENANT : checkedTenant(tenant)
}
