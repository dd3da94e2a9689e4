import { changeCmk, createKeyFile, localKms } from '@fieldseal/kms-local'
import type { KeyDesk } from './stage.ts'

/** All CMKs in one key file. */
export function openLocalDesk(keyFile: string): KeyDesk {
  createKeyFile(keyFile, ['clinic-a', 'clinic-a-new', 'clinic-b'])
  const kms = localKms({ file: keyFile })
  return {
    cmk: (name) => kms.cmk(name),
    async disable(name) {
      changeCmk(keyFile, name, 'disable')
    },
    close: async () => {},
  }
}
