import { FieldsealError, type Field, type PatchedCell, type RecordMap, type RowPatch } from '@fieldseal/core/adapter'
import { storedForm } from '../carrier/stored-form.ts'
import type { SealedColumn } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { updateRows } from './guarded-update.ts'
import type { Place } from './place.ts'
import { keyTypes, onPrimary, tableOf, type ModelTable } from './table.ts'

/**
 * Replaces cells only where the stored bytes are still those of `before`, all cells of a row or none: it skips rows that
 * somebody has locked, runs no listeners, bumps no version and no update date.
 */
export async function compareAndSet(
  installation: Installation,
  map: RecordMap,
  patches: readonly RowPatch[],
): Promise<readonly ('updated' | 'changed')[]> {
  if (patches.length === 0) return []
  const table = tableOf(installation, map)
  const escape = (name: string) => installation.dataSource.driver.escape(name)
  const places = patchedColumns(table, patches).map((column) => placeOf(column, escape))
  return onPrimary(installation, async (query) => {
    const deps = {
      query,
      escape,
      keepsKeys: true,
      keyTypes: installation.keyTypes.get(map) ?? (await keyTypes(installation, table, query)),
    }
    const updated = await updateRows(table, places, patches, deps)
    return updated.map((outcome) => (outcome === 'updated' ? outcome : 'changed'))
  })
}

function placeOf({ field, envelope, storage }: SealedColumn, escape: (name: string) => string): Place {
  return {
    field,
    name: escape(envelope.databaseName),
    type: storage === 'text' ? 'text' : 'bytea',
    before: ({ before }) => storedForm(before as RowPatch['cells'][number]['before'], storage), // a patch of envelopes
    after: ({ after }) => storedForm(after as RowPatch['cells'][number]['after'], storage),
    read: ({ columns }) => columns[envelope.databaseName],
  }
}

/** The columns of the fields that patches name. @throws FieldsealError ERR_ARGUMENT_INVALID for one of another model */
export function patchedColumns(table: ModelTable, patches: readonly RowPatch<PatchedCell>[]): SealedColumn[] {
  const fields = new Set<Field>()
  for (const { cells } of patches) for (const { field } of cells) fields.add(field)
  const columns = table.columns.filter(({ field }) => fields.delete(field))
  if (fields.size > 0)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      model: table.map.id,
      reason: 'a patch names a field of another model',
    })
  return columns
}
