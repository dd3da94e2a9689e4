import { FieldsealError, type ErrorCode } from '@fieldseal/core/adapter'
import { InstanceChecker, IsNull, Raw, type EntityMetadata, type FindOperator, type ObjectLiteral } from 'typeorm'
import { isPlaintext, type SealedColumn } from '../entity-map/entity-model.ts'
import { reachesBothPlaces } from './both-places.ts'
import { compoundConditions } from './compound-terms.ts'
import { placeIn, type ConditionBuilder } from './condition-place.ts'
import { conditionSql } from './term-sql.ts'

/** How far a rewriting goes: TypeORM comes back for relations and embeddeds of find options, not for those of builders. */
export type Depth = 'level' | 'all'

/**
 * Object criteria with every condition on an encrypted column replaced by one on its tokens, as a `Raw` operator: both
 * of TypeORM's ways from criteria to SQL hand that through, however deep it stands. Returns the criteria themselves when
 * nothing in them is encrypted; never changes them.
 *
 * @param prefix property path of the embedded whose criteria these are
 */
export function rewriteWhere<W>(
  builder: ConditionBuilder,
  metadata: EntityMetadata,
  where: W,
  depth: Depth,
  prefix = '',
): W {
  if (!isCriteria(where)) return where
  if (Array.isArray(where)) {
    const items = where.map((item: unknown) => rewriteWhere(builder, metadata, item, depth, prefix))
    return items.some((item, index) => item !== where[index]) ? (items as W) : where // an array of criteria stays one
  }
  const changed: ObjectLiteral = {}
  const compound = prefix === '' ? compoundConditions(builder, metadata, where) : undefined
  for (const [key, value] of Object.entries(where)) {
    const path = prefix === '' ? key : `${prefix}.${key}`
    const rewritten = compound?.get(path) ?? rewriteValue(builder, metadata, path, value, depth)
    if (rewritten !== value) changed[key] = rewritten
  }
  if (Object.keys(changed).length === 0) return where
  return Object.assign(Object.create(Object.getPrototypeOf(where) as object | null), where, changed) as W // same keys, other values
}

function rewriteValue(
  builder: ConditionBuilder,
  metadata: EntityMetadata,
  path: string,
  given: unknown,
  depth: Depth,
): unknown {
  const value = given === null && depth === 'level' && nullIsNull(metadata) ? IsNull() : given
  if (value === undefined || value === null) return value // TypeORM has options for what these mean
  const column = metadata.columns.find((candidate) => candidate.propertyPath === path)
  const registry = builder.state.installation.models()
  const sealed = column && registry.sealed(column)
  if (sealed !== undefined)
    return isPlaintext(sealed) && !reachesBothPlaces(sealed, value, builder.state)
      ? given
      : rewriteCondition(builder, sealed, path, value)
  const twinOf = column && registry.ownerOfTwin(column)
  if (twinOf !== undefined) throw refusedTwin(twinOf)
  if (depth === 'level' || !isCriteria(value)) return given
  const relation = metadata.findRelationWithPropertyPath(path)
  if (relation !== undefined) return rewriteWhere(builder, relation.inverseEntityMetadata, value, depth)
  return metadata.hasEmbeddedWithPropertyPath(path) ? rewriteWhere(builder, metadata, value, depth, path) : value
}

/** What null means in find options; in those of builders it is equal to nothing. */
function nullIsNull({ dataSource }: EntityMetadata): boolean {
  return dataSource.options.invalidWhereValuesBehavior?.null === 'sql-null'
}

function rewriteCondition(
  builder: ConditionBuilder,
  sealed: SealedColumn,
  path: string,
  value: unknown,
): FindOperator<unknown> {
  // TypeORM calls this when it renders the condition, with the alias under which the entity stands.
  return Raw((aliasPath) => conditionSql(placeIn(builder, aliasPath, path), sealed, value))
}

/** Which of its two columns holds a value, only the field knows. */
export function refusedTwin(
  { field, column }: SealedColumn,
  code: ErrorCode = 'ERR_QUERY_UNSUPPORTED',
): FieldsealError {
  return new FieldsealError(code, {
    model: field.model,
    field: field.path,
    reason: 'plaintext-column',
    hint: `the column is the other place of the property '${column.propertyPath}': use that`,
  })
}

function isCriteria(value: unknown): value is ObjectLiteral {
  if (typeof value !== 'object' || value === null) return false
  return !InstanceChecker.isFindOperator(value) && !(value instanceof Date) && !(value instanceof Uint8Array)
}
