import { createSecretKey } from 'node:crypto'
import { nodeEngine } from '../../src/cipher/aead.ts'
import { expandKey, LABELS } from '../../src/cipher/hkdf.ts'
import { createWrapFrame, kekHeader } from '../../src/field/dek-wrap.ts'
import { valueAad } from '../../src/field/field-policy.ts'
import { sealRows } from '../../src/field/seal-rows.ts'
import { hex, validEnvelopes } from './envelope-vectors.ts'
import { scriptedRandom } from './scripted-random.ts'

interface Valid {
  readonly id: string
  readonly mode: string
  readonly kek: string
  readonly salt: string
  readonly rowId: string
  readonly valueAAD: string
  readonly dek: string
  readonly envelope: string
  readonly text: string
}

/** One per reason of refusal. What a vector does not name is as in the first valid one: a bound string of layout `kek`. */
export function invalidEnvelopes(): readonly object[] {
  const valid = validEnvelopes() as readonly Valid[]
  const [bound] = valid
  const direct = valid.find(({ mode }) => mode === 'direct')
  if (bound === undefined || direct === undefined) throw new Error('no valid vectors')
  const envelope = Buffer.from(bound.envelope, 'hex')
  const directBytes = Buffer.from(direct.envelope, 'hex')
  const reader = { mode: 'direct', dek: direct.dek, valueAAD: direct.valueAAD, rowId: direct.rowId }
  const set = (source: Buffer, at: number, byte: number) => {
    const copy = Buffer.from(source)
    copy[at] = byte
    return hex(copy)
  }
  const flip = (source: Buffer, at: number) => set(source, at, (source[at] ?? 0) ^ 1)
  const binary = (id: string, flag: string, code: string, stored: string, more: object = {}) => ({
    id,
    result: 'invalid',
    flags: [flag],
    code,
    form: 'binary',
    stored,
    ...more,
  })
  const text = (id: string, flag: string, code: string, stored: string) => ({
    id,
    result: 'invalid',
    flags: [flag],
    code,
    form: 'text',
    stored,
  })
  const body = bound.text.slice(3)
  return [
    binary('not an envelope', 'NoMagic', 'ERR_PLAINTEXT_FOUND', hex(Buffer.from('Ada Lovelace'))),
    binary('empty', 'NoMagic', 'ERR_PLAINTEXT_FOUND', ''),
    binary('magic alone', 'Truncated', 'ERR_ENVELOPE_MALFORMED', 'f8'),
    binary('magic and version', 'Truncated', 'ERR_ENVELOPE_MALFORMED', 'f801'),
    binary('version 2', 'NewerVersion', 'ERR_ENVELOPE_VERSION', set(envelope, 1, 2)),
    binary('suite of a reserved layout', 'UnknownSuite', 'ERR_ENVELOPE_VERSION', set(envelope, 2, 0x21)),
    binary('suite of an unknown AEAD', 'UnknownSuite', 'ERR_ENVELOPE_VERSION', set(envelope, 2, 0x02)),
    binary('one byte short of the shortest', 'Truncated', 'ERR_ENVELOPE_MALFORMED', hex(envelope.subarray(0, 111))),
    binary('last byte cut', 'Truncated', 'ERR_DECRYPT_FAILED', hex(envelope.subarray(0, -1))),
    binary('one byte added', 'Extended', 'ERR_DECRYPT_FAILED', `${hex(envelope)}00`),
    binary('unknown wrap flag', 'UnknownFlag', 'ERR_ENVELOPE_MALFORMED', set(envelope, 15, 0x03)),
    binary('unknown value flag', 'UnknownFlag', 'ERR_ENVELOPE_MALFORMED', set(envelope, 16, 0x02)),
    binary('type tag 0', 'UnknownTag', 'ERR_ENVELOPE_MALFORMED', set(envelope, 17, 0)),
    binary('type tag 10', 'UnknownTag', 'ERR_ENVELOPE_MALFORMED', set(envelope, 17, 10)),
    binary('another type tag', 'WrongTag', 'ERR_DECRYPT_FAILED', set(envelope, 17, 6), {
      valueAAD: hex(valueAad(0, 6, 'patients', 'secret', [])),
    }),
    binary('padded flag set', 'WrongFlag', 'ERR_DECRYPT_FAILED', set(envelope, 16, 1), {
      valueAAD: hex(valueAad(1, 1, 'patients', 'secret', [])),
    }),
    binary('row-bound flag cleared', 'WrongFlag', 'ERR_DECRYPT_FAILED', set(envelope, 15, 0)),
    binary('KEK id altered', 'Altered', 'ERR_DECRYPT_FAILED', flip(envelope, 3)),
    binary('salt altered', 'Altered', 'ERR_DECRYPT_FAILED', flip(envelope, 18)),
    binary('wrap nonce altered', 'Altered', 'ERR_DECRYPT_FAILED', flip(envelope, 24)),
    binary('wrapped DEK altered', 'Altered', 'ERR_DECRYPT_FAILED', flip(envelope, 36)),
    binary('wrap tag altered', 'Altered', 'ERR_DECRYPT_FAILED', flip(envelope, 83)),
    binary('value nonce altered', 'Altered', 'ERR_DECRYPT_FAILED', flip(envelope, 84)),
    binary('ciphertext altered', 'Altered', 'ERR_DECRYPT_FAILED', flip(envelope, 96)),
    binary('value tag altered', 'Altered', 'ERR_DECRYPT_FAILED', flip(envelope, envelope.length - 1)),
    binary('read as another tenant', 'Moved', 'ERR_DECRYPT_FAILED', hex(envelope), { tenant: 'clinic-8' }),
    binary('read in another keyspace', 'Moved', 'ERR_DECRYPT_FAILED', hex(envelope), { keyspace: 'class:payment' }),
    binary('read in another model', 'Moved', 'ERR_DECRYPT_FAILED', hex(envelope), { model: 'visits' }),
    binary('read in another row', 'Moved', 'ERR_DECRYPT_FAILED', hex(envelope), {
      rowId: bound.rowId.replace(/01$/, '02'),
    }),
    binary('read in another column', 'Moved', 'ERR_DECRYPT_FAILED', hex(envelope), {
      valueAAD: hex(valueAad(0, 1, 'patients', 'other', [])),
    }),
    binary('direct without row-bound', 'UnknownFlag', 'ERR_ENVELOPE_MALFORMED', set(directBytes, 15, 0), reader),
    binary('direct with a label too long', 'BadLength', 'ERR_ENVELOPE_MALFORMED', set(directBytes, 50, 65), reader),
    binary('direct without a blob', 'BadLength', 'ERR_ENVELOPE_MALFORMED', set(directBytes, 52, 0), reader),
    binary(
      'direct with a blob beyond its end',
      'BadLength',
      'ERR_ENVELOPE_MALFORMED',
      set(directBytes, 51, 0x10),
      reader,
    ),
    binary('direct with another commitment', 'Altered', 'ERR_DECRYPT_FAILED', flip(directBytes, 18), reader),
    binary('direct under another DEK', 'WrongKey', 'ERR_DECRYPT_FAILED', hex(directBytes), {
      ...reader,
      dek: 'ff'.repeat(32),
    }),
    ...undecodable(bound),
    text('no prefix', 'NoPrefix', 'ERR_PLAINTEXT_FOUND', body),
    text('prefix alone', 'NoMagic', 'ERR_PLAINTEXT_FOUND', 'fs.'),
    text('base64 padding', 'NotCanonical', 'ERR_ENVELOPE_MALFORMED', `${bound.text}=`),
    text(
      'a character that is not base64url',
      'NotCanonical',
      'ERR_ENVELOPE_MALFORMED',
      `${bound.text.slice(0, 40)}*${bound.text.slice(40)}`,
    ),
    text('white space', 'NotCanonical', 'ERR_ENVELOPE_MALFORMED', `${bound.text} `),
  ]
}

