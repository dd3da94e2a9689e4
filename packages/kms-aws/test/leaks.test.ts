import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { inspect } from 'node:util'
import { expect, it } from 'vitest'
import { failure, newKey, request, useAws } from './support/aws.ts'

const aws = useAws()

/** Runs a script from the sources; everything it writes. */
async function run(script: string, env: Record<string, string>) {
  const child = spawn(
    process.execPath,
    ['--conditions=@fieldseal/source', '--disable-warning=ExperimentalWarning', script],
    {
      env: { PATH: process.env['PATH'], ...env },
    },
  )
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk) => (stdout += String(chunk)))
  child.stderr.on('data', (chunk) => (stderr += String(chunk)))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, stdout, stderr }
}

/** The first bytes as Node prints a buffer. */
function spaced(bytes: Buffer): string {
  return bytes.toString('hex').slice(0, 24).match(/../g)?.join(' ') ?? ''
}

/** A key as it could stand in a log. */
function forms(key: Buffer): string[] {
  const list = [...key]
  return [
    key.toString('hex'),
    key.toString('base64').replace(/=+$/, ''),
    key.toString('base64url'),
    list.slice(0, 12).join(','),
    list.slice(0, 12).join(', '),
    spaced(key),
    spaced(Buffer.from(key.toString('base64'))),
  ]
}

it('writes no key to a log, not with the SDK’s own logger and Node’s debugging on', async () => {
  const canary = randomBytes(32)
  const script = path.join(import.meta.dirname, 'support', 'leak-script.ts')
  const { code, stdout, stderr } = await run(script, {
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
  for (const form of [...forms(canary), ...forms(made)]) expect(stderr.includes(form)).toBe(false)
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
  for (const error of [refused, wrong]) {
    const text = inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(error) + (error.stack ?? '')
    const secrets = [
      arn,
      'role/app',
      'not authorized',
      'clinic-7',
      'clinic-8',
      ...forms(bytes),
      ...forms(Buffer.from(wrap.blob)),
    ]
    for (const secret of secrets) expect(text).not.toContain(secret)
  }
  expect(refused.details).toMatchObject({
    provider: 'aws-kms',
    vendorCode: 'AccessDeniedException',
    requestId: aws.emulator.calls.find(({ outcome }) => outcome === 'AccessDeniedException')?.requestId,
  })
})

it('says that our credentials are missing, and does not end the process', async () => {
  const script = path.join(import.meta.dirname, 'support', 'no-credentials-script.ts')
  const { code, stdout, stderr } = await run(script, { AWS_EC2_METADATA_DISABLED: 'true', HOME: '/nonexistent' })
  expect({ code, stdout }, stderr).toEqual({
    code: 0,
    stdout: 'ERR_KMS_OPERATOR_CREDENTIALS ERR_KMS_OPERATOR_CREDENTIALS',
  })
})

it('refuses to run while Node prints what streams read', () => {
  const before = process.env['NODE_DEBUG']
  try {
    for (const value of ['stream', 'http,STREAM', '*', 'str*']) {
      process.env['NODE_DEBUG'] = value
      expect(() => aws.kms(), value).toThrow('NODE_DEBUG')
    }
    process.env['NODE_DEBUG'] = 'http,tls'
    expect(() => aws.kms()).not.toThrow()
  } finally {
    if (before === undefined) delete process.env['NODE_DEBUG']
    else process.env['NODE_DEBUG'] = before
  }
})
