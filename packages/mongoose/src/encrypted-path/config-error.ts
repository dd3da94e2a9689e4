import { FieldsealError } from '@fieldseal/core/adapter'

/** A fault of an annotation or of where it stands. */
export function configError(field: string, operation: string, reason: string, hint?: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', {
    field,
    operation,
    reason: `${operation}: ${reason}`,
    ...(hint === undefined ? {} : { hint }),
  })
}
