import { createSecretKey } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { nodeEngine } from '../../src/cipher/aead.ts'
import { commitmentHolds, dekCommitment } from '../../src/cipher/commitment.ts'
import { expandKey, LABELS } from '../../src/cipher/hkdf.ts'
import type { RandomSource } from '../../src/cipher/random.ts'
import { KEK_OVERHEAD, VALUE_OVERHEAD } from '../../src/envelope/layout.ts'
import { parseEnvelope } from '../../src/envelope/parse.ts'
import { envelopeFromText, envelopeToText } from '../../src/envelope/text-form.ts'
import type { Envelope } from '../../src/envelope/layout.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import { createWrapFrame, kekHeader } from '../../src/field/dek-wrap.ts'
import { sealDirect } from '../../src/field/direct-value.ts'
import { sealRows } from '../../src/field/seal-rows.ts'
import { canonicalKeyBytes } from '../../src/record/row-id.ts'
import type { EnvelopeVector } from './envelope-vectors.ts'
import type { InvalidGroup } from './invalid-vectors.ts'
import { unwrapLocally } from './key-material.ts'
import { openStored, policyOf, type Reader } from './reader.ts'
import { CODECS, fromJson, toJson } from './value-json.ts'
import { hex, readVectors, unhex } from './vector-file.ts'

type Stored = EnvelopeVector & { readonly cmk?: string; readonly tcId: number }
const groups = readVectors<{ readonly type: string; readonly tests: readonly Stored[] }>('envelopes-valid.json')
const valid = groups.flatMap(({ tests }) => tests)
const invalid = readVectors<InvalidGroup>('envelopes-invalid.json')
const isDirect = ({ accepts }: Pick<Reader, 'accepts'>) => accepts.includes('direct')

describe('valid envelopes', () => {
  it('are there for every type tag in every layout', () => {
    for (const group of groups) expect(new Set(group.tests.map(({ typeTag }) => typeTag)).size, group.type).toBe(9)
    expect(groups.map(({ type }) => type)).toEqual(['kek, bound to the row', 'kek, bound to no row', 'direct'])
  })

  it('open as bytes and as text to the plaintext and the value they name', () => {
    for (const vector of valid) {
      for (const stored of [unhex(vector.envelope), vector.text]) {
        const opened = openStored(vector, stored)
        expect(hex(opened.plaintext), vector.comment).toBe(vector.plaintext)
        expect(toJson(typeOf(vector), opened.value), vector.comment).toEqual(vector.value)
      }
    }
  })

  it('are made again, bit for bit, from their inputs', () => {
    for (const vector of valid) {
      const envelope = isDirect(vector) ? sealedDirect(vector) : sealedKek(vector)
      expect(hex(envelope), vector.comment).toBe(vector.envelope)
      expect(envelopeToText(envelope)).toBe(vector.text)
      expect(hex(envelopeFromText(vector.text))).toBe(vector.envelope)
    }
  })

  it('hold values that core encodes to the same plaintext', () => {
    for (const vector of valid) {
      if (vector.formerTypes !== undefined || (vector.type === 'bigint' && vector.valueFlags === 0)) continue // as older writers did
      const encoded = policyOf(vector).encode(fromJson(vector.type, vector.value))
      expect(hex(encoded?.plaintext ?? Buffer.alloc(0)), vector.comment).toBe(vector.plaintext)
      expect([encoded?.typeTag, encoded?.valueFlags]).toEqual([vector.typeTag, vector.valueFlags])
    }
  })

  it('are exactly 112 bytes longer than their padded plaintext in layout kek, binary', () => {
    let checked = 0
    for (const vector of valid.filter((one) => !isDirect(one))) {
      expect(unhex(vector.envelope).length - unhex(vector.plaintext).length, vector.comment).toBe(112)
      checked++
    }
    expect(checked).toBeGreaterThan(90)
    expect(KEK_OVERHEAD).toBe(112)
  })

  it('of layout direct carry the DEK under the very context they name', () => {
    for (const { cmk, blob = '', context = {}, dek, comment } of valid.filter(isDirect)) {
      if (cmk !== undefined) expect(hex(unwrapLocally(cmk, unhex(blob), context) ?? Buffer.alloc(0)), comment).toBe(dek)
    }
    expect(valid.filter(({ cmk }) => cmk !== undefined).length).toBeGreaterThan(30)
  })

  it('name their row by its canonical bytes', () => {
    for (const { rowKey = [], rowId = '', comment } of valid)
      for (const { kind, value } of rowKey)
        expect(rowId, comment).toContain(hex(canonicalKeyBytes(kind, value) ?? Buffer.alloc(0)))
  })

  it('open whatever the label of layout direct says, and to nothing with any other byte flipped', () => {
    const vector = valid.find((one) => isDirect(one) && one.comment.endsWith(': a string'))
    if (vector === undefined) throw new Error('no such vector')
    const bytes = unhex(vector.envelope)
    for (let at = 0; at < bytes.length; at++) {
      const copy = Buffer.from(bytes)
      copy[at] = (copy[at] ?? 0) ^ 1
      const code = outcome(vector, copy)
      const inBlob = at > 53 && at < bytes.length - VALUE_OVERHEAD - vector.plaintext.length / 2
      // The DEK is given here: whoever has only the blob asks the KMS, which refuses a changed one.
      expect(code === 'opened', `byte ${at}: ${code}`).toBe(at === 53 || inBlob)
    }
  })
})

