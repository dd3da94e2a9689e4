import { ERROR_CODES } from '@fieldseal/core/adapter'
import type { KmsErrorCode } from '@fieldseal/core/kms'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { failure, newKey, request } from './calls.ts'
import type { CloudUnderTest } from './cloud-under-test.ts'

/** One row of a cloud's table of errors: what it does, and what core must see. */
export interface ErrorRow {
  readonly row: number
  readonly when: string
  /** What the cloud does to the call that unwraps, or to the key. */
  readonly arrange: (key: string) => unknown
  readonly code: KmsErrorCode
  readonly kind: 'unavailable' | 'denied' | 'corrupt' | 'misuse'
  readonly disposition: 'revoke' | 'serve-stale' | 'fail' | 'fatal'
  readonly retries: number
}

export const denied = { kind: 'denied', disposition: 'revoke', retries: 0 } as const
export const noAnswer = { kind: 'unavailable', disposition: 'serve-stale', retries: 1 } as const
export const repeated = { ...noAnswer, retries: 2 } as const
export const bad = { kind: 'corrupt', disposition: 'fail', retries: 0 } as const
export const fatal = { kind: 'misuse', disposition: 'fatal', retries: 0 } as const

/** Each row through the vendor's client, in one attempt. */
export function errorTable(cloud: CloudUnderTest, rows: readonly ErrorRow[]): void {
  for (const { row, when, arrange, code, kind, disposition, retries } of rows) {
    it(`row ${row}: ${code} when ${when}`, async () => {
      const { cmk } = cloud.cmk()
      const wrap = await cmk.wrap(newKey(), request())
      arrange(cmk.uri)
      const error = await failure(cmk.unwrap(wrap, request({ signal: AbortSignal.timeout(1_000) })))
      expect({ code: error.code, kind: error.kind }).toEqual({ code, kind })
      expect(ERROR_CODES[code]).toMatchObject({ disposition, retries })
      expect(error.cause).toBeUndefined()
      // One attempt: the vendor's own retries are off.
      await new Promise((resolve) => setTimeout(resolve, 15))
      const sent = cloud.emulator.calls.filter(({ operation, key }) => operation === 'Decrypt' && key === cmk.uri)
      expect(sent.length).toBeLessThanOrEqual(1)
    })
  }

  it('row 1: ERR_KMS_ABORTED when the caller has gone', async () => {
    const { cmk } = cloud.cmk()
    const error = await failure(cmk.wrap(newKey(), request({ signal: AbortSignal.abort() })))
    expect(error.code).toBe('ERR_KMS_ABORTED')
    expect(cloud.emulator.calls).toEqual([])
  })
}

/** @param more what only this cloud's client throws */
export function knowsEveryError(codeOf: (error: unknown) => KmsErrorCode, more: readonly unknown[]): void {
  it('knows a code for anything that may be thrown', () => {
    const codes = Object.keys(ERROR_CODES)
    const cyclic: Record<string, unknown> = { name: 'X' }
    cyclic['self'] = cyclic
    for (const thrown of [
      undefined,
      null,
      0,
      '',
      'text',
      Symbol('s'),
      1n,
      cyclic,
      hostile(),
      () => undefined,
      { name: 'constructor' },
      { name: '__proto__' },
      { code: 9, statusDetails: [hostile(), { violations: 'x' }, { violations: [null, 1] }] },
      ...more,
    ])
      expect(codes).toContain(codeOf(thrown))
    fc.assert(
      fc.property(fc.anything(), (thrown) => codes.includes(codeOf(thrown))),
      { numRuns: 10_000 },
    )
  })
}

/** Throws whatever it is asked. */
function hostile(): object {
  const get = () => {
    throw new Error('no')
  }
  return new Proxy({}, { get })
}
