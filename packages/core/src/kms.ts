/** For authors of KMS providers. */
export type { EncryptionContext } from './context/encryption-context.ts'
export { assertContext, contextBytes } from './context/encryption-context.ts'
export type { KmsErrorCode, ErrorKind, Disposition } from './errors/codes.ts'
export { FieldsealError, isFieldsealError, kmsError, type ErrorDetails } from './errors/fieldseal-error.ts'
export type { Cmk, CmkDescription, CmkState, CmkWrap, Kms, KmsRequest } from './keys/cmk.ts'
export { KEY_LENGTH, SecretKey } from './keys/secret-key.ts'
export { abortedError, untilAborted } from './keys/until-aborted.ts'
