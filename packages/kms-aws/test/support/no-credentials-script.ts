// Nobody gave credentials: two ports of different scopes say so.
import { isFieldsealError, SecretKey } from '@fieldseal/core/kms'
import { awsKms } from '../../src/index.ts'

process.on('unhandledRejection', () => process.exit(3))
const kms = awsKms({ endpoint: 'http://127.0.0.1:9' })
const codes: string[] = []
for (const scope of ['one', 'two']) {
  const cmk = kms.cmk('arn:aws:kms:eu-west-1:111122223333:key/1', { credentialScope: scope })
  const request = { context: { tenant: 'a' }, signal: AbortSignal.timeout(5_000) }
  await cmk.wrap(new SecretKey(new Uint8Array(32)), request).catch((error: unknown) => {
    codes.push(isFieldsealError(error) ? error.code : String(error))
  })
}
await new Promise((resolve) => setTimeout(resolve, 50))
process.stdout.write(codes.join(' '))
