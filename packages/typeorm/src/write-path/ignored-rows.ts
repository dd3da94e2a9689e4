import type { InsertResult, ObjectLiteral } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { EntityModel } from '../entity-map/entity-model.ts'

/**
 * Rows that `ON CONFLICT DO NOTHING` ignores are missing in what comes back, and shift the others: TypeORM would give an
 * entity the key and the generated values of another row. Called before the statement is run.
 *
 * @param madeHere keys that were made for a row, asked when it has been sent
 * @returns gives each entity of a result what is its own. Ignored ones have no identifier; where keys are not known
 * beforehand, nobody can tell who was ignored, and none has
 */
export function withIgnored(
  { metadata, keys }: EntityModel,
  entities: readonly ObjectLiteral[],
  madeHere: (index: number, key: ColumnMetadata) => unknown,
): (result: InsertResult) => void {
  const before = entities.map((entity) => metadata.columns.map((column): unknown => column.getEntityValue(entity)))
  const keyOf = (valueOf: (column: ColumnMetadata) => unknown) =>
    JSON.stringify(keys.map(({ column }) => keyText(column, valueOf(column))))
  return (result) => {
    const rows = result.raw as readonly ObjectLiteral[]
    if (!Array.isArray(rows) || rows.length === entities.length) return
    const mapOf = new Map(
      rows.map((row, at) => [keyOf(({ databaseName }) => row[databaseName]), result.generatedMaps[at]]),
    )
    for (const [at, entity] of entities.entries())
      for (const [i, column] of metadata.columns.entries())
        if (column.getEntityValue(entity) !== before[at]?.[i]) column.setEntityValue(entity, before[at]?.[i])
    const own = entities.map((entity, at) => {
      const key = keyOf((column) => madeHere(at, column) ?? column.getEntityValue(entity))
      const map = mapOf.get(key)
      mapOf.delete(key)
      return map
    })
    const isTold = mapOf.size === 0
    for (const [at, entity] of entities.entries()) {
      const map = isTold ? own[at] : undefined
      if (map !== undefined) metadata.dataSource.manager.merge(metadata.target, entity, map)
      result.generatedMaps[at] = map ?? {}
      result.identifiers[at] = (map && metadata.getEntityIdMap(entity)) as ObjectLiteral // undefined, as TypeORM has it
    }
  }
}

function keyText({ type }: ColumnMetadata, value: unknown): unknown {
  if (typeof value === 'string' && type === 'uuid') return value.toLowerCase()
  return typeof value === 'number' || typeof value === 'bigint' ? String(value) : value
}
