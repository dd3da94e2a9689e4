import { FieldsealError } from '@fieldseal/core/adapter'
import type { PathNode } from '../path-graph/path-node.ts'

/** A query that cannot be answered on an encrypted path. */
export function refuseQuery(model: string, path: string, reason: string, hint: string): never {
  throw new FieldsealError('ERR_QUERY_UNSUPPORTED', { model, field: path, reason, hint })
}

/** A write that cannot be protected. */
export function refuseWrite(model: string, path: string, reason: string, hint: string): never {
  throw new FieldsealError('ERR_WRITE_UNSUPPORTED', { model, field: path, reason, hint })
}

/** A path that holds the old plaintext of another. */
export function refuseOldPlace(
  model: string,
  path: string,
  { annotation }: PathNode,
  refuse: typeof refuseQuery = refuseQuery,
): never {
  return refuse(model, path, 'plaintext-path', `it is the other place of '${annotation?.path ?? ''}': use that`)
}
