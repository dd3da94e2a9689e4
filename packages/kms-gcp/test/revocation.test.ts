import { revocationSuite } from '@fieldseal/kms-emulators/vitest'
import { crc32c } from '../src/crc32c.ts'
import { useGcp } from './support/gcp.ts'

const gcp = useGcp()

revocationSuite({
  cloud: gcp,
  breakDown: () => gcp.emulator.fail('UNAVAILABLE', { times: 100 }),
  answerWith(plaintext) {
    const plaintextCrc32c = { value: String(crc32c(plaintext)) }
    gcp.emulator.alter((answer) => ({ ...answer, plaintext, plaintextCrc32c }), { only: { operation: 'Decrypt' } })
  },
})
