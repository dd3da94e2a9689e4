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
import { useAws } from './support/aws.ts'

const aws = useAws()
const run = (script: string, env: Readonly<Record<string, string>>) =>
  runScript(path.join(import.meta.dirname, 'support', script), env)

it('writes no key to a log, not with the SDK’s own logger and Node’s debugging on', async () => {
  const canary = randomBytes(32)
  const { code, stdout, stderr } = await run('leak-script.ts', {
    CANARY: canary.toString('hex'),
    DEBUG: '*',
    NODE_DEBUG: 'http,https,net,tls',
    AWS_NODEJS_DEBUG: 'true',
  })
  expect(code, stderr.slice(-2_000)).toBe(0)
  const made = Buffer.from((stdout.split('made:')[1] ?? '').split('.').map((text) => Number(text) - 1_000))
  expect(made).toHaveLength(32)
  // The logger did talk.
  expect(stderr).toContain('DecryptCommand')
  for (const form of [...formsOf(canary), ...formsOf(made)]) expect(stderr.includes(form)).toBe(false)
  expect(stderr).toContain('[SecretKey redacted]')
})

it('puts no text of AWS’s, key, context or principal into an error', async () => {
  const { arn, cmk } = aws.cmk()
  const bytes = randomBytes(32)
  const wrap = await cmk.wrap(newKey(bytes), request())
  aws.emulator.deny()
  const refused = await failure(cmk.unwrap(wrap, request()))
  aws.emulator.restore()
  const wrong = await failure(cmk.unwrap(wrap, request({ context: { tenant: 'clinic-8' } })))
  const secrets = [arn, 'role/app', 'not authorized', 'clinic-7', 'clinic-8']
  for (const error of [refused, wrong])
    tellsNothing(error, [...secrets, ...formsOf(bytes), ...formsOf(Buffer.from(wrap.blob))])
  expect(refused.details).toMatchObject({
    provider: 'aws-kms',
    vendorCode: 'AccessDeniedException',
    requestId: aws.emulator.calls.find(({ outcome }) => outcome === 'AccessDeniedException')?.requestId,
  })
})

it('takes no text for the name of an error', async () => {
  const { cmk } = aws.cmk()
  for (const text of ['role/app may not', 'role/app', 'r'.repeat(65)]) {
    aws.emulator.fail(text)
    const error = await failure(cmk.wrap(newKey(), request()))
    expect(error.code).toBe('ERR_KMS_UNKNOWN')
    tellsNothing(error, [text])
  }
})

it('says that our credentials are missing, and does not end the process', async () => {
  const { code, stdout, stderr } = await run('no-credentials-script.ts', {
    AWS_EC2_METADATA_DISABLED: 'true',
    HOME: '/nonexistent',
  })
  expect({ code, stdout }, stderr).toEqual({
    code: 0,
    stdout: 'ERR_KMS_OPERATOR_CREDENTIALS ERR_KMS_OPERATOR_CREDENTIALS',
  })
})

refusesStreamDebugging(aws)
