import { FieldsealError, isUnreadable, type LeakGuard } from '@fieldseal/core/adapter'
import type { Driver, EntityMetadata, ObjectLiteral } from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import { Sealed } from '../carrier/sealed.ts'
import { annotationOf, TOKEN_TYPE, VALUE_TYPE, type Storage } from '../encrypted-column/annotation.ts'
import { isPlaintext, tokenSlotsOf, turnsInPlace } from '../entity-map/entity-model.ts'
import type { ModelRegistry } from '../entity-map/model-registry.ts'
import { OpenedCell } from '../read-path/opened-cell.ts'

/**
 * Overrides the conversions of one driver instance: the two narrow places that every value of an entity passes on its
 * way out and in. What did not come through our builders is refused there.
 */
export function overrideDriver(
  driver: Driver,
  models: () => ModelRegistry,
  storage: Storage,
  guard: LeakGuard,
): Conversions {
  const original = {
    normalizeType: driver.normalizeType.bind(driver),
    preparePersistentValue: driver.preparePersistentValue.bind(driver),
    prepareHydratedValue: driver.prepareHydratedValue.bind(driver),
    createGeneratedMap: driver.createGeneratedMap.bind(driver),
  }
  driver.normalizeType = (column) => {
    const type: unknown = column.type
    if (type === TOKEN_TYPE) return 'bytea'
    if (type !== VALUE_TYPE) return original.normalizeType(column)
    return (annotationOf(column as Pick<ColumnMetadata, 'transformer'>)?.storage ?? storage) === 'text'
      ? 'text'
      : 'bytea'
  }
  driver.preparePersistentValue = (value: unknown, column) => {
    const sealed = models().sealed(column)
    if (sealed !== undefined && isPlaintext(sealed)) {
      if (isUnreadable(value))
        throw new FieldsealError('ERR_UNREADABLE_VALUE', { model: sealed.field.model, field: sealed.field.id })
      const stored: unknown = original.preparePersistentValue(value, column)
      if (turnsInPlace(sealed)) guard.assertPlain(sealed.field, stored)
      return stored
    }
    if (models().ownerOfTwin(column) !== undefined && value !== null && value !== undefined)
      throw blocked(column, 'a value came to the column of the old plaintext')
    if (!isEncrypted(column)) return original.preparePersistentValue(value, column) as unknown
    if (value === null || value === undefined || Sealed.isSealed(value)) return value
    throw blocked(column, 'a value came to the driver on a way that this package does not know')
  }
  driver.prepareHydratedValue = (value: unknown, column) => {
    if (models().sealed(column) === undefined) return original.prepareHydratedValue(value, column) as unknown
    if (value === null || value === undefined) return value
    if (OpenedCell.isOpened(value)) return OpenedCell.valueOf(value)
    throw blocked(column, 'a stored value reached an entity without being opened')
  }
  driver.createGeneratedMap = (metadata, raw: ObjectLiteral | undefined, ...rest) =>
    original.createGeneratedMap(metadata, withoutEncrypted(models(), metadata, raw), ...rest)
  return {
    hydrate: (value, column) => original.prepareHydratedValue(value, column) as unknown,
    persist: (value, column) => original.preparePersistentValue(value, column) as unknown,
  }
}

/** TypeORM's own conversions, for plaintext in its old column. */
export interface Conversions {
  hydrate(value: unknown, column: ColumnMetadata): unknown
  persist(value: unknown, column: ColumnMetadata): unknown
}

function isEncrypted({ type }: ColumnMetadata): boolean {
  const declared: unknown = type
  return declared === VALUE_TYPE || declared === TOKEN_TYPE
}

/** RETURNING brings ciphertext, which must not be merged into the caller's entity. */
function withoutEncrypted(
  registry: ModelRegistry,
  metadata: EntityMetadata,
  raw: ObjectLiteral | undefined,
): ObjectLiteral | undefined {
  const model = registry.of(metadata)
  if (model === undefined || raw === undefined || raw === null) return raw
  const hidden = new Set(
    [
      ...model.columns.flatMap(({ column, twin }) => [column, twin]),
      ...tokenSlotsOf(model).flatMap(({ odd, even }) => [odd, even]),
    ].map((each) => each?.databaseName),
  )
  return Object.fromEntries(Object.entries(raw).filter(([name]) => !hidden.has(name)))
}

function blocked(column: ColumnMetadata, reason: string): FieldsealError {
  return new FieldsealError('ERR_PLAINTEXT_BLOCKED', {
    model: column.entityMetadata.tableName,
    field: column.databaseName,
    reason,
  })
}
