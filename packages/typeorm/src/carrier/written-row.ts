import { inspect } from 'node:util'
import type { OperationContext, RecordMap, Row, RowFacts } from '@fieldseal/core/adapter'
import { isPlaintext, type SealedColumn } from '../entity-map/entity-model.ts'

/** The encrypted values that one statement writes into one row; they share one DEK. Printed, it shows none of them. */
export class WrittenRow {
  readonly context: OperationContext
  readonly #map: RecordMap
  readonly #facts: RowFacts
  readonly #columns: SealedColumn[] = []
  readonly #values: unknown[] = []
  /** Columns whose values are stored already, and only needed for the tokens of others with them. */
  readonly #stored = new Set<SealedColumn>()

  constructor(map: RecordMap, facts: RowFacts, context: OperationContext) {
    this.#map = map
    this.#facts = facts
    this.context = context
  }

  /** Adds a value, once for each column. @returns its place among the row's cells */
  add(column: SealedColumn, value: unknown): number {
    const known = this.#columns.indexOf(column)
    if (known >= 0) return known
    this.#values.push(value)
    return this.#columns.push(column) - 1
  }

  /** Adds a value that is stored and stays as it is: tokens over several columns are computed of it. */
  know(column: SealedColumn, value: unknown): void {
    if (this.#columns.includes(column)) return
    this.add(column, value)
    this.#stored.add(column)
  }

  column(cell: number): SealedColumn {
    const column = this.#columns[cell]
    if (column === undefined) throw new RangeError(`the row has no cell ${cell}`)
    return column
  }

  /** The row as core seals it. */
  toRow(): Row<unknown> {
    const cells = this.#columns.map(({ field }, index) => ({ field, value: this.#values[index] }))
    return { map: this.#map, facts: this.#facts, cells }
  }

  /** The row without the values that are stored as they are, and the places of the others among all cells. */
  toSealedRow(): { readonly row: Row<unknown>; readonly places: readonly number[] } {
    const row = this.toRow()
    const places = this.#columns.flatMap((column, index) =>
      isPlaintext(column) || this.#stored.has(column) ? [] : [index],
    )
    return { row: { ...row, cells: row.cells.filter((_, index) => places.includes(index)) }, places }
  }

  toJSON(): string {
    return '[row redacted]'
  }

  [inspect.custom](): string {
    return '[row redacted]'
  }
}
