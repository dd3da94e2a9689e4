export { startAwsKms, type AwsEmulatorOptions, type AwsKmsEmulator } from './aws/start-aws-kms.ts'
export type { AwsKeyState, CreateAwsKeyOptions } from './aws/aws-keys.ts'
export {
  startGcpKms,
  type GcpClientOptions,
  type GcpEmulatorOptions,
  type GcpKmsEmulator,
} from './gcp/start-gcp-kms.ts'
export type { CreateGcpKeyOptions, GcpVersionState } from './gcp/gcp-keys.ts'
export type { CallFacts, CallMatch, LoggedCall, Policy } from './shared/calls.ts'
export type { EmulatorControl, Propagation } from './shared/control.ts'
export type { FaultOptions } from './shared/faults.ts'
export { awsPolicy, type ConditionFacts } from './policy/aws-policy.ts'
export { readTerraform, type TerraformModule, type TerraformValue } from './policy/terraform.ts'
