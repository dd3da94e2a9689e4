import type { IndexKeys } from './blind-index/index-keys.ts'
import type { Fieldseal, Tenancy } from './fieldseal.ts'
import { FieldsealError } from './errors/fieldseal-error.ts'
import type { Keyrings, KeyringSettings } from './keyring/keyrings.ts'
import type { KeyStore } from './keys/key-store.ts'
import type { Audit } from './observe/audit.ts'
import type { EventBus } from './observe/events.ts'
import type { CellAudit } from './record/cell-audit.ts'
import type { ModelRegistry } from './record/model-registry.ts'
import type { RecordCipher, RewrapQueue } from './record/ports.ts'
import type { ContextScope } from './tenant/context-scope.ts'

/** What adapters and key operations reach through a Fieldseal. Never enumerable, so that printing one shows its methods only. */
export interface Internals {
  readonly app: string
  readonly tenancy: Tenancy
  readonly keyStore: KeyStore
  readonly keyrings: Keyrings
  readonly settings: KeyringSettings
  readonly scope: ContextScope
  readonly cipher: RecordCipher
  readonly rewraps: RewrapQueue
  readonly models: ModelRegistry
  readonly events: EventBus
  readonly cellAudit: CellAudit
  readonly indexKeys: IndexKeys
  /** Runs a privileged act between its two audit entries. @throws FieldsealError ERR_AUDIT_UNAVAILABLE before it begins */
  act: Audit['act']
  /** Asked before `flush`; each throws where waiting for rewraps would wait for the caller itself. */
  readonly flushGuards: (() => void)[]
  assertOpen(): void
}

// Symbol.for: an adapter may bring the other module system's copy of core.
const INTERNALS: unique symbol = Symbol.for('@fieldseal/core:internals') as never

export function hideInternals<T extends Tenancy>(internals: Internals, fieldseal: Fieldseal<T>): Fieldseal<T> {
  return Object.freeze(Object.defineProperty(fieldseal, INTERNALS, { value: internals }))
}

/** @throws FieldsealError ERR_ARGUMENT_INVALID for anything that `createFieldseal` did not make */
export function internalsOf(fieldseal: unknown): Internals {
  const internals =
    typeof fieldseal === 'object' && fieldseal !== null
      ? (Reflect.get(fieldseal, INTERNALS) as Internals | undefined)
      : undefined
  if (internals === undefined)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      field: 'fieldseal',
      hint: 'pass what createFieldseal() returned',
    })
  return internals
}
