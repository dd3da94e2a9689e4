import type { Cmk } from '@fieldseal/core/kms'
import { awsKms } from '@fieldseal/kms-aws'

/** CMKs in an emulator of AWS KMS, one for each tenant. */
export interface AwsCmks {
  readonly endpoint: string
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string }
  /** ARN by tenant. */
  readonly keys: Readonly<Record<string, string>>
}

export function awsCmks({ endpoint, credentials, keys }: AwsCmks): (tenant: string) => readonly Cmk[] {
  const kms = awsKms({ endpoint, credentials })
  return (tenant) => [kms.cmk(keys[tenant] ?? '', { credentialScope: tenant })]
}
