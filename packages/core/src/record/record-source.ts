import type { KekId } from '../context/record-id.ts'
import type { Envelope } from '../envelope/layout.ts'
import type {
  BlindIndex,
  Cell,
  Field,
  FieldPath,
  IndexToken,
  PatchedCell,
  RecordMap,
  RecordWriter,
  RowPatch,
} from './ports.ts'
import type { PlainCell } from './plain-cell.ts'

/** One stored row as a migration sees it. `key` is what the source needs to find it again. */
export interface StoredRow {
  readonly key: unknown
  /** Position for keyset paging. */
  readonly after: Uint8Array
  readonly cells: Readonly<Record<FieldPath, Envelope | string | PlainCell | null>>
  /** Tenant, keyspace and key columns. */
  readonly columns: Readonly<Record<FieldPath, unknown>>
  /** All cells, for rows that may hold a field more than once or inside Maps. @defaultValue those of `cells` */
  readonly occurrences?: readonly Cell<Envelope | string | PlainCell | null>[]
  /** Unique indexes that the row does not count for: it does not meet their `where`. @defaultValue none */
  readonly outside?: ReadonlySet<BlindIndex>
  /** Stored tokens per index: one list per occurrence, in order of the cells. Only where `tokens` was asked for. */
  readonly tokens?: ReadonlyMap<BlindIndex, readonly (readonly IndexToken[])[]>
}

/** What became of one row: `refused` when a unique index or another constraint of the database does not let it in. */
export type Converted = 'updated' | 'changed' | 'refused'

/** Walks the stored rows of models and updates some conditionally; for migrations and for the leak oracle of tests. */
export interface RecordSource extends RecordWriter {
  readonly models: readonly RecordMap[]
  readonly checkpoints: CheckpointStore
  pages(map: RecordMap, options: PageOptions): AsyncIterable<readonly StoredRow[]>
  count(
    map: RecordMap,
    what: { readonly kekId: KekId } | 'plaintext' | 'all',
  ): Promise<{ readonly rows: number; readonly exact: boolean }>
  /**
   * `compareAndSet` for cells on their way from plaintext or back to it, and for their tokens. Absent = the source knows
   * no plaintext, and writes no tokens.
   */
  convert?(map: RecordMap, patches: readonly RowPatch<PatchedCell>[]): Promise<readonly Converted[]>
  /** Rows whose `field` is stored unencrypted, whatever its state; with `encryptNull` those without a value too. */
  countPlaintext?(map: RecordMap, field: Field): Promise<number>
  /**
   * Whether the place of the old plaintext can hold each of these values exactly: their length, their characters, their
   * precision.
   */
  fits?(map: RecordMap, field: Field, values: readonly unknown[]): Promise<readonly boolean[]>
  /**
   * Whether the value of each plain cell is all that is stored: a timestamp may be finer than milliseconds, a number longer
   * than a double. What is more would be lost by encrypting it.
   */
  isWhole?(map: RecordMap, field: Field, cells: readonly PlainCell[]): Promise<readonly boolean[]>
  /** For `doctor`: column widths, collations, tripwires. */
  inspect(map: RecordMap): Promise<readonly { readonly problem: string; readonly fix: string }[]>
  /** Clears all tokens of these rows, so that a shredded row is found by no search. Absent = the source cannot. */
  clearTokens?(map: RecordMap, keys: readonly StoredRow['key'][]): Promise<void>
}

export interface PageOptions {
  readonly after?: Uint8Array
  readonly shard?: readonly [number, number]
  readonly size: number
  readonly kekId?: KekId
  /** Only rows of this tenant, where the model has a tenant column. A source may give others as well. */
  readonly tenant?: string
  /** Reads `StoredRow.tokens` as well. @defaultValue false */
  readonly tokens?: boolean
}

export interface CheckpointStore {
  load(job: string): Promise<{ readonly version: number; readonly state: Uint8Array } | undefined>
  /** Compare-and-set on `version`. */
  save(job: string, version: number, state: Uint8Array): Promise<'saved' | 'changed'>
}
