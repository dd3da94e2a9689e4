import type { BlindIndex, Field, FieldPath, RecordMap } from '@fieldseal/core/adapter'
import type { EntityMetadata } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { Storage } from '../encrypted-column/annotation.ts'

/** The two token columns of a blind index. An epoch keeps its slot: odd epochs stand in `odd`, even ones in `even`. */
export interface TokenSlots {
  readonly index: BlindIndex
  /** SQL: the rows for which the index is unique. Undefined = all, or it is not. */
  readonly where: string | undefined
  readonly odd: ColumnMetadata
  readonly even: ColumnMetadata
}

/** One encrypted column of one DataSource. */
export interface SealedColumn {
  /** That of the property: in state `plaintext` it is `plain`, otherwise `envelope`. */
  readonly column: ColumnMetadata
  readonly field: Field
  readonly storage: Storage
  readonly slots: TokenSlots | undefined
  /** Where envelopes stand. */
  readonly envelope: ColumnMetadata
  /** Where the old plaintext stands: `envelope` itself where the field turns in place; undefined once nothing is left of it. */
  readonly plain: ColumnMetadata | undefined
  /** The one of the two that the property does not name. A real column that entities never hold. */
  readonly twin: ColumnMetadata | undefined
}

/** An index over several columns, with token columns of its own. */
export interface CompoundIndex extends TokenSlots {
  /** In the order of the index's fields. */
  readonly columns: readonly SealedColumn[]
}

/** The token columns of all indexes. */
export function tokenSlotsOf({
  columns,
  compounds,
}: {
  readonly columns: readonly SealedColumn[]
  readonly compounds: readonly CompoundIndex[]
}): readonly TokenSlots[] {
  return [...columns.flatMap(({ slots }) => slots ?? []), ...compounds]
}

/** True where plaintext and envelopes stand in one column. */
export function turnsInPlace({ plain, envelope }: SealedColumn): boolean {
  return plain === envelope
}

/** True for columns that statements treat as TypeORM does: written in plaintext, compared and sorted by it. */
export function isPlaintext({ field }: SealedColumn): boolean {
  return field.state === 'plaintext'
}

/** Whether writing the column needs keys. */
export function needsKeys(sealed: SealedColumn): boolean {
  return !isPlaintext(sealed) || sealed.slots !== undefined
}

/** A plain column that says something about its row, under the path by which core knows it. */
export interface FactColumn {
  readonly path: FieldPath
  readonly column: ColumnMetadata
}

/** One entity with encrypted columns. The entities of one table (single-table inheritance) share a `map`. */
export interface EntityModel {
  readonly metadata: EntityMetadata
  readonly map: RecordMap
  readonly columns: readonly SealedColumn[]
  readonly compounds: readonly CompoundIndex[]
  readonly keys: readonly FactColumn[]
  readonly tenant: FactColumn | undefined
  readonly keyspace: FactColumn | undefined
  /** Keys, tenant and keyspace without duplicates: what a row must bring to be opened. */
  readonly facts: readonly FactColumn[]
}

/** The table of an entity in SQL: quoted, with its schema. */
export function quotedTable({ tablePath, dataSource }: EntityMetadata): string {
  return tablePath
    .split('.')
    .map((part) => dataSource.driver.escape(part))
    .join('.')
}

/** Stored path of a column: its name, with the characters escaped that structure paths. */
export function pathOf(column: Pick<ColumnMetadata, 'databaseName'>): FieldPath {
  return column.databaseName.replaceAll('~', '~0').replaceAll('.', '~1').replace(/^\$/, '~2')
}
