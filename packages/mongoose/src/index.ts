export { fieldsealPlugin, type FieldsealPluginOptions } from './fieldseal-plugin.ts'
export { mongoKeyStore, type MongoKeyStoreOptions } from './key-store/mongo-key-store.ts'
export { decryptRaw } from './read-path/decrypt-raw.ts'
export { redactOperation } from './redact/redact-operation.ts'
