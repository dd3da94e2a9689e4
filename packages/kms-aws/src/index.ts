export { awsKms } from './aws-kms.ts'
export { awsCodeOf } from './map-error.ts'
export type { AwsCmkOptions, AwsKmsOptions } from './options.ts'
