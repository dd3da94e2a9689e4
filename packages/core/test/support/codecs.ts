import { expect } from 'vitest'
import { BUILT_IN_CODECS } from '../../src/field/built-in-codecs.ts'
import type { ValueCodec } from '../../src/field/codec.ts'

export function codecOf(type: string): ValueCodec {
  const codec = BUILT_IN_CODECS.find((candidate) => candidate.type === type)
  if (codec === undefined) throw new Error(`no codec ${type}`)
  return codec
}

/** `encode` and `compareKey` refuse these values. */
export function refusesValue(type: string, ...values: unknown[]): void {
  const codec = codecOf(type)
  for (const value of values) {
    const refused = expect.objectContaining({ code: 'ERR_VALUE_INVALID', kind: 'misuse' })
    expect(() => codec.encode(value), String(value)).toThrow(refused)
    expect(() => codec.compareKey(value), String(value)).toThrow(refused)
  }
}

/** `decode` refuses these bytes. */
export function refusesBytes(type: string, ...hex: string[]): void {
  for (const text of hex)
    expect(() => codecOf(type).decode(Buffer.from(text, 'hex')), text).toThrow(
      expect.objectContaining({ code: 'ERR_DECRYPT_FAILED', kind: 'corrupt' }),
    )
}
