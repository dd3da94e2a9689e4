import type { IndexToken } from '../blind-index/token.ts'
import type { Envelope } from '../envelope/layout.ts'
import type { KekId } from '../context/record-id.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import type { FieldOptions, FieldState, KeyMode, ModelOptions, PlainScalar } from './options.ts'
import type { PlainCell } from './plain-cell.ts'
import type { RowId, RowKeyKind } from './row-id.ts'

export type { Envelope, IndexToken }

/** Full stored path of a field or key column: column name, or names joined by `.` */
export type FieldPath = string

/** What an adapter tells about one model. Paths are stored names; the adapter has resolved properties to them. */
export interface ModelDeclaration {
  /** The root table or collection, without schema or database. `options.id` overrides it. */
  readonly id: string
  /** `tenantBy`, a keyspace's `per` and what a unique index says under `where` hold stored paths here. */
  readonly options: ModelOptions
  readonly fields: readonly FieldDeclaration[]
  readonly rowKey: readonly { readonly path: FieldPath; readonly kind: RowKeyKind }[]
  /**
   * The model may be declared again, with the same options and row key, and other fields: those that both declare must be
   * declared alike. For ORMs whose schemas grow (discriminators).
   * @defaultValue false: a second declaration must be the same
   */
  readonly grows?: boolean
  /** Kinds of the tenant and keyspace columns: two spellings of one value must not become two tenants or subjects. @defaultValue text as given */
  readonly factKinds?: { readonly tenant?: RowKeyKind; readonly keyspace?: RowKeyKind }
}
export interface FieldDeclaration {
  readonly path: FieldPath
  /** Name of a value codec: `string number boolean bigint date bytes json day`, or one the adapter brought. */
  readonly type: string
  readonly options: FieldOptions
}

/** One encrypted field of one model, options checked. */
export interface Field {
  readonly model: string
  readonly path: FieldPath
  readonly id: string
  readonly type: string
  readonly encryptNull: boolean
  readonly state: FieldState
  /** Stored path of the old plaintext; undefined = the field's own place. */
  readonly plaintextIn: FieldPath | undefined
  readonly blindIndex: BlindIndex | undefined
  /**
   * A text that is equal exactly when two values are stored as the same plaintext; for dirty checks. Stays in memory.
   * `null` for null. @throws FieldsealError ERR_VALUE_INVALID naming the field when the value does not fit it
   */
  compareKey(value: unknown): string | null
}

/** A condition on a plain column or path. `null` is a database NULL, or a path that is missing. */
export interface PlainEquality {
  readonly path: FieldPath
  readonly equals: PlainScalar
}

/** One blind index of one model. */
export interface BlindIndex {
  readonly model: string
  readonly id: string
  readonly fields: readonly Field[]
  readonly bits: number
  readonly unique: boolean
  /** What must hold for a row to count for a unique index; empty = all rows do. */
  readonly uniqueWhere: readonly PlainEquality[]
  readonly acrossTenants: boolean
  /** Bytes of one stored token: 1 + bits / 8. */
  readonly tokenBytes: number
  /** True when different values may share a token, so that every hit must be compared after decryption. */
  readonly truncated: boolean
  /** A text equal exactly when the index holds two values equal (after normalisation); for the check after decryption. `null` for null. */
  matchKey(values: readonly unknown[]): string | null
}

/** Encrypted fields, indexes, tenant and key columns of a model; built once, all options checked. */
export interface RecordMap {
  readonly id: string
  readonly fields: readonly Field[]
  readonly indexes: readonly BlindIndex[]
  /** Stored path of the tenant column; undefined for `tenantBy: 'none'`. */
  readonly tenantPath: FieldPath | undefined
  /** Stored path of the column that names a data subject's keyspace. */
  readonly keyspacePath: FieldPath | undefined
  /** The one keyspace of all rows; undefined when it comes from `keyspacePath`. */
  readonly keyspace: string | undefined
  readonly rowKey: ModelDeclaration['rowKey']
  /** `require` in mode `direct`. */
  readonly bindRow: NonNullable<ModelOptions['bindRow']>
  /** What wraps the DEKs of new values. */
  readonly mode: KeyMode
  /** Layouts that may be read: that of `mode`, and those that `accepts` names. */
  readonly layouts: ReadonlySet<KeyMode>
  /** Whether values that are bound to no row are readable. */
  readonly acceptsUnbound: boolean
  at(path: FieldPath): { readonly relation: 'field' | 'inside' | 'parent' | 'none'; readonly field?: Field }
  /**
   * Tenant, keyspace and row id of one row. `row` maps stored paths to the values known of it; key columns it lacks
   * leave the row unbound.
   * @throws FieldsealError ERR_TENANT_MISMATCH when the row's tenant is not the context's, ERR_WRITE_UNSUPPORTED when
   * the tenant or keyspace column is unknown
   */
  facts(row: Readonly<Record<FieldPath, unknown>>, context: OperationContext): RowFacts
  /** The row id alone, from key columns at hand; undefined when they are not all known and canonical. Never throws. */
  rowId(row: Readonly<Record<FieldPath, unknown>>): RowId | undefined
  /** Equalities that updates by criteria and upserts must carry. Empty for `tenantBy: 'none'`. @throws FieldsealError ERR_WRITE_UNSUPPORTED in a system context */
  predicate(context: OperationContext): readonly { readonly path: FieldPath; readonly equals: string }[]
}

