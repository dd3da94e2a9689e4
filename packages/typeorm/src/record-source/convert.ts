import {
  FieldsealError,
  isPlainCell,
  tokenSlot,
  type Converted,
  type Envelope,
  type Field,
  type IndexToken,
  type PatchedCell,
  type PlainCell,
  type RecordMap,
  type RowPatch,
  type StoredCell,
} from '@fieldseal/core/adapter'
import { storedForm } from '../carrier/stored-form.ts'
import { turnsInPlace, type SealedColumn, type TokenSlots } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { patchedColumns } from './compare-and-set.ts'
import { updateRows } from './guarded-update.ts'
import type { FieldPlace, Form, Place, TokenPlace } from './place.ts'
import { columnTypes, onPrimary, tableOf, type ColumnTypes } from './table.ts'

type Patch = RowPatch<PatchedCell>
type Patches = readonly Patch[]

/** Class 23: integrity constraints; 22: values that a column does not take. */
const REFUSALS = /^2[23]/

/**
 * `compareAndSet` for cells on their way between plaintext and envelopes, and for their tokens: all places of a row or
 * none. Rows that somebody has locked are skipped.
 */
export async function convert(
  installation: Installation,
  map: RecordMap,
  patches: Patches,
): Promise<readonly Converted[]> {
  if (patches.length === 0) return []
  const table = tableOf(installation, map)
  const columns = patchedColumns(table, patches)
  return onPrimary(installation, async (query) => {
    const types = await columnTypes(table, query)
    const escape = (name: string) => installation.dataSource.driver.escape(name)
    const places = [
      ...columns.flatMap((column) => placesOf(installation, column, types, escape)),
      ...table.compounds.flatMap((compound) =>
        tokenPlaces(compound, ({ tokens }) => tokens?.get(compound.index), escape),
      ),
    ]
    const keyTypes = table.keys.map(({ column }) => types.get(column.databaseName)?.open ?? 'text')
    return updateRows(table, places, patches, { query, escape, keyTypes, isRefusal, onlyAsRead: true })
  })
}

/** Whether the database refused a value, or a row as it would be. */
export function isRefusal(error: unknown): boolean {
  return REFUSALS.test(String(Reflect.get(Object(error), 'code')))
}

/** The columns of one field: its envelope, its old plaintext where that stands apart, its tokens. */
function placesOf(
  { conversions }: Installation,
  sealed: SealedColumn,
  types: ColumnTypes,
  escape: (name: string) => string,
): readonly Place[] {
  const { field, envelope, plain, storage, slots } = sealed
  const own = (cell: StoredCell) => ownForm(sealed, cell)
  const changed = (form: (cell: StoredCell) => Form) => (cell: PatchedCell) =>
    cell.after === cell.before ? undefined : form(cell.after)
  const places: FieldPlace[] = [
    {
      field,
      name: escape(envelope.databaseName),
      type: storage === 'text' ? 'text' : 'bytea',
      before: ({ before }) => own(before),
      after: changed(own),
      read: ({ columns }) => columns[envelope.databaseName],
    },
  ]
  if (plain !== undefined && !turnsInPlace(sealed)) {
    const persisted = ({ value }: PlainCell) => conversions.persist(value, plain) as Form // as the driver takes it
    const name = escape(plain.databaseName)
    places.push({
      field,
      name,
      type: 'text',
      // Without length or precision: those apply when the value is assigned, and refuse instead of cutting it.
      cast: (form) => `${form}::${types.get(plain.databaseName)?.open ?? 'text'}`,
      before: ({ before }) => (isPlainCell(before) ? ((before.stored as Form | undefined) ?? persisted(before)) : null), // a text of the database
      // What is there already is not written again: its spelling may be finer than the value.
      after: (cell) =>
        keepsPlaintext(cell) ? undefined : changed((after) => (isPlainCell(after) ? persisted(after) : null))(cell),
      read: (version) => version.plainTexts.get(field),
    })
  }
  const tokensIn = ({ cells }: Patch) => cells.find((cell) => cell.field === field)?.tokens
  return slots === undefined ? places : [...places, ...tokenPlaces(slots, tokensIn, escape)]
}

/** The two columns of an index. */
function tokenPlaces(
  slots: TokenSlots,
  tokensIn: (patch: Patch) => readonly IndexToken[] | undefined,
  escape: (name: string) => string,
): readonly TokenPlace[] {
  return (['odd', 'even'] as const).map((slot) => ({
    name: escape(slots[slot].databaseName),
    type: 'bytea',
    token(patch) {
      const tokens = tokensIn(patch)
      return tokens && bufferOf(tokens.find((token) => tokenSlot(token) === slot))
    },
  }))
}

function keepsPlaintext({ before, after }: PatchedCell): boolean {
  return isPlainCell(before) && isPlainCell(after) && before.value === after.value
}

/** What stands in the column of envelopes. */
function ownForm(sealed: SealedColumn, cell: StoredCell): Form {
  if (cell === null) return null
  if (!isPlainCell(cell)) return storedForm(cell, sealed.storage)
  if (!turnsInPlace(sealed)) return cell.outlived === undefined ? null : storedForm(cell.outlived, sealed.storage)
  return textOf(sealed.field, cell)
}

function textOf({ model, path }: Field, { value }: PlainCell): string {
  if (typeof value === 'string') return value
  throw new FieldsealError('ERR_ARGUMENT_INVALID', { model, field: path, reason: 'plaintext in place is text' })
}

function bufferOf(bytes: Uint8Array | Envelope | undefined): Buffer | null {
  return bytes === undefined ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
