import { isFieldsealError, type Field } from '@fieldseal/core/adapter'
import { InstanceChecker, type FindOperator } from 'typeorm'
import type { SealedColumn } from '../entity-map/entity-model.ts'
import type { BuilderState } from './builder-state.ts'

/**
 * Whether a condition on a field in state `plaintext` can be asked of its tokens too, where a newer build has encrypted
 * already. What cannot is asked of the plaintext alone, as before the field was annotated: nothing is blocked in this state.
 */
export function reachesBothPlaces(sealed: SealedColumn, value: unknown, state: BuilderState): boolean {
  const { field, slots } = sealed
  const index = slots?.index
  const { tenant } = state.requireContext()
  const isSearchable = index !== undefined && !index.truncated && (index.acrossTenants || typeof tenant === 'string')
  return isAnswerable(value, (each) => isSearchable && fits(field, each), !field.encryptNull)
}

function isAnswerable(value: unknown, isSought: (value: unknown) => boolean, nulls: boolean): boolean {
  if (!InstanceChecker.isFindOperator(value)) return isSought(value)
  const { type, child, value: operand } = value as FindOperator<unknown>
  switch (type) {
    case 'equal':
      return isSought(operand)
    case 'in':
      return Array.isArray(operand) && operand.every(isSought)
    case 'not':
      return isAnswerable(child ?? operand, isSought, nulls)
    case 'isNull':
      return nulls
    case 'and':
    case 'or':
      return Array.isArray(operand) && operand.every((part) => isAnswerable(part, isSought, nulls))
    default:
      return false
  }
}

/** A value that the field cannot hold has never been encrypted. */
function fits(field: Field, value: unknown): boolean {
  if (value === null || value === undefined || typeof value === 'function') return false
  try {
    field.compareKey(value)
    return true
  } catch (error) {
    if (isFieldsealError(error) && error.code === 'ERR_VALUE_INVALID') return false
    throw error
  }
}
