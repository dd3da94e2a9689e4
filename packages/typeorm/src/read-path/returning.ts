import type { ObjectLiteral } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { EntityModel } from '../entity-map/entity-model.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { openRows, type RawRow } from './open-rows.ts'
import { OpenedCell } from './opened-cell.ts'
import { readTwin, sourceColumns } from './row-sources.ts'

/** The result of a statement: rows as they came, and what TypeORM made of them, unless it was a deletion. */
export interface Returned {
  readonly raw: unknown
  readonly generatedMaps?: ObjectLiteral[]
}

/** The columns to return: with an encrypted one come those that tell whose row it is. */
export function returnedColumns(model: EntityModel, columns: ColumnMetadata[]): ColumnMetadata[] {
  const encrypted = model.columns.filter(({ column }) => columns.includes(column))
  if (encrypted.length === 0) return columns
  const twins = encrypted.flatMap((sealed) => readTwin(sealed) ?? [])
  return [...new Set([...columns, ...twins, ...model.facts.map(({ column }) => column)])]
}

/**
 * Decrypts what `RETURNING` brought, in the raw rows and the generated maps, when columns were named as a list. SQL
 * written by the application (`returning('*')`) returns ciphertext, as raw reads do.
 */
export async function openReturned(
  builder: OwnBuilder,
  model: EntityModel,
  { raw, generatedMaps = [] }: Returned,
  entities: readonly ObjectLiteral[],
): Promise<void> {
  const { expressionMap, state } = builder
  if (!Array.isArray(expressionMap.returning) || !Array.isArray(raw) || raw.length === 0) return
  const rows = raw as RawRow[]
  const sample = rows[0] ?? {}
  const columns = sourceColumns(model, ({ databaseName }) => databaseName, sample)
  if (columns.length === 0) return
  const facts = model.facts.map(({ path, column }) => ({ path, key: column.databaseName }))
  const source = { model, columns, facts, keys: model.keys.map(({ column }) => column.databaseName), terms: [] }
  await openRows(state.installation, rows, [source], state.requireContext(), builder.queryRunner)
  for (const [index, row] of rows.entries()) {
    for (const { sealed, key, twinKey } of columns) {
      const cell = row[key]
      const value = OpenedCell.isOpened(cell) ? OpenedCell.valueOf(cell) : cell
      row[key] = value
      if (twinKey !== undefined) Reflect.deleteProperty(row, twinKey)
      sealed.column.setEntityValue((generatedMaps[index] ??= {}), value)
      // Rows that were ignored shift the others: then which entity a row belongs to is not known.
      const entity = rows.length === entities.length ? entities[index] : undefined
      if (entity !== undefined && expressionMap.updateEntity) sealed.column.setEntityValue(entity, value)
    }
  }
}
