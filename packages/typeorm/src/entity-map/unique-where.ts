import { FieldsealError, type BlindIndex, type FieldOptions, type PlainScalar } from '@fieldseal/core/adapter'
import type { EntityMetadata } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import { annotationOf } from '../encrypted-column/annotation.ts'
import { configError } from './column-rules.ts'
import { pathOf } from './entity-model.ts'

/** Types without one text per value. */
const NOT_COMPARABLE: readonly string[] = ['json', 'jsonb', 'xml', 'point', 'simple-json', 'simple-array']

/** Field options as core wants them: stored paths in place of the property names under `unique: { where }`. */
export function withStoredWhere(options: FieldOptions, root: EntityMetadata): FieldOptions {
  const { blindIndex } = options
  if (typeof blindIndex !== 'object' || typeof blindIndex.unique !== 'object') return options
  const unique = storedUnique(blindIndex.unique, root)
  return unique === blindIndex.unique ? options : { ...options, blindIndex: { ...blindIndex, unique } }
}

/** What an index says under `unique`, with stored paths under `where`. */
export function storedUnique<U extends { readonly where: object }>(unique: U, root: EntityMetadata): U {
  const { where } = unique
  if (typeof where !== 'object' || where === null) return unique // core refuses it
  const entries = Object.entries(where).map(([property, value]) => [pathOf(columnOf(property, root)), value] as const)
  return { ...unique, where: Object.fromEntries(entries) }
}

/** The rows for which an index is unique, as the `where` of a partial index; undefined = for all. */
export function wherePredicate(
  { uniqueWhere }: Pick<BlindIndex, 'uniqueWhere'>,
  root: EntityMetadata,
): string | undefined {
  if (uniqueWhere.length === 0) return undefined
  const escape = (name: string) => root.dataSource.driver.escape(name)
  return uniqueWhere
    .map(({ path, equals }) => {
      const column = root.columns.find((candidate) => pathOf(candidate) === path)
      if (column === undefined) throw new FieldsealError('ERR_CONFIG_INVALID', { model: root.tableName, field: path })
      return equals === null
        ? `${escape(column.databaseName)} IS NULL`
        : `${escape(column.databaseName)} = ${literal(equals)}`
    })
    .join(' AND ')
}

function columnOf(property: string, root: EntityMetadata): ColumnMetadata {
  const refuse = (reason: string, hint: string): never => {
    throw configError(root, property, `unique.where: ${reason}`, hint)
  }
  const column = root.findColumnWithPropertyPath(property)
  if (column === undefined) return refuse('no column for this property', 'name a property of the entity')
  if (annotationOf(column) !== undefined) return refuse('it is encrypted', 'an index can be told of plain columns only')
  const isScalar = !column.isArray && column.transformer === undefined && !NOT_COMPARABLE.includes(String(column.type))
  return isScalar ? column : refuse('it holds no scalar as it is stored', 'name a column without transformer')
}

/** Without a type of its own: the database gives it that of the column, or refuses it. */
function literal(value: NonNullable<PlainScalar>): string {
  const text = String(value).replaceAll("'", "''")
  return text.includes('\\') ? `E'${text.replaceAll('\\', '\\\\')}'` : `'${text}'`
}
