import { FieldsealError, type FieldOptions } from '@fieldseal/core/adapter'
import { getMetadataArgsStorage, type ColumnType, type EntitySchemaColumnOptions } from 'typeorm'
import { annotatedTransformer, VALUE_TYPE, type ColumnAnnotation, type Storage } from './annotation.ts'

/** Type names of encrypted columns and what their properties hold. `date` is an instant, `day` a calendar day as `YYYY-MM-DD`. */
export interface EncryptedTypes {
  readonly string: string
  readonly number: number
  readonly boolean: boolean
  readonly bigint: bigint
  readonly date: Date
  readonly day: string
  readonly bytes: Uint8Array
  readonly json: NonNullable<unknown>
}

/** Options of one encrypted column. */
export interface EncryptedColumnOptions<T extends keyof EncryptedTypes = 'string', N extends boolean = boolean>
  extends FieldOptions {
  /** `string`, `number`, `boolean`, `bigint`, `date` (an instant), `day` (a calendar day as `YYYY-MM-DD`), `bytes` or `json`. @defaultValue 'string' */
  readonly type?: T
  /** Whether the property may hold null. @defaultValue false */
  readonly nullable?: N
  /** `text` (base64url) or `binary` (bytea). @defaultValue that of `withFieldseal`, which is 'text' */
  readonly storage?: Storage
  /** Column name. @defaultValue TypeORM's naming strategy */
  readonly name?: string
  /** False leaves the column out of reads that do not name it. @defaultValue true */
  readonly select?: boolean
  /** Comment of the column in the database. */
  readonly comment?: string
}

const TYPE_NAMES: readonly string[] = ['string', 'number', 'boolean', 'bigint', 'date', 'day', 'bytes', 'json']
const COLUMN_OPTIONS: readonly string[] = ['type', 'nullable', 'storage', 'name', 'select', 'comment']

/** What a property may hold: null only in a nullable column, undefined (not set) always. */
type PropertyValue<T extends keyof EncryptedTypes, N extends boolean> =
  | EncryptedTypes[T]
  | undefined
  | (true extends N ? null : never)
type EncryptedProperty<T extends keyof EncryptedTypes, N extends boolean> = <
  K extends string,
  O extends { [P in K]?: PropertyValue<T, N> },
>(
  target: O,
  property: K,
) => void

/**
 * Makes a property an encrypted column. The type of the property is checked at compile time against `type` and
 * `nullable`; a DataSource that was not given to `withFieldseal` refuses to start.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for an unknown `type` or `storage`
 */
export function EncryptedColumn<T extends keyof EncryptedTypes = 'string', N extends boolean = false>(
  options: EncryptedColumnOptions<T, N> = {},
): EncryptedProperty<T, N> {
  const column = columnOptions(options)
  return (target, property) => {
    const { columns } = getMetadataArgsStorage()
    // TypeORM keeps the first column arguments of a property: ours would be lost without a word, and plaintext stored.
    if (columns.some((other) => other.target === target.constructor && other.propertyName === property)) {
      throw new FieldsealError('ERR_CONFIG_INVALID', {
        model: target.constructor.name,
        field: property,
        reason: 'the property already has a column decorator',
        hint: '@EncryptedColumn() stands alone, without @Column()',
      })
    }
    columns.push({ target: target.constructor, propertyName: property, mode: 'regular', options: column })
  }
}

/**
 * An encrypted column of an EntitySchema: `columns: { email: encryptedSchemaColumn({ blindIndex: true }) }`.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for an unknown `type` or `storage`
 */
export function encryptedSchemaColumn<T extends keyof EncryptedTypes = 'string'>(
  options: EncryptedColumnOptions<T> = {},
): EntitySchemaColumnOptions {
  return columnOptions(options)
}

function columnOptions(options: EncryptedColumnOptions<keyof EncryptedTypes>) {
  const annotation = annotate(options)
  return {
    type: VALUE_TYPE as ColumnType, // no type of TypeORM's: it refuses to start until withFieldseal resolves it
    nullable: annotation.nullable,
    transformer: annotatedTransformer(annotation, () => {
      throw new FieldsealError('ERR_PLAINTEXT_BLOCKED', { reason: 'the DataSource was not passed to withFieldseal' })
    }),
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.select === undefined ? {} : { select: options.select }),
    ...(options.comment === undefined ? {} : { comment: options.comment }),
  }
}

function annotate(options: EncryptedColumnOptions<keyof EncryptedTypes>): ColumnAnnotation {
  const { type = 'string', nullable = false, storage } = options
  if (!TYPE_NAMES.includes(type)) {
    throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'type', hint: `one of ${TYPE_NAMES.join(', ')}` })
  }
  if (storage !== undefined && storage !== 'text' && storage !== 'binary') {
    throw new FieldsealError('ERR_CONFIG_INVALID', { field: 'storage', hint: "'text' or 'binary'" })
  }
  const field = Object.fromEntries(Object.entries(options).filter(([name]) => !COLUMN_OPTIONS.includes(name)))
  return Object.freeze({ type, nullable, storage, field: Object.freeze(field) })
}
