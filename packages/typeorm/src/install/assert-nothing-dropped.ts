import { FieldsealError } from '@fieldseal/core/adapter'
import { columnFindings } from '../record-source/inspect.ts'
import type { Installation } from './installation.ts'

/**
 * Refuses to synchronise a table in which an encrypted column has another type: TypeORM would drop the column, and the
 * plaintext in it, to make it anew.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID naming table and column
 */
export async function assertNothingDropped(installation: Installation): Promise<void> {
  for (const map of new Set(installation.models().models.map((model) => model.map))) {
    const wrong = (await columnFindings(installation, map)).find(({ found }) => found !== undefined)
    if (wrong === undefined) continue
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      model: map.id,
      field: wrong.column,
      reason: `the column is ${wrong.found}, expected ${wrong.expected}: TypeORM would drop it with its data`,
      hint: 'write a migration that adds the encrypted column beside it',
    })
  }
}
