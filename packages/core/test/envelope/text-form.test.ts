import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { MAGIC, type Envelope } from '../../src/envelope/layout.ts'
import { envelopeFromText, envelopeToText, TEXT_PREFIX } from '../../src/envelope/text-form.ts'

const envelopeOf = (length: number) =>
  Buffer.concat([Buffer.of(MAGIC), randomBytes(length - 1)]) as Uint8Array as Envelope
const malformed = expect.objectContaining({ code: 'ERR_ENVELOPE_MALFORMED' })
const plaintext = expect.objectContaining({ code: 'ERR_PLAINTEXT_FOUND' })

it('gives the bytes back for every length of the last base64 group', () => {
  for (const length of [15, 16, 17, 112, 113, 114, 500]) {
    const envelope = envelopeOf(length)
    expect(envelopeFromText(envelopeToText(envelope))).toEqual(envelope)
  }
})

it('tells magic, version, suite and KEK id in characters 0–22 alone', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 15, maxLength: 15 }), fc.uint8Array(), fc.uint8Array(), (head, a, b) => {
      const [one, two] = [a, b].map((rest) => envelopeToText(Buffer.concat([head, rest]) as Uint8Array as Envelope))
      expect(one?.slice(0, 23)).toBe(two?.slice(0, 23))
      expect(one?.slice(0, 23)).toHaveLength(23)
    }),
  )
})

it('calls text without the prefix plaintext', () => {
  for (const text of ['', 'f', 'fs', 'FS.AAAA', 'ada@example.org', ' fs.AAAA', `${TEXT_PREFIX}`, 'fs.AAAA'])
    expect(() => envelopeFromText(text), text).toThrow(plaintext)
})

it('refuses every one-character change that Node would read as the same bytes', () => {
  for (const length of [112, 113, 114]) {
    const envelope = envelopeOf(length)
    const text = envelopeToText(envelope)
    let tolerated = 0
    for (let at = TEXT_PREFIX.length; at <= text.length; at++) {
      for (let code = 0; code < 0x100; code++) {
        const char = String.fromCharCode(code)
        for (const junk of [text.slice(0, at) + char + text.slice(at), text.slice(0, at) + char + text.slice(at + 1)]) {
          if (junk === text) continue
          if (!Buffer.from(junk.slice(TEXT_PREFIX.length), 'base64url').equals(Buffer.from(envelope))) continue
          tolerated++
          expect(() => envelopeFromText(junk), junk).toThrow(malformed)
        }
      }
    }
    expect(tolerated).toBeGreaterThan(1_000) // Node does tolerate much
  }
})

it('has one text per envelope and one envelope per text', () => {
  const base64ish = fc.stringMatching(/^[AZaz09_+/= \n.é-]{0,40}$/)
  fc.assert(
    fc.property(base64ish, (body) => {
      let bytes: Buffer
      try {
        bytes = envelopeFromText(`fs.-${body}`)
      } catch {
        return
      }
      expect(envelopeToText(bytes as Uint8Array as Envelope)).toBe(`fs.-${body}`)
    }),
    { numRuns: 2_000 },
  )
})
