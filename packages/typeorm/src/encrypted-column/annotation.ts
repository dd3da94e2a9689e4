import type { FieldOptions, ModelOptions } from '@fieldseal/core/adapter'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { EntityMetadata } from 'typeorm'

/** How an encrypted value is stored: `text` = the text form under collation `C`, `binary` = bytea. */
export type Storage = 'text' | 'binary'

/** What `@EncryptedColumn` keeps: the options of the field, and what only a column needs. */
export interface ColumnAnnotation {
  readonly type: string
  readonly nullable: boolean
  readonly storage: Storage | undefined
  readonly field: FieldOptions
}

// Invariant: registered symbols, so that two copies of this package (ESM and CommonJS) read each other's annotations.
const FIELD = Symbol.for('@fieldseal/typeorm:field')
const MODEL = Symbol.for('@fieldseal/typeorm:model')

/** Column type of an encrypted value. TypeORM refuses it, quoting this text, until `withFieldseal` resolves it. */
export const VALUE_TYPE = 'encrypted value (pass this DataSource to withFieldseal before initialize)'
/** Column type of a blind-index token. */
export const TOKEN_TYPE = 'blind-index token (pass this DataSource to withFieldseal before initialize)'

/**
 * The transformer under which annotations travel: TypeORM hands it by reference from the column arguments to the column
 * metadata, for classes, schemas, embeddeds and inherited columns alike.
 */
export interface AnnotatedTransformer {
  readonly [FIELD]: ColumnAnnotation
  readonly [MODEL]?: ModelOptions
  to(value: unknown): unknown
  from(value: unknown): unknown
}

export function annotatedTransformer(
  annotation: ColumnAnnotation,
  to: (value: unknown) => unknown,
): AnnotatedTransformer {
  return { [FIELD]: annotation, to, from: (value) => value }
}

/** The annotation of an encrypted column; undefined for any other. */
export function annotationOf(column: { readonly transformer?: unknown }): ColumnAnnotation | undefined {
  return transformerOf(column)?.[FIELD]
}

/** Keeps model options on an entity class. */
export function annotateClass(target: object, options: ModelOptions): void {
  Object.defineProperty(target, MODEL, { value: options, configurable: true })
}

/** Keeps model options on every encrypted column of a schema. @returns false when it has none */
export function annotateSchema(
  columns: Record<string, { readonly transformer?: unknown } | undefined>,
  options: ModelOptions,
): boolean {
  const encrypted = Object.entries(columns).filter(
    ([, column]) => column !== undefined && annotationOf(column) !== undefined,
  )
  for (const [name, column] of encrypted) {
    // A copy: one column definition may stand in several schemas.
    columns[name] = { ...column, transformer: { ...transformerOf(column ?? {}), [MODEL]: options } }
  }
  return encrypted.length > 0
}

/** The model options of an entity, its own or inherited; empty when it has none. */
export function modelOptionsOf(metadata: Pick<EntityMetadata, 'target' | 'columns'>): ModelOptions {
  const fromClass: unknown = typeof metadata.target === 'function' ? Reflect.get(metadata.target, MODEL) : undefined
  if (fromClass !== undefined) return fromClass as ModelOptions // only annotateClass() sets this symbol
  const annotated = metadata.columns.find((column: ColumnMetadata) => transformerOf(column)?.[MODEL] !== undefined)
  return (annotated && transformerOf(annotated)?.[MODEL]) ?? {}
}

function transformerOf(column: { readonly transformer?: unknown }): AnnotatedTransformer | undefined {
  const { transformer } = column
  const annotated = typeof transformer === 'object' && transformer !== null && FIELD in transformer
  return annotated ? (transformer as AnnotatedTransformer) : undefined // only annotatedTransformer() sets this symbol
}
