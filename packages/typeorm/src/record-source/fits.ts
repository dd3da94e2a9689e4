import { isEnvelopeText, FieldsealError, type Field, type RecordMap } from '@fieldseal/core/adapter'
import { turnsInPlace } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
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
    // A string has to come back as it is; of other types the database has its own spelling.
    const spelled = field.type === 'string' ? 'x' : `(x::${open})::text`
    const statement = `SELECT (x::${open}::${whole})::text = ${spelled} AS fits FROM unnest($1::text[]) WITH ORDINALITY AS v(x, place) ORDER BY place`
    const ask = async (some: readonly unknown[]) => (await query(statement, [some])).map((row) => row['fits'] === true)
    const alone = async (value: unknown) => {
      try {
        return (await ask([value]))[0] ?? false
      } catch (error) {
        if (isRefusal(error)) return false
        throw error
      }
    }
    const answers: boolean[] = []
    try {
      answers.push(...(await ask(stored)))
    } catch (error) {
      if (!isRefusal(error)) throw error
      for (const value of stored) answers.push(await alone(value))
    }
    return answers.map((answer, index) => answer && !(inPlace && isEnvelopeText(stored[index] as string))) // texts, see above
  })
}