describe('invalid envelopes', () => {
  it('are refused for the reason they name', () => {
    let checked = 0
    for (const { reader, tests } of invalid) {
      for (const { comment, form, stored, code, reader: other } of tests) {
        const cell = form === 'binary' ? unhex(stored ?? '') : stored
        expect(outcome({ ...reader, ...other }, cell), comment).toBe(code)
        checked++
      }
    }
    expect(checked).toBeGreaterThan(150)
  })

  it('show every step of the order of refusal and every code that an envelope can end in', () => {
    const tests = invalid.flatMap((group) => group.tests)
    expect([...new Set(tests.map(({ step }) => step))].sort((a, b) => a - b)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    ])
    expect([...new Set(tests.map(({ code }) => code))].sort()).toEqual([
      'ERR_DECRYPT_FAILED',
      'ERR_ENVELOPE_MALFORMED',
      'ERR_ENVELOPE_VERSION',
      'ERR_KEY_NOT_FOUND',
      'ERR_LAYOUT_REFUSED',
      'ERR_PLAINTEXT_FOUND',
    ])
  })
})

it('would open the vector with another DEK but for its commitment', () => {
  const group = invalid.find(({ type }) => type === 'direct')
  const test = group?.tests.find(({ comment }) => comment.endsWith('under which the value authenticates'))
  if (group === undefined || test === undefined) throw new Error('no such vector')
  const parsed = parseEnvelope(unhex(test.stored ?? ''))
  const key = createSecretKey(unhex(test.reader?.dek ?? ''))
  const aad = policyOf(group.reader).aad(0, 1, undefined)
  const [plaintext] = nodeEngine.openMany([
    { key, aad, sealed: parsed.bytes, start: parsed.valueAt, end: parsed.bytes.length },
  ])
  expect(String(plaintext)).toBe('Ada Lovelace')
  const made = dekCommitment(key, parsed.bytes.subarray(0, 16))
  expect(commitmentHolds(made, parsed.bytes.subarray(18, 50))).toBe(false)
})

/** By its tag: a value that is older than its field's type keeps its own. */
function typeOf({ typeTag }: Stored): string {
  return CODECS.find(({ tag }) => tag === typeTag)?.type ?? ''
}

function outcome(reader: Reader, stored: string | Uint8Array | null): string {
  try {
    openStored(reader, stored)
    return 'opened'
  } catch (error) {
    if (isFieldsealError(error)) return error.code
    throw error
  }
}

function fixed(...parts: readonly (string | undefined)[]): RandomSource {
  const rest = [...parts]
  return {
    generation: 0,
    fill: (target, offset) => target.set(unhex(rest.shift() ?? ''), offset),
    bytes: () => new Uint8Array(0),
    mixKernelBytes: () => undefined,
  }
}

function valueToSeal(vector: Stored) {
  const { plaintext, valueFlags, typeTag, valueAAD } = vector
  return { plaintext: unhex(plaintext), valueFlags, typeTag, aad: unhex(valueAAD) }
}

function sealedKek(vector: Stored): Envelope {
  const bound = !vector.accepts.includes('unbound')
  const salt = unhex(vector.salt ?? '')
  const wrapKey = expandKey(createSecretKey(unhex(vector.kek ?? '')), LABELS.wrap, salt)
  const frame = createWrapFrame(wrapKey, kekHeader(unhex(vector.keyId), bound), salt, vector)
  const row = { frame, rowId: bound ? unhex(vector.rowId ?? '') : undefined, values: [valueToSeal(vector)] }
  const [[envelope] = []] = sealRows([row], nodeEngine, fixed(vector.dek, vector.wrapNonce, vector.valueNonce))
  if (envelope === undefined) throw new Error('nothing was sealed')
  return envelope
}

function sealedDirect({ dek, keyId, label = '', blob = '', valueNonce, ...vector }: Stored): Envelope {
  const key = { key: createSecretKey(unhex(dek)), recordId: unhex(keyId), label, blob: unhex(blob) }
  return sealDirect(key, valueToSeal(vector as Stored), nodeEngine, fixed(valueNonce))
}
