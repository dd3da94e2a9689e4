import {
  EntityNotFoundError,
  InstanceChecker,
  type EntityMetadata,
  type EntityTarget,
  type ObjectLiteral,
} from 'typeorm'
import type { Installation } from './installation.ts'

const REDACTED = '[redacted]'

/** TypeORM puts the criteria into message and property of the error: their keys stay, values of encrypted columns go. */
export function redactNotFound(
  error: unknown,
  { dataSource, models }: Installation,
  [target, criteria]: readonly unknown[],
): unknown {
  if (!(error instanceof EntityNotFoundError)) return error
  const entity = target as EntityTarget<ObjectLiteral> // TypeORM has found it, or the error would be another
  const redact = (metadata: EntityMetadata, where: unknown, prefix: string): unknown => {
    if (Array.isArray(where)) return where.map((item) => redact(metadata, item, prefix))
    if (typeof where !== 'object' || where === null || InstanceChecker.isFindOperator(where)) return where
    return Object.fromEntries(
      Object.entries(where).map(([key, value]) => {
        const path = prefix === '' ? key : `${prefix}.${key}`
        const column = metadata.columns.find(({ propertyPath }) => propertyPath === path)
        if (column !== undefined) return [key, models().sealed(column) === undefined ? value : REDACTED]
        const relation = metadata.findRelationWithPropertyPath(path)
        if (relation !== undefined) return [key, redact(relation.inverseEntityMetadata, value, '')]
        return [key, metadata.hasEmbeddedWithPropertyPath(path) ? redact(metadata, value, path) : value]
      }),
    )
  }
  const metadata = dataSource.getMetadata(entity)
  const hasWhere = typeof criteria === 'object' && criteria !== null && 'where' in criteria
  const redacted = hasWhere
    ? { ...criteria, where: redact(metadata, criteria.where, '') }
    : redact(metadata, criteria, '')
  return new EntityNotFoundError(entity, redacted)
}