export interface RowFacts {
  readonly tenant: string
  readonly keyspace: string
  /** Undefined = the values of the row are not bound to it. */
  readonly rowId: RowId | undefined
}

export interface Cell<V> {
  readonly field: Field
  /** Keys of the Maps that the path crosses, outermost first. */
  readonly mapKeys?: readonly string[]
  readonly value: V
}
export interface Row<V> {
  readonly map: RecordMap
  readonly facts: RowFacts
  readonly cells: readonly Cell<V>[]
}

export interface SealedRow {
  /** One per cell, in order; null where the value is null and the field does not encrypt nulls. */
  readonly envelopes: readonly (Envelope | null)[]
  /**
   * For every index whose fields are all among the cells, one list per occurrence (the elements of an array), in order
   * of the cells: one token per live epoch, none for null. An index over several fields has one occurrence.
   */
  readonly tokens: ReadonlyMap<BlindIndex, readonly (readonly IndexToken[])[]>
  /** Ids of the KEK records, or direct key records, that the envelopes name. */
  readonly kekIds: readonly KekId[]
}
export interface OpenedRow {
  /** One per cell, in order; an `Unreadable` where the context says `onUnreadable: 'mark'`. */
  readonly values: readonly unknown[]
  /** Indexes of cells whose DEK is not wrapped as it would be now: by an older KEK, another CMK or version, in the other layout. */
  readonly outdated: readonly number[]
}

/** Rows of cells ⇄ envelopes and tokens. Results come in the order of the input; one key look-up per batch. */
export interface RecordCipher {
  /** Seals the values of each row under one new DEK. @throws FieldsealError ERR_WRITE_UNSUPPORTED when `bindRow: 'require'` meets a row whose id is unknown */
  seal(rows: readonly Row<unknown>[], context: OperationContext, via?: unknown): Promise<readonly SealedRow[]>
  /**
   * Tokens of values that are stored unencrypted beside them: what `seal` gives without its envelopes. For fields in
   * state `plaintext`.
   */
  index(
    rows: readonly Row<unknown>[],
    context: OperationContext,
    via?: unknown,
  ): Promise<readonly SealedRow['tokens'][]>
  /**
   * Opens stored cells: envelopes as bytes or in text form, or null. Where the state of a field is not `encrypted`, also
   * plain cells, and text that is no envelope: those values come back as they are.
   */
  open(rows: readonly Row<unknown>[], context: OperationContext, via?: unknown): Promise<readonly OpenedRow[]>
  /** Tokens to look for: per term and value (one per field of the index) one token for every epoch that look-ups must ask; empty for null, and in state `plaintext` where the index never had a token: no key is made then. */
  tokens(
    terms: readonly TokenTerm[],
    context: OperationContext,
    via?: unknown,
  ): Promise<readonly (readonly IndexToken[])[]>
}
export interface TokenTerm {
  readonly index: BlindIndex
  readonly values: readonly unknown[]
}

/** Two last lines of defence that an adapter calls where data leaves the process. */
export interface LeakGuard {
  /** @throws FieldsealError ERR_PLAINTEXT_BLOCKED unless `outgoing` is null or an envelope (bytes or text form) */
  assertSealed(field: Field, outgoing: unknown): void
  /**
   * For values about to be stored unencrypted.
   * @throws FieldsealError ERR_PLAINTEXT_BLOCKED unless the field is in state `plaintext`, ERR_VALUE_INVALID for text that
   * would be read back as an envelope
   */
  assertPlain(field: Field, outgoing: unknown): void
  /** A copy of a row-like object (stored paths as keys) with every encrypted field replaced by `[redacted]`. */
  redact<T extends object>(map: RecordMap, value: T): T
}

/** One stored row with cells to replace. `key` is opaque to core: what the writer needs to find the row. */
export interface RowPatch<C extends PatchedCell = RewrittenCell> {
  readonly key: unknown
  readonly cells: readonly C[]
  /** Tokens of indexes over several fields, which are all among the cells: both slots hold these and no others. */
  readonly tokens?: ReadonlyMap<BlindIndex, readonly IndexToken[]>
}
/** A cell to replace, in all places it has: the field's own, and that of its old plaintext where it has one. */
export interface PatchedCell {
  readonly field: Field
  readonly mapKeys?: readonly string[]
  /** What must stand there still: an envelope with no plaintext beside it, a plain cell as it was read, or nothing at all. */
  readonly before: StoredCell
  /** What stands there afterwards, alone: its other place is cleared in the same statement. `before` itself changes nothing. */
  readonly after: StoredCell
  /** Tokens to stand beside it: both slots of its index hold these and no others. Undefined leaves them as they are. */
  readonly tokens?: readonly IndexToken[]
}
/** The same value in another envelope. */
export interface RewrittenCell extends PatchedCell {
  readonly before: Envelope
  readonly after: Envelope
}
export type StoredCell = Envelope | PlainCell | null
/** Updates cells only where the stored bytes are still `before`; runs no hooks, bumps no version, touches no `updatedAt`. */
export interface RecordWriter {
  compareAndSet(map: RecordMap, patches: readonly RowPatch[]): Promise<readonly ('updated' | 'changed')[]>
}
/** Lazy rewraps: bounded, in the background, best effort. */
export interface RewrapQueue {
  /** Takes cells found outdated; drops them when the queue is full. Never throws. */
  offer(row: Row<Envelope>, key: unknown, writer: RecordWriter): void
  /** Resolves when everything offered so far was written, found changed, or given up. */
  flush(): Promise<{ readonly updated: number; readonly changed: number }>
}
