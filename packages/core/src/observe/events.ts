import type { ErrorCode } from '../errors/codes.ts'

/**
 * What a Fieldseal tells its listeners. The types admit no value, key, token or ciphertext.
 *
 * Ids of tenants, models and KEKs are facts that a KMS may log in clear as well.
 */
export interface FieldsealEvents {
  /** One call to a KMS, after its last attempt. */
  'kms.call': KmsCallEvent
  /** A KMS, the key store or the registry denied a key that was cached; its cache entries are gone. */
  'key.revoked': { readonly tenant: string; readonly kekId: string; readonly code: ErrorCode }
  /** A key that had been denied could be unwrapped again. */
  'key.restored': { readonly tenant: string; readonly kekId: string }
  /** A key was used beyond `validForMs` because nobody could be asked. */
  'key.stale-served': { readonly tenant: string; readonly kekId: string; readonly ageMs: number }
  /** The KMS returned another key than the cached one for the same record. */
  'key.changed': { readonly tenant: string; readonly kekId: string }
  'kek.created': {
    readonly tenant: string
    readonly keyspace: string
    readonly kekId: string
    readonly version: number
  }
  /** A CMK wraps the DEKs of a keyspace itself (mode `direct`) from now on. */
  'direct-key.created': {
    readonly tenant: string
    readonly keyspace: string
    readonly kekId: string
    readonly provider: string
    readonly uri: string
  }
  'kek.rotated': {
    readonly tenant: string
    readonly keyspace: string
    readonly kekId: string
    readonly version: number
  }
  /** A KEK is due for rotation by the crypto-period policy, or will be soon. */
  'kek.due': {
    readonly tenant: string
    readonly keyspace: string
    readonly kekId: string
    readonly why: 'age' | 'wraps' | 'not-after'
    readonly dueAt: Date
    readonly overdue: boolean
  }
  /** A keyspace has as many readable KEK versions as the policy allows, or more: rewrap, then retire old ones. */
  'kek.versions': {
    readonly tenant: string
    readonly keyspace: string
    readonly live: number
    readonly allowed: number
  }
  /** A background refresh or rewrap failed; the foreground was not touched. */
  'background.failed': {
    readonly operation: string
    readonly tenant: string
    readonly code: ErrorCode | 'unclassified'
  }
  'rewrap.done': { readonly tenant: string; readonly model: string; readonly updated: number; readonly changed: number }
  /** Lazy rewraps dropped because the queue was full; they are found again at the next read. */
  'rewrap.dropped': { readonly tenant: string; readonly model: string; readonly cells: number }
  /** A wire guard in mode `audit` saw plaintext of an encrypted field leave the process. */
  'plaintext.seen': { readonly model: string; readonly field: string; readonly operation: string }
  'system.entered': { readonly reason: string; readonly actor?: string }
  'breaker.opened': { readonly credentialScope: string; readonly retryAfterMs: number }
  'breaker.closed': { readonly credentialScope: string }
  /** `activate` waits for a grant to arrive; `what` is a CMK (provider and uri), or `keys`. */
  'activation.waiting': {
    readonly tenant: string
    readonly what: string
    readonly code: ErrorCode
    readonly waitedMs: number
  }
  /** What is known of a CMK has changed; back to `healthy` is a recovery. */
  'health.changed': {
    readonly tenant: string
    readonly provider: string
    readonly uri: string
    readonly from: HealthStatus
    readonly to: HealthStatus
    readonly code?: ErrorCode
    readonly deletesAt?: Date
  }
  /** The audit sink did not take an entry. What needs no entry went on; `failures` counts since the start of the process. */
  'audit.failed': { readonly failures: number; readonly code: string }
}

export interface KmsCallEvent {
  readonly operation: KmsOperation
  readonly provider: string
  /** The CMK as configured. */
  readonly uri: string
  readonly credentialScope: string
  readonly tenant: string
  readonly keyspace: string
  /** What the key is for: `wrap`, `index`, `direct`, `activate`, `health`. */
  readonly keyPurpose: string
  /** Id of the KEK record, or of the direct key record. */
  readonly kekId: string
  /** Only in mode `direct`, where the KMS logs them as well. */
  readonly model?: string
  readonly row?: string
  readonly outcome: 'ok' | ErrorCode
  readonly attempts: number
  readonly elapsedMs: number
  readonly vendorCode?: string
  /** The provider's id of its last answer, to be found again in its own log. */
  readonly requestId?: string
}

/**
 * `degraded`: answers, but throttled, damaged or in part. `denied`: disabled, without key material, or refused to us.
 * `unreachable`: does not answer. `unknown`: was never asked by this process.
 */
export type HealthStatus =
  | 'unknown'
  | 'healthy'
  | 'degraded'
  | 'unreachable'
  | 'denied'
  | 'pending-deletion'
  | 'destroyed'

export type KmsOperation = 'wrap' | 'unwrap' | 'generate' | 'rewrap' | 'describe' | 'probe' | 'canonicalUri'

export type EventName = keyof FieldsealEvents
export type Listener<N extends EventName> = (event: FieldsealEvents[N]) => void

/** Sends events to listeners; a listener that throws cannot disturb the code that reports. */
export interface EventBus {
  on<N extends EventName>(name: N, listener: Listener<N>): () => void
  emit<N extends EventName>(name: N, event: FieldsealEvents[N]): void
}

export function createEventBus(): EventBus {
  const listeners = new Map<EventName, Set<(event: never) => void>>()
  return {
    on(name, listener) {
      const set = listeners.get(name) ?? new Set()
      listeners.set(name, set.add(listener))
      return () => void set.delete(listener)
    },
    emit(name, event) {
      for (const listener of listeners.get(name) ?? []) {
        try {
          listener(event as never) // the map pairs each name with its own listeners
        } catch {
          // Invariant: a listener never changes the outcome of the operation it hears of.
        }
      }
    },
  }
}
