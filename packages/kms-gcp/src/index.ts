export { gcpKms } from './gcp-kms.ts'
export { gcpCodeOf } from './map-error.ts'
export type { GcpCmkOptions, GcpKmsOptions } from './options.ts'
