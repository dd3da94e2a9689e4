import { FieldsealError } from '../errors/fieldseal-error.ts'

export const DEFAULT_KEYSPACE = 'default'
export const CLASS_PREFIX = 'class:'
/** Keyspaces of data subjects; their KEKs are wrapped by the tenant's. */
export const SUBJECT_PREFIX = 'subject:'
export const MAX_SUBJECT_BYTES = 256

const NAME = '[a-z0-9][a-z0-9_.-]{0,63}'
const KEYSPACE = new RegExp(`^(?:${DEFAULT_KEYSPACE}|${CLASS_PREFIX}${NAME}|${SUBJECT_PREFIX}${NAME}:(.+))$`, 'su')
const WHOLE_NAME = new RegExp(`^${NAME}$`)

/** Name of a data class, or of what a subject is (`of`). */
export function isKeyspaceName(name: unknown): name is string {
  return typeof name === 'string' && WHOLE_NAME.test(name) && name !== DEFAULT_KEYSPACE
}

/** @throws FieldsealError ERR_ARGUMENT_INVALID unless `default`, `class:<name>` or `subject:<of>:<id of 1–256 bytes>` */
export function checkedKeyspace(keyspace: string): string {
  const [, subject = '-'] = (typeof keyspace === 'string' && KEYSPACE.exec(keyspace)) || [undefined, '']
  if (subject !== '' && subject.isWellFormed() && Buffer.byteLength(subject) <= MAX_SUBJECT_BYTES) return keyspace
  throw new FieldsealError('ERR_ARGUMENT_INVALID', {
    field: 'keyspace',
    reason: 'default, class:<name> or subject:<of>:<id>',
  })
}
