export { localKms, type LocalKmsOptions } from './local-kms.ts'
export { changeCmk, createKeyFile, type CmkChange } from './manage-key-file.ts'
