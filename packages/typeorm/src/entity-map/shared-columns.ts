import type { EntityMetadata } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'

/**
 * Gives the children of single-table inheritance the root's columns in place of their own. TypeORM does so itself, except
 * for columns of embeddeds, which it makes once for each entity: what is set on one must hold for all.
 */
export function shareColumns(columns: readonly ColumnMetadata[], family: readonly EntityMetadata[]): void {
  const shared = new Map(columns.map((column) => [column.databaseName, column]))
  for (const metadata of family) {
    const replaced = new Map<unknown, ColumnMetadata>()
    for (const column of metadata.columns) {
      const one = shared.get(column.databaseName)
      if (one !== undefined && one !== column) replaced.set(column, one)
    }
    if (replaced.size === 0) continue
    for (const holder of [metadata, ...metadata.allEmbeddeds, ...metadata.indices, ...metadata.uniques])
      replaceIn(holder, replaced)
  }
}

/** Wherever they are listed: TypeORM derives a dozen lists from that of all columns. */
function replaceIn(holder: object, replaced: ReadonlyMap<unknown, ColumnMetadata>): void {
  for (const [name, value] of Object.entries(holder) as [string, unknown][]) {
    if (Array.isArray(value) && value.some((each) => replaced.has(each)))
      Reflect.set(
        holder,
        name,
        value.map((each: unknown) => replaced.get(each) ?? each),
      )
  }
}
