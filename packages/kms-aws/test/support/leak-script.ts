// Wraps, makes and unwraps a key with every switch on that makes the SDK or Node talk, and prints the key at the end
// in a form that nobody else prints: the test looks for it in all that was written.
import { Console } from 'node:console'
import { startAwsKms } from '@fieldseal/kms-emulators'
import { SecretKey } from '@fieldseal/core/kms'
import { awsKms } from '../../src/index.ts'

const log = new Console(process.stderr)
const aws = await startAwsKms()
const arn = aws.createKey()
const kms = awsKms({
  endpoint: aws.endpoint,
  credentials: aws.credentials(),
  clientOptions: { logger: log },
})
const cmk = kms.cmk(arn)
const request = { context: { tenant: 'canary-tenant-7' }, signal: AbortSignal.timeout(5_000) }
const key = new SecretKey(Uint8Array.from(Buffer.from(process.env['CANARY'] ?? '', 'hex')))
const wrap = await cmk.wrap(key, request)
const opened = await cmk.unwrap(wrap, request)
const made = await cmk.generate?.(request)
log.error(opened, made, kms, cmk, wrap.versionEvidence)
for (const context of [{ tenant: 'another-tenant-8' }, { tenant: 'canary-tenant-7', more: 'x' }]) {
  await cmk.unwrap(wrap, { ...request, context }).catch((error: unknown) => log.error(error))
}
aws.deny()
await cmk.unwrap(wrap, request).catch((error: unknown) => log.error(error, JSON.stringify(error)))
await kms.close?.()
await aws.stop()
process.stdout.write(`made:${[...Buffer.from(made?.key.exposeBytes() ?? [])].map((byte) => byte + 1_000).join('.')}`)
