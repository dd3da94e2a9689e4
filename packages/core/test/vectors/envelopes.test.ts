import { createSecretKey } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { nodeEngine } from '../../src/cipher/aead.ts'
import { expandKey, LABELS } from '../../src/cipher/hkdf.ts'
import { KEK_OVERHEAD } from '../../src/envelope/layout.ts'
import { keyIdOf, parseEnvelope } from '../../src/envelope/parse.ts'
import { envelopeFromText } from '../../src/envelope/text-form.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import { createWrapFrame } from '../../src/field/dek-wrap.ts'
import { openDirect } from '../../src/field/direct-value.ts'
import { openValues } from '../../src/field/open-rows.ts'
import { hex, policyOf, validEnvelopes } from './envelope-vectors.ts'
import { invalidEnvelopes } from './invalid-vectors.ts'

const folder = path.join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'spec', 'vectors')
const bytes = (text: string) => Buffer.from(text, 'hex')

interface Vector {
  readonly id: string
  readonly mode: 'bound' | 'unbound' | 'direct'
  readonly tenant: string
  readonly keyspace: string
  readonly model: string
  readonly type: string
  readonly valueFlags: number
  readonly typeTag: number
  readonly plaintext: string
  readonly valueAAD: string
  readonly rowId?: string
  readonly kek: string
  readonly salt: string
  readonly dek: string
  readonly envelope: string
  readonly text: string
}

/** Written anew with UPDATE_VECTORS=1; otherwise the file must be what the generator makes. */
function vectorsIn(name: string, algorithm: string, tests: readonly object[]): readonly Vector[] {
  const file = path.join(folder, name)
  const text = `${JSON.stringify({ algorithm, numberOfTests: tests.length, testGroups: [{ tests }] }, null, 1)}\n`
  if (process.env['UPDATE_VECTORS'] === '1') {
    if (!existsSync(folder)) mkdirSync(folder, { recursive: true })
    writeFileSync(file, text)
  }
  expect(readFileSync(file, 'utf8')).toBe(text)
  return (JSON.parse(readFileSync(file, 'utf8')) as { testGroups: [{ tests: Vector[] }] }).testGroups[0].tests
}

function open(vector: Vector, stored: string | Uint8Array): Buffer | undefined {
  const parsed = parseEnvelope(typeof stored === 'string' ? envelopeFromText(stored) : stored)
  const aad = bytes(vector.valueAAD)
  if (vector.mode === 'direct') return openDirect(parsed, createSecretKey(bytes(vector.dek)), aad, nodeEngine)
  const salt = parsed.bytes.subarray(18, 24)
  const frame = createWrapFrame(
    expandKey(createSecretKey(bytes(vector.kek)), LABELS.wrap, salt),
    parsed.bytes.subarray(0, 16),
    salt,
    vector,
  )
  const rowId = parsed.rowBound ? bytes(vector.rowId ?? '') : undefined
  return openValues([{ parsed, wrap: 0, aad }], [{ envelope: parsed.bytes, frame, rowId }], nodeEngine)[0]
}

it('opens every valid vector, as bytes and as text, to the plaintext it names', () => {
  const vectors = vectorsIn('envelopes-valid.json', 'fieldseal-envelope-v1', validEnvelopes())
  expect(vectors.length).toBeGreaterThan(50)
  expect(new Set(vectors.map(({ typeTag }) => typeTag)).size).toBe(9)
  for (const vector of vectors) {
    expect(hex(open(vector, bytes(vector.envelope)) ?? Buffer.from('failed')), vector.id).toBe(vector.plaintext)
    expect(hex(open(vector, vector.text) ?? Buffer.from('failed')), vector.id).toBe(vector.plaintext)
    const parsed = parseEnvelope(bytes(vector.envelope))
    expect(keyIdOf(parsed.bytes)).toBe('00112233445566778899aabb')
    if (vector.mode !== 'direct')
      expect(parsed.bytes.length - vector.plaintext.length / 2, vector.id).toBe(KEK_OVERHEAD)
  }
  expect(KEK_OVERHEAD).toBe(112)
})

it('refuses every invalid vector for the reason it names', () => {
  const [valid] = validEnvelopes() as Vector[]
  const vectors = vectorsIn(
    'envelopes-invalid.json',
    'fieldseal-envelope-v1',
    invalidEnvelopes(),
  ) as readonly (Vector & { code: string; stored: string; form: 'text' | 'binary' })[]
  expect(vectors.length).toBeGreaterThan(20)
  for (const vector of vectors) {
    let code = 'opened'
    try {
      const reader = { ...(valid as Vector), ...vector }
      const plaintext = open(reader, vector.form === 'text' ? vector.stored : bytes(vector.stored))
      if (plaintext === undefined) code = 'ERR_DECRYPT_FAILED'
      else
        policyOf(reader.type).decode(
          parseEnvelope(vector.form === 'text' ? envelopeFromText(vector.stored) : bytes(vector.stored)),
          plaintext,
        )
    } catch (error) {
      if (!isFieldsealError(error)) throw error
      code = error.code
    }
    expect(code, vector.id).toBe(vector.code)
  }
})
