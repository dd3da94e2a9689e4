// Nobody gave credentials: ports say so, and the process lives on.
import { isFieldsealError, SecretKey } from '@fieldseal/core/kms'
import { gcpKms } from '../../src/index.ts'

process.on('unhandledRejection', () => process.exit(3))
const kms = gcpKms()
const codes: string[] = []
for (const scope of ['one', 'two']) {
  const cmk = kms.cmk('projects/p/locations/global/keyRings/r/cryptoKeys/k', { credentialScope: scope })
  const request = { context: { tenant: 'a' }, signal: AbortSignal.timeout(5_000) }
  await cmk.wrap(new SecretKey(new Uint8Array(32)), request).catch((error: unknown) => {
    codes.push(isFieldsealError(error) ? error.code : String(error))
  })
}
await kms.close?.()
await new Promise((resolve) => setTimeout(resolve, 50))
process.stdout.write(codes.join(' '))
