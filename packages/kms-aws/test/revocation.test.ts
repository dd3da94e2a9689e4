import { revocationSuite } from '@fieldseal/kms-emulators/vitest'
import { useAws } from './support/aws.ts'

const aws = useAws()

revocationSuite({
  cloud: aws,
  breakDown: () => aws.emulator.fail('KMSInternalException', { status: 500, times: 100 }),
  answerWith(key) {
    const Plaintext = Buffer.from(key).toString('base64')
    aws.emulator.alter((answer) => ({ ...answer, Plaintext }), { only: { operation: 'Decrypt' } })
  },
})
