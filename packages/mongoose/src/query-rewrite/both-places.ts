import { isFieldsealError, type Field } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { isDoc, isOperators, plain } from '../bson/documents.ts'
import { toCoreValue } from '../bson/driver-values.ts'
import type { Walked } from '../path-graph/walk-path.ts'
import type { FilterScope } from './rewrite-filter.ts'

const VALUES: readonly string[] = ['$eq', '$ne']
const LISTS: readonly string[] = ['$in', '$nin', '$all']

/**
 * Whether a condition on a path in state `plaintext` can be asked of its tokens too, where a newer build has encrypted
 * already. What cannot is asked of the plaintext alone, as before the path was annotated: nothing is blocked in this state.
 */
export function reachesBothPlaces(value: unknown, { node, spread }: Walked, scope: FilterScope): boolean {
  const field = node?.field
  if (field === undefined || field.encryptNull) return false
  const index = field.blindIndex
  const isSearchable =
    index !== undefined &&
    !index.truncated &&
    scope.terms.reaches(index) &&
    !(scope.collation && field.type === 'string')
  const isSought = (each: unknown) => isSearchable && fits(field, plain(each))
  const isAnswerable = (condition: unknown): boolean => {
    if (!isOperators(condition)) return isMissing(condition) ? !spread : isSought(condition)
    return Object.entries(condition).every(([operator, operand]) => {
      if (VALUES.includes(operator)) return isMissing(operand) ? !spread : isSought(operand)
      if (LISTS.includes(operator)) return Array.isArray(operand) && operand.length > 0 && operand.every(isSought)
      return operator === '$exists' || (operator === '$not' && isDoc(operand) && isAnswerable(operand))
    })
  }
  return isAnswerable(value)
}

/** A value that the field cannot hold has never been encrypted. */
function fits(field: Field, value: unknown): boolean {
  if (isMissing(value) || Array.isArray(value) || value instanceof RegExp || value instanceof mongo.BSONRegExp)
    return false
  if (isOperators(value)) return false
  try {
    field.compareKey(toCoreValue(field.type, value))
    return true
  } catch (error) {
    if (isFieldsealError(error) && error.code === 'ERR_VALUE_INVALID') return false
    throw error
  }
}

function isMissing(value: unknown): value is null | undefined {
  return value === null || value === undefined
}
