import { FieldsealError, type ModelOptions } from '@fieldseal/core/adapter'
import { InstanceChecker, type EntitySchema } from 'typeorm'
import { annotateClass, annotateSchema } from './annotation.ts'

/** Names of a class's properties that a model option may point at. */
type PropertyName<E> = Extract<keyof E, string>
type EntityClass = abstract new (...args: never) => object

/**
 * Options of a whole model: `@EncryptedModel({ tenantBy: 'clinicId' })` above `@Entity()`, or called on a schema:
 * `EncryptedModel<User>({ tenantBy: 'none' })(UserSchema)`. Subclasses inherit them.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID when a schema has no encrypted column
 */
export function EncryptedModel<E extends object = Record<string, unknown>>(
  options: ModelOptions<PropertyName<E>>,
): (target: EntityClass | EntitySchema<E>) => void {
  const kept = Object.freeze({ ...options })
  return (target) => {
    if (!InstanceChecker.isEntitySchema(target)) return annotateClass(target, kept)
    if (!annotateSchema(target.options.columns, kept)) {
      throw new FieldsealError('ERR_CONFIG_INVALID', {
        model: target.options.name,
        reason: 'EncryptedModel stands on a schema without encrypted columns',
        hint: 'use encryptedSchemaColumn() for the columns to encrypt',
      })
    }
  }
}