/** Values that authenticate but are not what an encoder writes. */
function undecodable({ kek, salt, rowId, id }: Valid): readonly object[] {
  const cases = [
    ['invalid UTF-8', 'string', 1, 0, 'ff'],
    ['a lone surrogate in UTF-8', 'string', 1, 0, 'eda080'],
    ['NaN with another payload', 'number', 2, 0, '7ff8000000000001'],
    ['a number of seven bytes', 'number', 2, 0, '00000000000000'],
    ['a boolean of 2', 'boolean', 3, 0, '02'],
    ['a bigint of no bytes', 'bigint', 4, 0, ''],
    ['a bigint that is not minimal', 'bigint', 4, 0, '0001'],
    ['a negative bigint that is not minimal', 'bigint', 4, 0, 'ff80'],
    ['an instant beyond the limit', 'date', 5, 0, '001eb208c2dc0001'],
    ['json with white space', 'json', 7, 0, hex(Buffer.from('{"a": 1}'))],
    ['json with a duplicate key', 'json', 7, 0, hex(Buffer.from('{"a":1,"a":1}'))],
    ['json in another order', 'json', 7, 0, hex(Buffer.from('{"b":1,"a":1}'))],
    ['json with another number form', 'json', 7, 0, hex(Buffer.from('1.0'))],
    ['json with a BOM', 'json', 7, 0, `efbbbf${hex(Buffer.from('1'))}`],
    ['a day that does not exist', 'day', 9, 0, hex(Buffer.from('1900-02-29'))],
    ['padding without a byte behind the length', 'string', 1, 1, '00000000'],
    ['padding longer than the value', 'string', 1, 1, '0000000461'],
    ['padding that is not zero', 'string', 1, 1, '000000016101'],
    ['an encrypted null where nulls are not encrypted', 'string', 1, 1, 'ffffffff00'],
  ] as const
  return cases.map(([comment, type, tag, flags, plaintext]) => {
    const aad = valueAad(flags, tag, 'patients', 'secret', [])
    const saltBytes = Buffer.from(salt, 'hex')
    const place = { tenant: 'clinic-7', keyspace: 'default', model: 'patients' }
    const header = kekHeader(Buffer.from('00112233445566778899aabb', 'hex'), true)
    const frame = createWrapFrame(
      expandKey(createSecretKey(Buffer.from(kek, 'hex')), LABELS.wrap, saltBytes),
      header,
      saltBytes,
      place,
    )
    const value = { plaintext: Buffer.from(plaintext, 'hex'), valueFlags: flags, typeTag: tag, aad }
    const row = { frame, rowId: Buffer.from(rowId, 'hex'), values: [value] }
    const [[envelope] = []] = sealRows([row], nodeEngine, scriptedRandom(`${id} ${comment}`))
    return {
      id: comment,
      result: 'invalid',
      flags: ['NotCanonical'],
      code: 'ERR_DECRYPT_FAILED',
      form: 'binary',
      type,
      valueAAD: hex(aad),
      stored: hex(envelope ?? Buffer.alloc(0)),
    }
  })
}
