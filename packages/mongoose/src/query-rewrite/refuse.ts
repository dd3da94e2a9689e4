import { FieldsealError } from '@fieldseal/core/adapter'

/** A query that cannot be answered on an encrypted path. */
export function refuseQuery(model: string, path: string, reason: string, hint: string): never {
  throw new FieldsealError('ERR_QUERY_UNSUPPORTED', { model, field: path, reason, hint })
}

/** A write that cannot be protected. */
export function refuseWrite(model: string, path: string, reason: string, hint: string): never {
  throw new FieldsealError('ERR_WRITE_UNSUPPORTED', { model, field: path, reason, hint })
}
