import { FieldsealError, type Field } from '@fieldseal/core/adapter'
import { InstanceChecker } from 'typeorm'

/**
 * The `to` of an encrypted column's transformer. TypeORM compares entity and database row by it, so it is deterministic;
 * nothing it returns is ever stored. A value that could not be opened is equal to itself.
 */
export function comparable(field: Field): (value: unknown) => unknown {
  return (value) => {
    if (value === undefined || value === null) return value
    assertValue(field, value)
    return field.compareKey(value)
  }
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
