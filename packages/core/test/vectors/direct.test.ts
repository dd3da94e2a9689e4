import { createSecretKey } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { type AeadEngine, nodeEngine } from '../../src/cipher/aead.ts'
import { createRandomSource } from '../../src/cipher/random.ts'
import { MAX_BLOB_BYTES, MAX_LABEL_BYTES } from '../../src/envelope/layout.ts'
import { keyIdOf, parseEnvelope } from '../../src/envelope/parse.ts'
import { openDirect, openDirectValues, sealDirect } from '../../src/field/direct-value.ts'
import { valueAad } from '../../src/field/field-policy.ts'
import { hex } from './vector-file.ts'

const random = createRandomSource()
const key = createSecretKey(Buffer.alloc(32, 7))
const recordId = Buffer.alloc(12, 3)
const aad = valueAad(0, 1, 'patients', 'secret', [])
const value = { plaintext: Buffer.from('Ada'), valueFlags: 0, typeTag: 1, aad }
const seal = (label = 'v1', blob: Uint8Array = Buffer.alloc(65, 9)) =>
  sealDirect({ key, recordId, label, blob }, value, nodeEngine, random)
const refused = expect.objectContaining({ code: 'ERR_DECRYPT_FAILED', kind: 'corrupt' })

describe('a value of layout direct', () => {
  it('opens under the DEK it was sealed with, whatever label and blob have for a length', () => {
    for (const label of ['', 'v1', 'x'.repeat(MAX_LABEL_BYTES)]) {
      for (const length of [1, 65, MAX_BLOB_BYTES]) {
        const envelope = seal(label, Buffer.alloc(length, 1))
        const parsed = parseEnvelope(envelope)
        expect(String(openDirect(parsed, key, aad, nodeEngine))).toBe('Ada')
        expect([parsed.layout, parsed.rowBound, keyIdOf(parsed.bytes)]).toEqual(['direct', true, hex(recordId)])
        expect(envelope).toHaveLength(53 + label.length + length + 28 + 3)
      }
    }
  })

  it('is not sealed with a label or blob that a reader would refuse', () => {
    const invalid = expect.objectContaining({ code: 'ERR_ARGUMENT_INVALID' })
    expect(() => seal('x'.repeat(MAX_LABEL_BYTES + 1))).toThrow(invalid)
    expect(() => seal('ü'.repeat(33))).toThrow(invalid)
    expect(() => seal('v1', Buffer.alloc(0))).toThrow(invalid)
    expect(() => seal('v1', Buffer.alloc(MAX_BLOB_BYTES + 1))).toThrow(invalid)
  })

  it('refuses another DEK, another place and every altered byte of header, commitment and value with one error', () => {
    const envelope = Buffer.from(seal())
    const { valueAt } = parseEnvelope(envelope)
    expect(() => openDirect(parseEnvelope(envelope), createSecretKey(Buffer.alloc(32, 8)), aad, nodeEngine)).toThrow(
      refused,
    )
    expect(() => openDirect(parseEnvelope(envelope), key, valueAad(0, 1, 'patients', 'other', []), nodeEngine)).toThrow(
      refused,
    )
    const authenticated = [...range(3, 15), ...range(18, 50), ...range(valueAt, envelope.length)]
    for (const at of authenticated) {
      const copy = Buffer.from(envelope)
      copy[at] = (copy[at] ?? 0) ^ 1
      expect(() => openDirect(parseEnvelope(copy), key, aad, nodeEngine), `byte ${at}`).toThrow(refused)
    }
  })

  it('compares the commitment and the header of each value, also between others under the same DEK', () => {
    for (const at of [...range(3, 15), ...range(18, 50)]) {
      const altered = Buffer.from(seal())
      altered[at] = (altered[at] ?? 0) ^ 1
      const values = [seal(), altered, seal(), altered].map((bytes) => ({
        parsed: parseEnvelope(bytes),
        dek: key,
        aad,
      }))
      const opened = openDirectValues(values, nodeEngine).map((bytes) => bytes && String(bytes))
      expect(opened, `byte ${at}`).toEqual(['Ada', undefined, 'Ada', undefined])
    }
    const other = createSecretKey(Buffer.alloc(32, 8))
    const values = [key, other, key].map((dek) => ({ parsed: parseEnvelope(seal()), dek, aad }))
    expect(openDirectValues(values, nodeEngine).map((bytes) => bytes && String(bytes))).toEqual([
      'Ada',
      undefined,
      'Ada',
    ])
  })

  it('decrypts nothing before the commitment holds', () => {
    const calls: number[] = []
    const watched: AeadEngine = {
      sealMany: (jobs) => nodeEngine.sealMany(jobs),
      openMany(jobs) {
        calls.push(jobs.length)
        return nodeEngine.openMany(jobs)
      },
    }
    const envelope = Buffer.from(seal())
    envelope[49] = (envelope[49] ?? 0) ^ 1
    expect(() => openDirect(parseEnvelope(envelope), key, aad, watched)).toThrow(refused)
    expect(calls).toEqual([])
    openDirect(parseEnvelope(seal()), key, aad, watched)
    expect(calls).toEqual([1])
  })
})

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}
