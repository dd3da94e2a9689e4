import { randomBytes } from 'node:crypto'
import path from 'node:path'
import {
  failure,
  formsOf,
  newKey,
  refusesStreamDebugging,
  request,
  runScript,
  tellsNothing,
} from '@fieldseal/kms-emulators/vitest'
import { expect, it } from 'vitest'
import { useGcp } from './support/gcp.ts'

const gcp = useGcp()

const run = (script: string, env: Readonly<Record<string, string>>) =>
  runScript(path.join(import.meta.dirname, 'support', script), { METADATA_SERVER_DETECTION: 'none', ...env })

it('writes no key to a log, not with gRPC’s tracing, Node’s debugging and Google’s own logger on', async () => {
  const canary = randomBytes(32)
  const { code, all } = await run('leak-script.ts', {
    CANARY: canary.toString('hex'),
    DEBUG: '*',
    NODE_DEBUG: 'http,http2,net,tls',
    GRPC_TRACE: 'all',
    GRPC_VERBOSITY: 'DEBUG',
  })
  expect(code, all.slice(-2_000)).toBe(0)
  // gRPC did talk.
  expect(all).toContain('subchannel')
  for (const form of formsOf(canary)) expect(all.includes(form)).toBe(false)
  expect(all).toContain('[SecretKey redacted]')
})

it('says that our credentials are missing, and does not end the process', async () => {
  const { code, stdout, stderr } = await run('no-credentials-script.ts', { HOME: '/nonexistent' })
  const expected = { code: 0, stdout: 'ERR_KMS_OPERATOR_CREDENTIALS ERR_KMS_OPERATOR_CREDENTIALS' }
  expect({ code, stdout }, stderr).toEqual(expected)
})

it('puts no text of Google’s, key, context or principal into an error', async () => {
  const { name, cmk } = gcp.cmk()
  const bytes = randomBytes(32)
  const wrap = await cmk.wrap(newKey(bytes), request())
  const wrong = await failure(cmk.unwrap(wrap, request({ context: { tenant: 'clinic-8' } })))
  gcp.emulator.deny()
  const refused = await failure(cmk.unwrap(wrap, request()))
  const secrets = [name, 'denied on resource', 'Decryption failed', 'clinic-7', 'clinic-8']
  for (const error of [refused, wrong])
    tellsNothing(error, [...secrets, ...formsOf(bytes), ...formsOf(Buffer.from(wrap.blob))])
  expect(refused.details).toEqual({ provider: 'gcp-kms', vendorCode: 'grpc:7/IAM_PERMISSION_DENIED' })
})

it('takes no text for the name of an error', async () => {
  const { cmk } = gcp.cmk()
  for (const text of ['app@operator may not', 'APP@OPERATOR', 'R'.repeat(64)]) {
    gcp.emulator.fail('PERMISSION_DENIED', { reason: text, violations: [{ type: text, subject: text }] })
    const error = await failure(cmk.wrap(newKey(), request()))
    expect(error.details).toEqual({ provider: 'gcp-kms', vendorCode: 'grpc:7' })
    tellsNothing(error, [text])
  }
})

refusesStreamDebugging(gcp)
