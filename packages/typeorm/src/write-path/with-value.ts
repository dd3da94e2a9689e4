import type { ObjectLiteral } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'

/** A copy of `entity` with one column's value replaced; whatever lies beside its path is shared. */
export function withValue(entity: ObjectLiteral, column: ColumnMetadata, value: unknown): ObjectLiteral {
  const path = [...(column.embeddedMetadata?.parentPropertyNames ?? []), column.propertyName]
  return replaced(entity, path, value)
}

function replaced(holder: ObjectLiteral, [name = '', ...rest]: readonly string[], value: unknown): ObjectLiteral {
  if (rest.length === 0) return { ...holder, [name]: value }
  const inner: unknown = holder[name]
  return { ...holder, [name]: replaced((inner ?? {}) as ObjectLiteral, rest, value) } // an embedded is an object
}
