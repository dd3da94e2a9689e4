import {
  FieldsealError,
  isPlainCell,
  tokenSlot,
  type Converted,
  type Envelope,
  type Field,
  type PatchedCell,
  type PlainCell,
  type RecordMap,
  type RowPatch,
  type StoredCell,
} from '@fieldseal/core/adapter'
import { storedForm } from '../carrier/stored-form.ts'
import { turnsInPlace, type SealedColumn } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { patchedColumns, type RowKey } from './compare-and-set.ts'
import { guardedUpdate } from './guarded-update.ts'
import { columnTypes, keyText, onPrimary, tableOf, type ColumnTypes, type ModelTable } from './table.ts'

type Patches = readonly RowPatch<PatchedCell>[]

/** Class 23: integrity constraints; 22: values that a column does not take. */
const REFUSALS = /^2[23]/

/**
 * `compareAndSet` for cells on their way between plaintext and envelopes, and for their tokens: all places of a row or
 * none, in one statement for all rows. Rows that somebody has locked are skipped.
 *
 * A row that a constraint refuses fails the statement: then each row gets a statement of its own, and it alone is refused.
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
    const parts = partsOf(installation, columns, types, escape).filter((part) =>
      patches.some(({ cells }) => cells.some((cell) => cell.field === part.field && part.isTouched(cell))),
    )
    const keys = table.keys.map(({ column }) => types.get(column.databaseName)?.open ?? 'text')
    const statement = statementOf(table, parts, keys, escape)
    const run = async (some: Patches): Promise<readonly Converted[]> => {
      const updated = await query(statement, parametersOf(table, parts, some))
      const places = new Set(updated.map(({ place }) => Number(place)))
      return some.map((_, index) => (places.has(index + 1) ? 'updated' : 'changed'))
    }
    try {
      return await run(patches)
    } catch (error) {
      if (!isRefusal(error)) throw error
    }
    const results: Converted[] = []
    for (const patch of patches) {
      try {
        results.push(...(await run([patch])))
      } catch (error) {
        if (!isRefusal(error)) throw error
        results.push('refused')
      }
    }
    return results
  })
}

/** Whether the database refused a value, or a row as it would be. */
export function isRefusal(error: unknown): boolean {
  return REFUSALS.test(String(Reflect.get(Object(error), 'code')))
}

/** One column of a field: what must stand there, and what shall. A value is undefined where a patch leaves it alone. */
interface Part {
  readonly name: string
  /** In which form the values travel. */
  readonly type: 'text' | 'bytea'
  /** SQL of what is stored there, in that form. */
  readonly stored: string
  /** SQL of a value that travelled, in the type of the column. */
  readonly cast: (value: string) => string
  readonly field: Field
  readonly before: (cell: PatchedCell) => unknown
  readonly after: (cell: PatchedCell) => unknown
  readonly isTouched: (cell: PatchedCell) => boolean
}

function partsOf(
  { conversions }: Installation,
  columns: readonly SealedColumn[],
  types: ColumnTypes,
  escape: (name: string) => string,
): readonly Part[] {
  return columns.flatMap((sealed): Part[] => {
    const { field, envelope, plain, storage, slots } = sealed
    const name = escape(envelope.databaseName)
    const type = storage === 'text' ? 'text' : 'bytea'
    const inPlace = turnsInPlace(sealed)
    const own = (cell: StoredCell) => ownForm(sealed, cell)
    const changed = (form: (cell: StoredCell) => unknown) => (cell: PatchedCell) =>
      cell.after === cell.before ? undefined : form(cell.after)
    const parts: Part[] = [
      {
        name,
        type,
        stored: `t.${name}`,
        cast: (value) => value,
        field,
        before: ({ before }) => own(before),
        after: changed(own),
        isTouched: () => true,
      },
    ]
    if (plain !== undefined && !inPlace) {
      const plainForm = (cell: StoredCell) => (isPlainCell(cell) ? conversions.persist(cell.value, plain) : null)
      const old = escape(plain.databaseName)
      parts.push({
        name: old,
        type: 'text',
        stored: `t.${old}::text`,
        // Without length or precision: those apply when the value is assigned, and refuse instead of cutting it.
        cast: (value) => `${value}::${types.get(plain.databaseName)?.open ?? 'text'}`,
        field,
        before: ({ before }) =>
          isPlainCell(before) ? (before.stored ?? conversions.persist(before.value, plain)) : null,
        // What is there already is not written again: its spelling may be finer than the value.
        after: (cell) => (keepsPlaintext(cell) ? undefined : changed(plainForm)(cell)),
        isTouched: () => true,
      })
    }
    for (const slot of slots === undefined ? [] : (['odd', 'even'] as const)) {
      const column = escape(slots?.[slot].databaseName ?? '')
      parts.push({
        name: column,
        type: 'bytea',
        stored: `t.${column}`,
        cast: (value) => value,
        field,
        before: () => undefined,
        after: ({ tokens }) => tokens && bufferOf(tokens.find((token) => tokenSlot(token) === slot)),
        isTouched: ({ tokens }) => tokens !== undefined,
      })
    }
    return parts
  })
}

function keepsPlaintext({ before, after }: PatchedCell): boolean {
  return isPlainCell(before) && isPlainCell(after) && before.value === after.value
}

/** What stands in the column of envelopes. */
function ownForm(sealed: SealedColumn, cell: StoredCell): string | Buffer | null {
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

function statementOf(
  table: ModelTable,
  parts: readonly Part[],
  types: readonly string[],
  escape: (name: string) => string,
): string {
  return guardedUpdate(table, types, escape, {
    arrays: parts.flatMap(({ type }, index) => [
      { name: `c${index}`, type: 'boolean' },
      { name: `o${index}`, type },
      { name: `s${index}`, type: 'boolean' },
      { name: `n${index}`, type },
    ]),
    unchanged: parts.map(({ stored }, index) => `(NOT v.c${index} OR ${stored} IS NOT DISTINCT FROM v.o${index})`),
    set: parts.map(
      ({ name, cast }, index) => `${name} = CASE WHEN v.s${index} THEN ${cast(`v.n${index}`)} ELSE t.${name} END`,
    ),
  })
}

function parametersOf(table: ModelTable, parts: readonly Part[], patches: Patches): unknown[][] {
  const keys = table.keys.map(({ path }) => patches.map(({ key }) => keyText((key as RowKey)[path]))) // keys are ours: pages() makes them
  const values = parts.flatMap(({ field, before, after }) => {
    const cells = patches.map((patch) => patch.cells.find((cell) => cell.field === field))
    const [old, fresh] = [before, after].map((form) => cells.map((cell) => cell && form(cell)))
    return [old, fresh].flatMap((column = []) => [
      column.map((value) => value !== undefined),
      column.map((value) => value ?? null),
    ])
  })
  return [...keys, ...values]
}
