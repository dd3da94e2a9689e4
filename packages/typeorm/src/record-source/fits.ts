import { isEnvelopeText, FieldsealError, type Field, type PlainCell, type RecordMap } from '@fieldseal/core/adapter'
import { turnsInPlace, type SealedColumn } from '../entity-map/entity-model.ts'
import type { Conversions } from '../install/driver.ts'
import type { Installation } from '../install/installation.ts'
import { fieldValue } from '../read-path/stored-cell.ts'
import { isRefusal } from './convert.ts'
import { columnTypes, onPrimary, tableOf } from './table.ts'

/**
 * Whether the old column takes each value and gives it back. The database is asked: what a varchar(20), a numeric(10, 2)
 * or a timestamp(0) would cut or round without a word does not fit, nor what its character set lacks.
 */
export async function fits(
  installation: Installation,
  map: RecordMap,
  field: Field,
  values: readonly unknown[],
): Promise<readonly boolean[]> {
  const table = tableOf(installation, map)
  const sealed = table.columns.find((column) => column.field === field)
  if (sealed?.plain === undefined)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      model: map.id,
      field: field.path,
      reason: 'no place for plaintext',
    })
  const { plain } = sealed
  const inPlace = turnsInPlace(sealed)
  if (inPlace && values.some((value) => typeof value !== 'string'))
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: map.id, field: field.path, reason: 'not a text' })
  const stored = inPlace ? values : values.map((value) => installation.conversions.persist(value, plain))
  return onPrimary(installation, async (query) => {
    const types = await columnTypes(table, query)
    const { open = 'text', whole = 'text' } = types.get(plain.databaseName) ?? {}
    const statement = `SELECT x::${open}::${whole} AS stored FROM unnest($1::text[]) WITH ORDINALITY AS v(x, place) ORDER BY place`
    /** What the column makes of some values. */
    const ask = async (at: readonly number[]) => {
      const rows = await query(statement, [at.map((index) => stored[index])])
      return at.map((index, place) =>
        givesBack(sealed, values[index], rows[place]?.['stored'], installation.conversions),
      )
    }
    const alone = async (index: number) => {
      try {
        return (await ask([index]))[0] ?? false
      } catch (error) {
        if (isRefusal(error)) return false
        throw error
      }
    }
    const answers: boolean[] = []
    try {
      answers.push(...(await ask([...values.keys()])))
    } catch (error) {
      if (!isRefusal(error)) throw error
      for (const index of values.keys()) answers.push(await alone(index))
    }
    return answers.map((answer, index) => answer && !(inPlace && isEnvelopeText(stored[index] as string))) // texts, see above
  })
}

/** Whether a stored value reads as the one that was to be stored. */
function givesBack(sealed: SealedColumn, value: unknown, stored: unknown, { hydrate }: Conversions): boolean {
  const { field, plain } = sealed
  if (plain === undefined) return false
  try {
    const read = turnsInPlace(sealed) ? stored : fieldValue(field, hydrate(stored, plain))
    return field.compareKey(read) === field.compareKey(value)
  } catch {
    return false // of another type
  }
}

/** Types whose values JavaScript holds as exactly as the database. */
const EXACT: readonly string[] = ['string', 'bytes', 'boolean', 'day']

/** Whether writing the values of plain cells again would store the same: asked of the database, which knows its types. */
export async function isWhole(
  installation: Installation,
  map: RecordMap,
  field: Field,
  cells: readonly PlainCell[],
): Promise<readonly boolean[]> {
  const table = tableOf(installation, map)
  const { plain } = table.columns.find((column) => column.field === field) ?? {}
  if (plain === undefined || EXACT.includes(field.type)) return cells.map(() => true)
  return onPrimary(installation, async (query) => {
    const types = await columnTypes(table, query)
    const { open = 'text', whole = 'text' } = types.get(plain.databaseName) ?? {}
    // As JSON, in which numbers are equal however they are spelled, and times are not cut.
    const same = `to_jsonb(x::${open}::${whole}) = to_jsonb(s::${open}::${whole})`
    const rows = await query(
      `SELECT s IS NULL OR ${same} AS same FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS v(x, s, place) ORDER BY place`,
      [
        cells.map(({ value }) => installation.conversions.persist(value, plain)),
        cells.map(({ stored }) => (typeof stored === 'string' ? stored : null)),
      ],
    )
    return cells.map((_, index) => rows[index]?.['same'] === true)
  })
}
