import { FieldsealError, type Field, type PatchedCell, type RecordMap, type RowPatch } from '@fieldseal/core/adapter'
import { storedForm } from '../carrier/stored-form.ts'
import type { SealedColumn } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { guardedUpdate } from './guarded-update.ts'
import { keyText, keyTypes, onPrimary, tableOf, type ModelTable } from './table.ts'

/** Key columns of a row, by stored path. */
export type RowKey = Readonly<Record<string, unknown>>

/**
 * Replaces cells only where the stored bytes are still those of `before`, all cells of a row or none. One statement for
 * all rows: it skips rows that somebody has locked, runs no listeners, bumps no version and no update date.
 */
export async function compareAndSet(
  installation: Installation,
  map: RecordMap,
  patches: readonly RowPatch[],
): Promise<readonly ('updated' | 'changed')[]> {
  if (patches.length === 0) return []
  const table = tableOf(installation, map)
  const columns = patchedColumns(table, patches)
  return onPrimary(installation, async (query) => {
    const statement = updateStatement(table, columns, await keyTypes(table, query), (name) =>
      installation.dataSource.driver.escape(name),
    )
    const updated = await query(statement, parametersOf(table, columns, patches))
    const places = new Set(updated.map(({ place }) => Number(place)))
    return patches.map((_, index) => (places.has(index + 1) ? 'updated' : 'changed'))
  })
}

/** The columns of the fields that patches name. @throws FieldsealError ERR_ARGUMENT_INVALID for one of another model */
export function patchedColumns(table: ModelTable, patches: readonly RowPatch<PatchedCell>[]): SealedColumn[] {
  const fields = new Set<Field>(patches.flatMap(({ cells }) => cells.map(({ field }) => field)))
  const columns = table.columns.filter(({ field }) => fields.delete(field))
  if (fields.size > 0)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      model: table.map.id,
      reason: 'a patch names a field of another model',
    })
  return columns
}

function updateStatement(
  table: ModelTable,
  columns: readonly SealedColumn[],
  types: readonly string[],
  escape: (name: string) => string,
): string {
  return guardedUpdate(table, types, escape, {
    arrays: columns.flatMap(({ storage }, index) =>
      [`o${index}`, `n${index}`].map((name) => ({ name, type: storage === 'text' ? 'text' : 'bytea' })),
    ),
    unchanged: columns.map(
      ({ envelope }, index) => `(v.o${index} IS NULL OR t.${escape(envelope.databaseName)} = v.o${index})`,
    ),
    set: columns.map(
      ({ envelope: { databaseName } }, index) =>
        `${escape(databaseName)} = COALESCE(v.n${index}, t.${escape(databaseName)})`,
    ),
  })
}

function parametersOf(table: ModelTable, columns: readonly SealedColumn[], patches: readonly RowPatch[]): unknown[][] {
  const keys = table.keys.map(({ path }) => patches.map(({ key }) => keyText((key as RowKey)[path]))) // keys are ours: pages() and reads make them
  const cells = columns.flatMap(({ field, storage }) => {
    const ofField = patches.map((patch) => patch.cells.find((cell) => cell.field === field))
    const stored = (part: 'before' | 'after') =>
      ofField.map((cell) => (cell === undefined ? null : storedForm(cell[part], storage)))
    return [stored('before'), stored('after')]
  })
  return [...keys, ...cells]
}
