import { randomUUID } from 'node:crypto'
import { startAwsKms } from '@fieldseal/kms-emulators'
import { kmsConformance } from '@fieldseal/testkit'
import { describe, it } from 'vitest'
import { awsKms } from '../src/index.ts'

describe('emulator', () => {
  kmsConformance({
    describe,
    it,
    async create() {
      const aws = await startAwsKms()
      const [one, two] = [aws.createKey(), aws.createKey()]
      const kms = awsKms({ endpoint: aws.endpoint, credentials: aws.credentials() })
      return {
        cmk: kms.cmk(one),
        other: kms.cmk(two),
        rotate: async () => void aws.rotate(one),
        disable: async () => aws.disable(one),
        enable: async () => aws.enable(one),
        async close() {
          await kms.close?.()
          await aws.stop()
        },
      }
    },
  })
})

// A key in a real account, by the SDK's own credentials. Nothing is disabled, rotated or deleted there.
const arn = process.env['FIELDSEAL_AWS_KEY_ARN']
if (arn === undefined || arn === '') {
  process.stderr.write('not run: KMS conformance against a real AWS account (FIELDSEAL_AWS_KEY_ARN is not set)\n')
}

describe.skipIf(arn === undefined || arn === '')('real account', () => {
  kmsConformance({
    describe,
    it: (name, body) => it(name, body, 120_000),
    async create() {
      const kms = awsKms()
      const uri = arn ?? ''
      const other = process.env['FIELDSEAL_AWS_OTHER_KEY_ARN'] ?? uri.replace(/[^/]+$/, randomUUID())
      return {
        cmk: kms.cmk(uri),
        other: kms.cmk(other),
        async close() {
          await kms.close?.()
        },
      }
    },
  })
})
