import type { Report } from '@fieldseal/migrate'
import { expect } from 'vitest'
import type { Blow, Ward } from './ward.ts'

/** What a command prints as JSON when it fails. */
export interface Told {
  readonly error: {
    readonly code: string
    readonly kind: string
    readonly message: string
    readonly details: Readonly<Record<string, string>>
  }
  readonly report?: Report
}

/** Runs a command that must end with a typed error that says what to do, without a stack trace. @returns the error */
export async function refused(
  { start }: Pick<Ward, 'start'>,
  exit: number,
  args: readonly string[],
): Promise<Told['error']> {
  const { code, stdout, stderr } = await start(...args, '--json').ended
  expect(code, `${args.join(' ')}: ${stdout} ${stderr}`).toBe(exit)
  expect(stderr).not.toMatch(/^ +at /m)
  const { error } = JSON.parse(stdout) as Told
  expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_/), details: { hint: expect.any(String) } })
  return error
}

/** The same, with a fault in its middle. */
export function failingAt(ward: Ward, [n, when]: Blow, strike: () => unknown, args: readonly string[]) {
  ward.wire.strike(n, when, strike)
  return refused(ward, 5, args)
}
