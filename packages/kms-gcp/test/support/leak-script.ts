// Wraps and unwraps a key with every switch on that makes Google's client, gRPC or Node talk. The refusal to run under
// GOOGLE_SDK_NODE_LOGGING is passed by turning its logger on afterwards, as an application might.
import { Console } from 'node:console'
import { createRequire } from 'node:module'
import { SecretKey } from '@fieldseal/core/kms'
import { startGcpKms } from '@fieldseal/kms-emulators'
import { gcpKms } from '../../src/index.ts'

const log = new Console(process.stderr)
const gcp = await startGcpKms()
const require = createRequire(createRequire(import.meta.url).resolve('@google-cloud/kms'))
const logging = createRequire(require.resolve('google-gax'))('google-logging-utils')
logging.setBackend(logging.getNodeBackend())
const kms = gcpKms({ clientOptions: gcp.clientOptions() })
const cmk = kms.cmk(gcp.createKey())
const request = { context: { tenant: 'canary-tenant-7' }, signal: AbortSignal.timeout(5_000) }
const key = new SecretKey(Uint8Array.from(Buffer.from(process.env['CANARY'] ?? '', 'hex')))
const wrap = await cmk.wrap(key, request)
const opened = await cmk.unwrap(wrap, request)
log.error(opened, kms, cmk, wrap.keyVersion)
await cmk
  .unwrap(wrap, { ...request, context: { tenant: 'another-tenant-8' } })
  .catch((error: unknown) => log.error(error))
gcp.deny()
await cmk.unwrap(wrap, request).catch((error: unknown) => log.error(error, JSON.stringify(error)))
await kms.close?.()
await gcp.stop()
