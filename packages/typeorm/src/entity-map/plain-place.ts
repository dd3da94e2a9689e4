import type { FieldState } from '@fieldseal/core/adapter'
import type { EntityMetadata } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { ColumnAnnotation, Storage } from '../encrypted-column/annotation.ts'
import { configError } from './column-rules.ts'

/** The columns in which one field may stand. See `SealedColumn`. */
export interface Places {
  readonly column: ColumnMetadata
  readonly envelope: ColumnMetadata
  readonly plain: ColumnMetadata | undefined
  readonly twin: ColumnMetadata | undefined
}

/** The state of an annotated column. */
export function stateOf({ field }: ColumnAnnotation): FieldState {
  return field.state ?? 'encrypted'
}

/**
 * The column that `plaintextIn` names, by its name in the table or its property. It is declared like any other, so that
 * TypeORM keeps it and knows its type.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID when the field needs one and has none that can be cleared
 */
export function declaredPlaintext(
  column: ColumnMetadata,
  annotation: ColumnAnnotation,
  family: readonly EntityMetadata[],
  storage: Storage,
): ColumnMetadata | undefined {
  const [root] = family as readonly [EntityMetadata, ...EntityMetadata[]] // declareFamily() has looked
  const { plaintextIn } = annotation.field
  const state = stateOf(annotation)
  const refuse = (reason: string, hint: string): never => {
    throw configError(root, column.databaseName, `plaintextIn: ${reason}`, hint)
  }
  if (plaintextIn === undefined) {
    if (state !== 'encrypted' && (annotation.type !== 'string' || storage !== 'text'))
      refuse(
        'only a string that is stored as text can be told from its envelope in one column',
        'give the old column under plaintextIn, and the encrypted one a name of its own',
      )
    return undefined
  }
  const others = root.columns.filter((other) => other !== column)
  const declared =
    others.find(({ databaseName }) => databaseName === plaintextIn) ??
    others.find(({ propertyPath }) => propertyPath === plaintextIn)
  if (declared === undefined) {
    if (state === 'encrypted') return undefined // it was dropped, as it should be
    return refuse(
      `the entity declares no column '${plaintextIn}'`,
      'declare the old column beside it, nullable and under another property: TypeORM drops columns it does not know',
    )
  }
  if (
    declared.isPrimary ||
    declared.relationMetadata !== undefined ||
    declared.isGenerated ||
    declared.isDiscriminator ||
    declared.isArray
  )
    refuse('the column is needed otherwise', 'name a column that may be cleared')
  if (state === 'migrating' && !declared.isNullable)
    refuse('the column is cleared by every write', 'declare it nullable, and drop its NOT NULL')
  if (family.some(({ columns }) => columns.includes(column) !== columns.includes(declared)))
    refuse('the column belongs to another entity of the table', 'declare both in one entity')
  return declared
}

/**
 * Gives the property the column that its state says, and takes the other one out of the entity.
 *
 * In state `plaintext` the property is the old column, with everything TypeORM can do with it; the encrypted column waits.
 * Afterwards it is the other way round.
 */
export function assignPlaces(
  column: ColumnMetadata,
  declared: ColumnMetadata | undefined,
  state: FieldState,
  family: readonly EntityMetadata[],
): Places {
  if (declared === undefined) {
    const plain = state === 'encrypted' ? undefined : column
    if (state === 'plaintext') asPlainText(column)
    return { column, envelope: column, plain, twin: undefined }
  }
  if (state !== 'encrypted') column.isNullable = true // as long as there are values in the other column
  declared.isSelect = column.isSelect
  const [own, twin] = state === 'plaintext' ? [declared, column] : [column, declared]
  if (own === declared) exchangeProperties(own, twin)
  Object.assign(own, { isInsert: true, isUpdate: true })
  // Virtual columns are part of table and statements; TypeORM neither hydrates nor compares them.
  Object.assign(twin, { isInsert: true, isUpdate: true, isSelect: false, isVirtual: true })
  for (const metadata of family) metadata.nonVirtualColumns = metadata.nonVirtualColumns.filter((one) => one !== twin)
  return { column: own, envelope: column, plain: declared, twin }
}

/** A text column as any other. */
function asPlainText(column: ColumnMetadata): void {
  column.type = 'text'
  Reflect.deleteProperty(column, 'transformer')
}

const PROPERTY = ['propertyName', 'propertyPath', 'propertyAliasName', 'embeddedMetadata'] as const

function exchangeProperties(a: ColumnMetadata, b: ColumnMetadata): void {
  for (const key of PROPERTY) {
    const [ofA, ofB]: unknown[] = [Reflect.get(a, key), Reflect.get(b, key)]
    Reflect.set(a, key, ofB)
    Reflect.set(b, key, ofA)
  }
}
