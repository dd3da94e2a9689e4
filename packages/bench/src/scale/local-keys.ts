import type { TenantKeys } from '@fieldseal/core'
import { createKeyFile, localKms } from '@fieldseal/kms-local'

const CMK = 'bench'

/** Keys that several processes can use. */
export function createKeys(file: string): TenantKeys {
  createKeyFile(file, [CMK])
  return localKeys(file)
}

export function localKeys(file: string): TenantKeys {
  return { cmks: [localKms({ file }).cmk(CMK)] }
}
