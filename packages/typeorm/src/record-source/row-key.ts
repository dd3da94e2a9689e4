import type { Field, StoredRow } from '@fieldseal/core/adapter'
import { keyText, type ModelTable } from './table.ts'

const READ = Symbol('fieldseal.read')

/** One version of a row, as a page found it. PostgreSQL writes every update as a new one, at another place. */
export interface RowVersion {
  /** `ctid`: its place on disk. */
  readonly place: string
  /** `xmin`: the transaction that wrote it. */
  readonly writer: string
  /** As the driver gave them, by name in the database. */
  readonly columns: Readonly<Record<string, unknown>>
  /** Old plaintext that stands apart, as text of the database. */
  readonly plainTexts: ReadonlyMap<Field, unknown>
}

/** Key columns of a row, by stored path; opaque to core. */
type RowKey = Readonly<Record<string, unknown>> & { readonly [READ]?: RowVersion }

/** @param columns a new object, which becomes the key */
export function rowKey(columns: Record<string, unknown>, version: RowVersion): RowKey {
  return Object.assign(columns, { [READ]: version })
}

/** Undefined for a key that no page has made. */
export function versionOf(key: StoredRow['key']): RowVersion | undefined {
  return (key as RowKey)[READ] // keys are ours: pages() and reads make them
}

/** Key columns of many rows as arrays of texts, in the order of the table's key. */
export function keyArrays(table: ModelTable, keys: readonly StoredRow['key'][]): string[][] {
  return table.keys.map(({ path }) => keys.map((key) => keyText((key as RowKey)[path]))) // keys are ours
}
