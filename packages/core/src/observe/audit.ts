import type { ErrorCode } from '../errors/codes.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { EventBus, KmsCallEvent } from './events.ts'

/** Who asked, as far as the caller's context tells. */
export interface AuditActor {
  readonly actor?: string
  readonly purpose?: string
  /** The reason of `runAsSystem`. */
  readonly systemReason?: string
}

/** One call to a KMS. One that several callers waited for names the first of them. */
export interface KmsAuditEntry extends KmsCallEvent {
  readonly type: 'kms'
}

/** A value that was decrypted, or a key, row or token that was refused. */
export interface AccessAuditEntry {
  readonly type: 'access'
  readonly operation: 'decrypt' | 'encrypt' | 'look-up' | 'run-as'
  readonly tenant: string
  readonly model?: string
  readonly field?: string
  /** The row's key in readable form: `int:`, `uuid:`, `oid:` or `str:`, joined by `,`. Absent for a value bound to no row. */
  readonly row?: string
  readonly kekId?: string
  readonly outcome: 'ok' | ErrorCode
}

/** A privileged act: written before it begins and again when it has ended. */
export interface ActAuditEntry {
  readonly type: 'act'
  readonly operation:
    | 'run-as-system'
    | 'rotate-kek'
    | 'rotate-cmk'
    | 'rotate-index-key'
    | 'change-index'
    | 'move-wraps'
    | 'activate'
    | 'change-key'
    | 'deny-key'
    | 'rewrap-children'
  /** The key that a `change-key` or `deny-key` is about, and the state it is to have; for `change-index` the index and its stage. */
  readonly kekId?: string
  readonly to?: string
  readonly tenant?: string
  readonly keyspace?: string
  readonly outcome: 'begun' | 'ok' | ErrorCode | 'unclassified'
}

export type AuditEntry = KmsAuditEntry | AccessAuditEntry | ActAuditEntry

/** One line of an audit trail. The types admit no value, key, token or nonce. */
export type AuditEvent = AuditEntry & AuditActor & { readonly at: string; readonly app: string }

/**
 * Where the audit trail goes. `write` takes one event; it has succeeded when it returns, or when its promise resolves.
 * A sink that writes synchronously lets `runAsSystem` fail before its function runs.
 */
export interface AuditSink {
  write(event: AuditEvent): void | Promise<void>
  /** Called once, by `fieldseal.close()`, after the last event. */
  close?(): void | Promise<void>
}

export interface AuditOptions {
  readonly sink: AuditSink
  /** One event per decrypted value as well. Refused ones are always written. @defaultValue false */
  readonly decrypts?: boolean
}

export interface Audit {
  readonly decrypts: boolean
  /** How many entries the sink did not take. */
  readonly failures: number
  /** Hands an entry to the sink and goes on; a failure is counted and signalled. */
  note(entry: AuditEntry): void
  /**
   * Hands over the entry of a privileged act, which may begin only when this returned, or when its promise resolved.
   * @throws FieldsealError ERR_AUDIT_UNAVAILABLE, at once or by its promise
   */
  admit(entry: AuditEntry, actor?: AuditActor): Promise<void> | undefined
  /** Runs a privileged act between its two entries. @throws FieldsealError ERR_AUDIT_UNAVAILABLE before it begins */
  act<R>(facts: Omit<ActAuditEntry, 'type' | 'outcome'>, run: () => Promise<R>): Promise<R>
  /** Waits for entries under way, then closes the sink. */
  close(): Promise<void>
}

export interface AuditSettings {
  readonly app: string
  readonly now: () => number
  readonly events: EventBus
  /** The caller's context at this moment. */
  readonly whoAsks: () => AuditActor
}

const MAX_UNDER_WAY = 10_000
/** A sink that never answers must not hold a privileged act for ever. */
const ADMIT_MS = 10_000

/** Also hears every call to a KMS. @throws FieldsealError ERR_CONFIG_INVALID for what is no sink */
export function createAudit(asked: AuditSink | AuditOptions, { app, now, events, whoAsks }: AuditSettings): Audit {
  const { sink, decrypts } = checked(asked)
  const underWay = new Set<Promise<void>>()
  let failures = 0

  function failed(error: unknown): void {
    events.emit('audit.failed', { failures: ++failures, code: codeOf(error) })
  }

  /** Handed over when it returns undefined, or when its promise resolves. */
  function write(entry: AuditEntry, actor: AuditActor): Promise<void> | undefined {
    if (underWay.size >= MAX_UNDER_WAY) throw unavailable('too many entries wait for the sink')
    const written: unknown = sink.write({ at: new Date(now()).toISOString(), app, ...entry, ...actor })
    if (!isThenable(written)) return undefined
    const settled = Promise.resolve(written)
      .then(() => undefined)
      .finally(() => underWay.delete(settled))
    underWay.add(settled)
    return settled
  }

  const audit: Audit = {
    decrypts,
    get failures() {
      return failures
    },
    note(entry) {
      try {
        write(entry, whoAsks())?.catch(failed)
      } catch (error) {
        failed(error)
      }
    },
    admit(entry, actor = whoAsks()) {
      const refused = (error: unknown) => {
        failed(error)
        return unavailable(codeOf(error))
      }
      try {
        return inTime(write(entry, actor))?.catch((error: unknown) => {
          throw refused(error)
        })
      } catch (error) {
        throw refused(error)
      }
    },
    async act(facts, run) {
      await audit.admit({ type: 'act', ...facts, outcome: 'begun' })
      try {
        const result = await run()
        audit.note({ type: 'act', ...facts, outcome: 'ok' })
        return result
      } catch (error) {
        audit.note({ type: 'act', ...facts, outcome: isFieldsealError(error) ? error.code : 'unclassified' })
        throw error
      }
    },
    async close() {
      await Promise.allSettled(underWay)
      await sink.close?.()
    },
  }
  events.on('kms.call', (event) => audit.note({ type: 'kms', ...event }))
  return audit
}

function checked(asked: AuditSink | AuditOptions): Required<AuditOptions> {
  const { sink, decrypts = false }: Partial<AuditOptions> = isSink(asked) ? { sink: asked } : (asked ?? {})
  if (!isSink(sink) || typeof decrypts !== 'boolean')
    throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'audit', reason: 'a sink, or { sink, decrypts }' })
  return { sink, decrypts }
}

function isSink(value: unknown): value is AuditSink {
  return typeof value === 'object' && value !== null && 'write' in value && typeof value.write === 'function'
}

function inTime(written: Promise<void> | undefined): Promise<void> | undefined {
  if (written === undefined) return undefined
  const { promise, reject } = Promise.withResolvers<void>()
  const timer = setTimeout(() => reject(unavailable('the sink did not answer in time')), ADMIT_MS)
  return Promise.race([written, promise]).finally(() => clearTimeout(timer))
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

function unavailable(reason: string): FieldsealError {
  return new FieldsealError('ERR_AUDIT_UNAVAILABLE', { reason })
}

/** A name, never a text: what a sink throws may quote what it was given. */
function codeOf(error: unknown): string {
  if (isFieldsealError(error)) return error.details.reason ?? error.code
  const code: unknown = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
  return typeof code === 'string' && /^[A-Z][A-Z0-9_]{0,63}$/.test(code) ? code : 'unclassified'
}
