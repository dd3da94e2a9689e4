export {
  EncryptedColumn,
  encryptedSchemaColumn,
  type EncryptedColumnOptions,
  type EncryptedTypes,
} from './encrypted-column/encrypted-column.ts'
export { EncryptedModel } from './encrypted-column/encrypted-model.ts'
export { CreateFieldsealTables1764000000000 } from './key-store/create-fieldseal-tables.ts'
export { typeormKeyStore, type TypeormKeyStoreOptions } from './key-store/typeorm-key-store.ts'
export {
  encryptColumnMigration,
  type EncryptColumnMigration,
  type EncryptColumnOptions,
} from './migration/encrypt-column-migration.ts'
export { decryptRaw, type DecryptRawOptions } from './read-path/decrypt-raw.ts'
export { typeormSource } from './record-source/typeorm-record-source.ts'
export { withFieldseal, type WithFieldsealOptions } from './with-fieldseal.ts'
