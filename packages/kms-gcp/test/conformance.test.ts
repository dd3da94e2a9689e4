import { startGcpKms } from '@fieldseal/kms-emulators'
import { kmsConformance } from '@fieldseal/testkit'
import { describe, it } from 'vitest'
import { gcpKms } from '../src/index.ts'

describe('emulator', () => {
  kmsConformance({
    describe,
    it,
    async create() {
      const gcp = await startGcpKms()
      const [one, two] = [gcp.createKey(), gcp.createKey()]
      const kms = gcpKms({ clientOptions: gcp.clientOptions() })
      return {
        cmk: kms.cmk(one, { credentialScope: 'test' }),
        other: kms.cmk(two, { credentialScope: 'test' }),
        rotate: async () => void gcp.rotate(one),
        disable: async () => gcp.disable(one),
        enable: async () => gcp.enable(one),
        async close() {
          await kms.close?.()
          await gcp.stop()
        },
      }
    },
  })
})

// A key in a real project, by Google's default credentials. Nothing is disabled, rotated or destroyed there.
const name = process.env['FIELDSEAL_GCP_KEY']
if (name === undefined || name === '') {
  process.stderr.write('not run: KMS conformance against a real Google Cloud project (FIELDSEAL_GCP_KEY is not set)\n')
}

describe.skipIf(name === undefined || name === '')('real project', () => {
  kmsConformance({
    describe,
    it: (title, body) => it(title, body, 120_000),
    async create() {
      const kms = gcpKms()
      const uri = name ?? ''
      return {
        cmk: kms.cmk(uri),
        other: kms.cmk(process.env['FIELDSEAL_GCP_OTHER_KEY'] ?? `${uri}-missing`),
        async close() {
          await kms.close?.()
        },
      }
    },
  })
})
