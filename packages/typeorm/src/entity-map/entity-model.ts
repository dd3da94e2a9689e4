import type { BlindIndex, Field, FieldPath, RecordMap } from '@fieldseal/core/adapter'
import type { EntityMetadata } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { Storage } from '../encrypted-column/annotation.ts'

/** The two token columns of a blind index. An epoch keeps its slot: odd epochs stand in `odd`, even ones in `even`. */
export interface TokenSlots {
  readonly index: BlindIndex
  readonly odd: ColumnMetadata
  readonly even: ColumnMetadata
}

/** One encrypted column of one DataSource. */
export interface SealedColumn {
  readonly column: ColumnMetadata
  readonly field: Field
  readonly storage: Storage
  readonly slots: TokenSlots | undefined
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
  readonly keys: readonly FactColumn[]
  readonly tenant: FactColumn | undefined
  readonly keyspace: FactColumn | undefined
  /** Keys, tenant and keyspace without duplicates: what a row must bring to be opened. */
  readonly facts: readonly FactColumn[]
}

/** Stored path of a column: its name, with the characters escaped that structure paths. */
export function pathOf(column: Pick<ColumnMetadata, 'databaseName'>): FieldPath {
  return column.databaseName.replaceAll('~', '~0').replaceAll('.', '~1').replace(/^\$/, '~2')
}
