import { spawn } from 'node:child_process'
import { inspect } from 'node:util'
import type { FieldsealError } from '@fieldseal/core/kms'
import { expect, it } from 'vitest'
import type { CloudUnderTest } from './cloud-under-test.ts'

/** Runs a script from the sources, without this process's environment; everything it writes. */
export async function runScript(script: string, env: Readonly<Record<string, string>>) {
  const options = ['--conditions=@fieldseal/source', '--disable-warning=ExperimentalWarning', script]
  const child = spawn(process.execPath, options, { env: { PATH: process.env['PATH'], ...env } })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk) => (stdout += String(chunk)))
  child.stderr.on('data', (chunk) => (stderr += String(chunk)))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, stdout, stderr, all: stdout + stderr }
}

/** A key as it could stand in a log. */
export function formsOf(key: Buffer): string[] {
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

/** The first bytes as Node prints a buffer. */
function spaced(bytes: Buffer): string {
  return bytes.toString('hex').slice(0, 24).match(/../g)?.join(' ') ?? ''
}

/** Everything that printing or sending an error could show, without any of these texts. */
export function tellsNothing(error: FieldsealError, secrets: readonly string[]): void {
  const text = inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(error) + (error.stack ?? '')
  for (const secret of secrets) expect(text).not.toContain(secret)
}

export function refusesStreamDebugging(cloud: CloudUnderTest): void {
  it('refuses to run while Node prints what streams read', () => {
    const before = process.env['NODE_DEBUG']
    try {
      for (const value of ['stream', 'http,STREAM', '*', 'str*']) {
        process.env['NODE_DEBUG'] = value
        expect(() => cloud.kms(), value).toThrow('NODE_DEBUG')
      }
      process.env['NODE_DEBUG'] = 'http,tls'
      expect(() => cloud.kms()).not.toThrow()
    } finally {
      if (before === undefined) delete process.env['NODE_DEBUG']
      else process.env['NODE_DEBUG'] = before
    }
  })
}
