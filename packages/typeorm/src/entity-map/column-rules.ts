import { FieldsealError } from '@fieldseal/core/adapter'
import type { EntityMetadata } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import { identifiersIn } from '../guard/sql-identifiers.ts'

const INDEX_HINT = 'say blindIndex instead: an index on ciphertext finds nothing'

/**
 * Refuses columns that cannot be encrypted: the database would see random bytes where it needs the value itself.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID naming table and column
 */
export function assertEncryptable(
  column: ColumnMetadata,
  metadata: EntityMetadata,
  all: readonly EntityMetadata[],
  { holdsPlaintext }: { readonly holdsPlaintext: boolean },
): void {
  const refuse = (reason: string, hint?: string): never => {
    throw configError(metadata, column.databaseName, reason, hint)
  }
  if (metadata.tableType === 'view') refuse('a view column cannot be declared encrypted')
  if (column.isPrimary) refuse('a primary key cannot be encrypted')
  if (column.referencedColumn !== undefined || column.relationMetadata !== undefined)
    refuse('a foreign key cannot be encrypted')
  if (isReferenced(column, metadata, all)) refuse('a column that a foreign key references cannot be encrypted')
  if (column.isDiscriminator) refuse('a discriminator cannot be encrypted')
  if (column.isGenerated || column.asExpression !== undefined)
    refuse('a column that the database generates cannot be encrypted')
  if (column.isVersion || column.isCreateDate || column.isUpdateDate || column.isDeleteDate || column.isTreeLevel) {
    refuse('a column that TypeORM maintains cannot be encrypted')
  }
  if (column.isArray) refuse('an array column cannot be encrypted', "use type: 'json'")
  if (column.default !== undefined || column.onUpdate !== undefined)
    refuse('a database default would be stored as plaintext')
  if (holdsPlaintext) return // indexes and constraints see what they always saw
  if (metadata.indices.some((index) => index.columns.includes(column)))
    refuse('@Index on an encrypted column', INDEX_HINT)
  if (metadata.uniques.some((unique) => unique.columns.includes(column)))
    refuse('@Unique on an encrypted column', INDEX_HINT)
  const constraints = [
    ...metadata.checks,
    ...metadata.exclusions,
    ...metadata.indices.map((index) => ({ expression: index.where ?? '' })),
  ]
  if (constraints.some(({ expression }) => mentions(expression, column))) {
    refuse('a constraint or partial index that names an encrypted column would test ciphertext')
  }
}

export function configError(metadata: EntityMetadata, field: string, reason: string, hint?: string): FieldsealError {
  return new FieldsealError('ERR_CONFIG_INVALID', {
    model: metadata.tableName,
    field,
    reason,
    ...(hint === undefined ? {} : { hint }),
  })
}

function isReferenced(column: ColumnMetadata, metadata: EntityMetadata, all: readonly EntityMetadata[]): boolean {
  return all.some((other) =>
    other.foreignKeys.some(
      (key) => key.referencedEntityMetadata === metadata && key.referencedColumns.includes(column),
    ),
  )
}

function mentions(expression: string, column: ColumnMetadata): boolean {
  return identifiersIn(expression).some(
    ({ names }) => names.at(-1)?.toLowerCase() === column.databaseName.toLowerCase(),
  )
}
