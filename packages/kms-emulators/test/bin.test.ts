import { spawn } from 'node:child_process'
import path from 'node:path'
import { DescribeKeyCommand, KMSClient } from '@aws-sdk/client-kms'
import { expect, it } from 'vitest'

const bin = path.join(import.meta.dirname, '..', 'src', 'bin.ts')

/** Runs the command until it ends or its output matches. */
async function run(options: readonly string[], until?: RegExp) {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', bin, ...options])
  let output = ''
  const seen = new Promise<void>((resolve) => {
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => {
        output += String(chunk)
        if (until?.test(output) === true) resolve()
      })
  })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const code = await Promise.race([ended, seen.then(() => undefined)])
  return { child, ended, code, text: () => output }
}

it('tells how it is used', async () => {
  const help = await run(['--help'])
  expect([help.code, help.text()]).toEqual([0, expect.stringContaining('start aws [--port N]')])
  expect((await run(['help'])).code).toBe(0)
  expect((await run(['azure'])).code).toBe(2)
})

it('starts AWS KMS with a key and prints what a client needs', async () => {
  const { child, ended, text } = await run(['aws', '--port', '0'], /awsKms\(\)\.cmk/)
  try {
    const value = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(text())?.[1] ?? ''
    const client = new KMSClient({
      endpoint: value('AWS_ENDPOINT_URL_KMS'),
      region: value('AWS_REGION'),
      credentials: { accessKeyId: value('AWS_ACCESS_KEY_ID'), secretAccessKey: value('AWS_SECRET_ACCESS_KEY') },
    })
    const { KeyMetadata } = await client.send(new DescribeKeyCommand({ KeyId: 'alias/dev' }))
    expect(text()).toContain(KeyMetadata?.Arn ?? 'no key')
  } finally {
    child.kill()
    await ended
  }
})

it('starts Google Cloud KMS with a key', async () => {
  const { child, ended, text } = await run(['gcp', '--port', '0'], /google-gax/)
  child.kill()
  await ended
  expect(text()).toContain('key projects/dev/locations/global/keyRings/dev/cryptoKeys/dev')
})
