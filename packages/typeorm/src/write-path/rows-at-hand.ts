import type { RecordMap, RowFacts, RowId } from '@fieldseal/core/adapter'

/**
 * Tenant and keyspace of rows by their id, while one `save` runs: TypeORM's updates name only a row's key and what
 * changed.
 */
export class RowsAtHand {
  readonly #facts = new Map<RecordMap, Map<string, RowFacts>>()

  remember(map: RecordMap, facts: RowFacts): void {
    if (facts.rowId === undefined) return
    const ofMap = this.#facts.get(map) ?? new Map<string, RowFacts>()
    this.#facts.set(map, ofMap.set(nameOf(facts.rowId), facts))
  }

  find(map: RecordMap, rowId: RowId | undefined): RowFacts | undefined {
    return rowId && this.#facts.get(map)?.get(nameOf(rowId))
  }
}

function nameOf(rowId: RowId): string {
  return Buffer.from(rowId).toString('latin1')
}
