import { FieldsealError, type Field } from '@fieldseal/core/adapter'
import { InstanceChecker } from 'typeorm'
import { fieldValue } from '../read-path/stored-cell.ts'
import { Sealed } from '../carrier/sealed.ts'

/**
 * The `to` of an encrypted column's transformer. TypeORM compares entity and database row with it by `===`, one right
 * after the other: equal values give the same carrier. A value that could not be opened is equal to itself.
 *
 * A carrier and not the key itself: a query builder that is not ours would put it into a statement.
 */
export function comparable(field: Field): (value: unknown) => unknown {
  let last: { readonly key: string | null; readonly carrier: Sealed } | undefined
  return (value) => {
    if (value === undefined || value === null) return value
    assertValue(field, value)
    const key = field.compareKey(value)
    if (last?.key !== key) last = { key, carrier: new Sealed({ kind: 'compared', key }) }
    return last.carrier
  }
}

/** What the tokens beside a value that is stored unencrypted are computed of; undefined where nobody but the database knows it. */
export function valueToIndex(field: Field, value: unknown): unknown {
  if (value === null || typeof value === 'function' || InstanceChecker.isFindOperator(value)) return undefined
  return fieldValue(field, value)
}

/**
 * Refuses what TypeORM takes for a value and is none.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED for SQL expressions and find operators
 */
export function assertValue(field: Field, value: unknown): void {
  if (typeof value === 'function') {
    throw new FieldsealError('ERR_WRITE_UNSUPPORTED', {
      model: field.model,
      field: field.path,
      reason: 'sql-expression',
      hint: 'the database cannot compute an encrypted value: read, change and save it',
    })
  }
  if (InstanceChecker.isFindOperator(value)) {
    throw new FieldsealError('ERR_WRITE_UNSUPPORTED', {
      model: field.model,
      field: field.path,
      reason: 'find-operator',
    })
  }
}
