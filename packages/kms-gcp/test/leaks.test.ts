import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { inspect } from 'node:util'
import { expect, it } from 'vitest'
import { failure, newKey, request, useGcp } from './support/gcp.ts'

const gcp = useGcp()

/** Runs a script from the sources; everything it writes. */
async function run(script: string, env: Record<string, string>) {
  const file = path.join(import.meta.dirname, 'support', script)
  const options = ['--conditions=@fieldseal/source', '--disable-warning=ExperimentalWarning', file]
  const child = spawn(process.execPath, options, {
    env: { PATH: process.env['PATH'], METADATA_SERVER_DETECTION: 'none', ...env },
  })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk) => (stdout += String(chunk)))
  child.stderr.on('data', (chunk) => (stderr += String(chunk)))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, stdout, stderr, all: stdout + stderr }
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
  for (const form of forms(canary)) expect(all.includes(form)).toBe(false)
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
  for (const error of [refused, wrong]) {
    const text = inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(error) + (error.stack ?? '')
    const secrets = [name, 'denied on resource', 'Decryption failed', 'clinic-7', 'clinic-8']
    for (const secret of [...secrets, ...forms(bytes), ...forms(Buffer.from(wrap.blob))])
      expect(text).not.toContain(secret)
  }
  expect(refused.details).toEqual({ provider: 'gcp-kms', vendorCode: 'grpc:7/IAM_PERMISSION_DENIED' })
})

it('refuses to run while Node prints what streams read', () => {
  const before = process.env['NODE_DEBUG']
  try {
    for (const value of ['stream', 'http,STREAM', '*', 'str*']) {
      process.env['NODE_DEBUG'] = value
      expect(() => gcp.kms(), value).toThrow('NODE_DEBUG')
    }
    process.env['NODE_DEBUG'] = 'http,tls'
    expect(() => gcp.kms()).not.toThrow()
  } finally {
    if (before === undefined) delete process.env['NODE_DEBUG']
    else process.env['NODE_DEBUG'] = before
  }
})
