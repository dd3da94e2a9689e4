import { lp } from '../../src/bytes/lp.ts'
import { NORMALIZERS, type NormalizerName, normalizerName } from '../../src/blind-index/normalize.ts'
import { contextBytes, type EncryptionContext } from '../../src/context/encryption-context.ts'
import { type RowKeyKind, rowIdOf } from '../../src/record/row-id.ts'
import { APP, KEY_FILE, localAad, localUri, TENANT } from './key-material.ts'
import type { KeyColumn } from './samples.ts'
import { kmsRow } from './envelope-vectors.ts'
import { hex, type VectorFile, type VectorTest } from './vector-file.ts'

export interface RowIdVector extends VectorTest {
  readonly columns: readonly {
    readonly field: string
    readonly kind: RowKeyKind
    readonly value?: unknown
    readonly utf16?: string
  }[]
  readonly rowId?: string
}
export interface ContextVector extends VectorTest {
  readonly context: EncryptionContext
  readonly contextBytes?: string
  readonly code?: string
}
export interface NameVector extends VectorTest {
  readonly value?: string
  readonly utf16?: string
}
export interface FieldIdVector extends VectorTest {
  readonly path: readonly (string | { readonly level: 'map' | 'array' })[]
  readonly fieldId: string
}
export interface NormalizerVector extends NameVector {
  readonly normaliser: string
  readonly normalised?: string
}

const ID = 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01'

/** A text as JSON; one with a lone surrogate, which many readers of JSON refuse, as its UTF-16 code units. */
export function asJson(text: string): { readonly value: string } | { readonly utf16: string } {
  if (text.isWellFormed()) return { value: text }
  return {
    utf16: Array.from({ length: text.length }, (_, i) => text.charCodeAt(i).toString(16).padStart(4, '0')).join(''),
  }
}

export function fromAsJson({ value, utf16 }: { readonly value?: unknown; readonly utf16?: string }): unknown {
  return utf16 === undefined
    ? value
    : String.fromCharCode(...(utf16.match(/.{4}/g) ?? []).map((unit) => Number.parseInt(unit, 16)))
}

export function rowIds(): VectorFile {
  const of = (...columns: readonly KeyColumn[]) =>
    [...columns].sort((a, b) => Buffer.compare(Buffer.from(a.field), Buffer.from(b.field)))
  const valid = (comment: string, flags: readonly string[], ...columns: readonly KeyColumn[]): RowIdVector => {
    const sorted = of(...columns)
    const row = kmsRow(sorted)
    const rowId = rowIdOf(sorted)
    if (rowId === undefined) throw new Error(comment)
    const opaque = sorted.every(({ kind }) => kind !== 'string')
    return {
      comment,
      flags,
      columns,
      rowId: hex(rowId),
      ...(opaque ? { kmsRow: row } : {}),
      result: 'valid',
    } as RowIdVector
  }
  const invalid = (reason: string, kind: KeyColumn['kind'], value: unknown): RowIdVector => ({
    comment: reason,
    flags: ['NotCanonical'],
    reason,
    columns: [{ field: 'id', kind, ...(typeof value === 'string' ? asJson(value) : { value }) }],
    result: 'invalid',
  })
  const integer = (value: unknown, field = 'id'): KeyColumn => ({ field, kind: 'integer', value })
  const uuid = (value: string, field = 'id'): KeyColumn => ({ field, kind: 'uuid', value })
  const objectid = (value: string, field = 'id'): KeyColumn => ({ field, kind: 'objectid', value })
  const string = (value: string, field = 'id'): KeyColumn => ({ field, kind: 'string', value })
  return {
    algorithm: 'FIELDSEAL-ROW-ID',
    header: [
      'Row ids. `columns` are the key columns of a row in the order of its table; `kmsRow` is the pair `row` of the context in layout direct, present where the key may stand there.',
      'An integer is a JSON number, or the text that a driver returns for a big one. An invalid key has no row id: its row is bound to none.',
    ],
    notes: {
      Composite: 'Several columns, sorted by the UTF-8 bytes of their field ids.',
      NotCanonical: 'No canonical form.',
    },
    testGroups: [
      {
        type: 'row ids',
        tests: [
          valid('integer 0', [], integer(0)),
          valid('integer 42', [], integer(42)),
          valid('integer 42 as text', [], integer('42')),
          valid('a negative integer', [], integer(-7)),
          valid('the largest safe integer', [], integer(Number.MAX_SAFE_INTEGER)),
          valid('an integer beyond 64 bits, as text', [], integer('-18446744073709551617')),
          valid('a uuid', [], uuid(ID)),
          valid('a uuid in capitals: the same row id', [], uuid(ID.toUpperCase())),
          valid('an ObjectId', [], objectid('65f0c0ffee0123456789abcd')),
          valid('a string', [], string('Größe/1')),
          valid('the empty string', [], string('')),
          valid('a uuid in a string column is a string', [], string(ID)),
          valid('a string that is not in NFC stays as it is', [], string('e\u0301')),
          valid(
            'two columns, given in another order than sorted',
            ['Composite'],
            string('x', 'tenant'),
            integer(1, 'id'),
          ),
          valid('capitals sort before small letters', ['Composite'], integer(1, 'b'), integer(2, 'B'), integer(3, 'a')),
          valid('sorted by UTF-8, not by UTF-16', ['Composite'], integer(1, '😀'), integer(2, '\uff41')),
          valid('a column name that is the beginning of another', ['Composite'], integer(1, 'id_2'), integer(2, 'id')),
          valid(
            'three kinds',
            ['Composite'],
            uuid(ID, 'c'),
            objectid('65f0c0ffee0123456789abcd', 'b'),
            integer('5', 'a'),
          ),
          invalid('an unsafe integer', 'integer', 9_007_199_254_740_992),
          invalid('a number with a fraction', 'integer', 1.5),
          invalid('a leading zero', 'integer', '01'),
          invalid('minus zero as text', 'integer', '-0'),
          invalid('a plus sign', 'integer', '+1'),
          invalid('a space before', 'integer', ' 1'),
          invalid('a line feed behind', 'integer', '1\n'),
          invalid('an exponent', 'integer', '1e3'),
          invalid('digits that are not ASCII', 'integer', '١'),
          invalid('no text', 'integer', ''),
          invalid('a null', 'integer', null),
          invalid('true', 'integer', true),
          invalid('a uuid without hyphens', 'uuid', ID.replaceAll('-', '')),
          invalid('a uuid in braces', 'uuid', `{${ID}}`),
          invalid('a uuid with a line feed', 'uuid', `${ID}\n`),
          invalid('a uuid of 35 characters', 'uuid', ID.slice(0, -1)),
          invalid('an ObjectId of 23 digits', 'objectid', '65f0c0ffee0123456789abc'),
          invalid('an ObjectId of 12 letters', 'objectid', 'abcdefghijkl'),
          invalid('a lone surrogate', 'string', 'a\ud800'),
          invalid('a number in a string column', 'string', 1),
        ],
      },
    ],
  }
}

export function contexts(): VectorFile {
  const base = {
    app: APP,
    fieldseal: '1',
    tenant: TENANT,
    keyspace: 'default',
    purpose: 'wrap',
    kek: '00112233445566778899aabb',
  }
  const valid = (comment: string, context: EncryptionContext): ContextVector =>
    ({ comment, flags: [], context, contextBytes: hex(contextBytes(context)), result: 'valid' }) as ContextVector
  const invalid = (reason: string, changes: EncryptionContext): ContextVector => {
    const context = { ...base, ...changes }
    return { comment: reason, flags: ['Limit'], reason, context, code: 'ERR_KMS_CONTEXT_INVALID', result: 'invalid' }
  }
  const pairs = (count: number, length: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, 'x'.repeat(length)]))
  const uri = localUri('clinic-7')
  const name = (comment: string, text: string): NameVector => ({ comment, flags: [], ...asJson(text), result: 'valid' })
  const noName = (reason: string, text: string): NameVector => ({
    comment: reason,
    flags: ['Name'],
    reason,
    ...asJson(text),
    result: 'invalid',
  })
  const field = (comment: string, fieldId: string, ...path: FieldIdVector['path']): FieldIdVector => ({
    comment,
    flags: [],
    path,
    fieldId,
    result: 'valid',
  })
  const map = { level: 'map' } as const
  const array = { level: 'array' } as const
  return {
    algorithm: 'FIELDSEAL-NAMES',
    header: [
      'Encryption contexts and their bytes, tenants, keyspaces and field ids; bytes are hex.',
      'A text that holds a lone surrogate stands as `utf16`, the hex of its code units.',
    ],
    notes: { Limit: 'Breaks a limit that holds for every KMS.', Name: 'No tenant, or no keyspace, can be called so.' },
    testGroups: [
      {
        type: 'contexts',
        tests: [
          valid('of a KEK', base),
          valid('of an index KEK across tenants', { ...base, tenant: '$shared', purpose: 'index' }),
          valid('in layout direct: model and row', {
            ...base,
            purpose: 'direct',
            model: 'patients',
            row: `uuid:${ID}`,
          }),
          valid('in layout direct: a composite key', {
            ...base,
            purpose: 'direct',
            model: 'visits',
            row: 'int:-7,oid:65f0c0ffee0123456789abcd',
          }),
          valid('values that are not ASCII', { ...base, tenant: 'clinic-ß 😀' }),
          valid('keys of which one is the beginning of another', { ab: '1', a: '2', 'a-b': '3', 'a.b': '4' }),
          valid('no pair', {}),
          {
            ...valid('what kms-local authenticates', { ...base, 'local.uri': uri, 'local.version': '2' }),
            contextBytes: hex(localAad(uri, 2, base)),
          },
          invalid('an empty value', { tenant: '' }),
          invalid('a value of 257 bytes', { tenant: 'x'.repeat(257) }),
          invalid('a control character', { tenant: 'a\u0000' }),
          invalid('a value not in NFC', { tenant: 'e\u0301' }),
          invalid('a key with a capital', { Tenant: 'x' }),
          invalid('an empty key', { '': 'x' }),
          invalid('a key of 65 bytes', { ['k'.repeat(65)]: 'x' }),
          invalid('nine pairs', { model: 'a', row: 'b', ninth: 'c' }),
          { ...invalid('more than 2,048 bytes', {}), context: pairs(8, 255) },
        ],
      },
      {
        type: 'key files and CMK uris',
        keyFile: KEY_FILE,
        tests: (Object.keys(KEY_FILE.cmks) as (keyof typeof KEY_FILE.cmks)[]).map((cmk) => ({
          comment: `the CMK ${cmk}`,
          flags: [],
          name: cmk,
          uri: localUri(cmk),
          result: 'valid' as const,
        })),
      } as VectorFile['testGroups'][number],
      {
        type: 'tenants',
        tests: [
          name('a tenant', TENANT),
          name('a tenant of 256 bytes', 'x'.repeat(256)),
          name('a tenant that is not ASCII', 'Klinik Köln 😀'),
          name('a tenant with a $ within', 'a$b'),
          noName('an empty tenant', ''),
          noName('a tenant of 257 bytes', 'x'.repeat(257)),
          noName('a tenant with a leading $', '$single'),
          noName('a tenant not in NFC', 'e\u0301'),
          noName('a tenant with a line feed', 'a\n'),
          noName('a tenant with a C1 control', 'a\u0085'),
          noName('a tenant with a lone surrogate', 'a\udc00'),
        ],
      },
      {
        type: 'keyspaces',
        tests: [
          name('keyspace default', 'default'),
          name('a data class', 'class:payment'),
          name('a data class, all characters', 'class:0a_.-9'),
          name('a subject', `subject:person:${ID}`),
          name('a subject whose text has a colon', 'subject:person:a:b'),
          name('a subject whose text has a line feed', 'subject:person:a\nb'),
          noName('an empty keyspace', ''),
          noName('another word', 'main'),
          noName('default in capitals', 'DEFAULT'),
          noName('a class without name', 'class:'),
          noName('a class with a capital', 'class:Payment'),
          noName('a class with a colon', 'class:a:b'),
          noName('a class that begins with a point', 'class:.a'),
          noName('a class name of 65 characters', `class:${'a'.repeat(65)}`),
          noName('a subject without text', 'subject:person:'),
          noName('a subject without of', 'subject::1'),
          noName('a subject of 257 bytes', `subject:person:${'x'.repeat(257)}`),
          noName('a line feed behind a class', 'class:payment\n'),
          noName('a subject with a lone surrogate', 'subject:person:\ud800'),
        ],
      },
      {
        type: 'field ids',
        tests: [
          field('a column', 'email', 'email'),
          field('a nested path', 'address.street', 'address', 'street'),
          field('a Map level', 'phones.$*', 'phones', map),
          field('an array level', 'contacts.$.phone', 'contacts', array, 'phone'),
          field('a Map in an array', 'a.$.b.$*.c', 'a', array, 'b', map, 'c'),
          field('a point in a name', 'a~1b', 'a.b'),
          field('a tilde in a name', 'a~0b', 'a~b'),
          field('a tilde before digits', '~01', '~1'),
          field('a leading $', '~2x', '$x'),
          field('a $ within', 'a$b', 'a$b'),
          field('a name that looks like a Map level', 'a.~2*', 'a', '$*'),
          field('a name that looks like an array level', '~2.b', '$', 'b'),
          field('all escapes', '~2~1~0', '$.~'),
        ],
      },
    ],
  }
}

export function normalizers(): VectorFile {
  const cases: Record<
    NormalizerName,
    { readonly valid: readonly (readonly [string, string])[]; readonly invalid: readonly (readonly [string, string])[] }
  > = {
    none: {
      valid: [
        ['nothing changes', ' Ada\u0378 '],
        ['not in NFC', 'e\u0301'],
      ],
      invalid: [],
    },
    trim: {
      valid: [
        ['the empty text', ''],
        ['white space alone', ' \t\n'],
        [
          'each white space',
          '\u0009\u000a\u000b\u000c\u000d\u0020\u0085\u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000a\u3000\u205f\u202f\u2029\u2028\u200a\u2000\u1680\u00a0\u0085\u0020\u000d\u000c\u000b\u000a\u0009',
        ],
        ['not white space: U+FEFF, U+200B, U+180E, U+001F, U+2060', '\ufeff\u200b\u180e\u001f\u2060'],
        ['white space within stays', 'a  b'],
        ['capitals and form stay', 'E\u0301'],
        ['a private use character', '\ue000'],
      ],
      invalid: [
        ['a code point without assignment', 'a\u0378'],
        ['a noncharacter', 'a\uffff'],
        ['a noncharacter beyond the BMP', '\u{1ffff}'],
        ['a lone surrogate', '\ud800'],
      ],
    },
    lower: {
      valid: [
        ['ASCII', ' ADA Lovelace '],
        ['composed and decomposed', 'E\u0301\u00c9'],
        ['compatibility: ligature, full width, superscript', 'ﬁＡＢＣ²'],
        ['final sigma has no rule of its own', 'ΟΔΟΣ'],
        ['capital I with dot', 'İ'],
        ['dotless i', 'ı'],
        ['capital sharp s', 'ẞß'],
        ['Kelvin and Angstrom', '\u212a\u212b'],
        ['titlecase digraph', 'ǅ'],
        ['a script whose capitals came later', 'Ꭰ'],
        ['beyond the BMP', '𐐀'],
        ['white space that NFKC makes stays', '\u00a8a'],
        ['case before the second NFKC', 'ϓ'],
        ['an invisible character stays', 'a\u200db'],
        ['composed only after the case', '\u1e9e\u0323\u0307'],
      ],
      invalid: [
        ['no assignment, lower', '\u0378'],
        ['a lone surrogate, lower', 'a\udfff'],
      ],
    },
    email: {
      valid: [
        ['an address', ' Ada.Lovelace+x@Example.ORG\n'],
        ['nothing is taken away from the local part', 'a.d.a+tag@googlemail.com'],
        ['an address that is not ASCII', 'Ünal@EXÄMPLE.org'],
      ],
      invalid: [['no assignment, email', 'a@\u0378']],
    },
    digits: {
      valid: [
        ['no text', ''],
        ['white space only', ' \u3000'],
        ['a telephone number', '+43 (0) 660 / 123-45'],
        ['without plus', '0043 660 12345'],
        ['white space before the plus', ' +1 2'],
        ['full width', '＋１２'],
        ['superscript digits', '1²'],
        ['a plus within', '1+2'],
        ['two pluses', '++1'],
        ['letters among digits', 'AT12 3456'],
      ],
      invalid: [
        ['no digit', 'abc'],
        ['a plus alone', '+'],
        ['Arabic-Indic digits', '١٢٣'],
        ['Devanagari among ASCII', '1२3'],
        ['no assignment, digits', '1\u0378'],
      ],
    },
  }
  const group = (name: NormalizerName) => {
    const normalizer = NORMALIZERS[name]
    const normaliser = normalizerName(normalizer)
    return {
      type: normaliser,
      tests: [
        ...cases[name].valid.map(
          ([comment, value]): NormalizerVector => ({
            comment: `${name}: ${comment}`,
            flags: [],
            normaliser,
            ...asJson(value),
            normalised: normalizer.normalize(value),
            result: 'valid',
          }),
        ),
        ...cases[name].invalid.map(
          ([reason, value]): NormalizerVector => ({
            comment: `${name}: ${reason}`,
            flags: ['Refused'],
            reason,
            normaliser,
            ...asJson(value),
            result: 'invalid',
          }),
        ),
      ],
    }
  }
  return {
    algorithm: 'FIELDSEAL-NORMALISER',
    header: [
      'Normalisers of blind indexes. A text that holds a lone surrogate stands as `utf16`, the hex of its code units.',
    ],
    notes: { Refused: 'ERR_VALUE_INVALID when written or looked for.' },
    testGroups: (['none', 'trim', 'lower', 'email', 'digits'] as const).map(group),
  }
}

/** LP of texts, for the examples of the specification. */
export function lpHex(...items: readonly string[]): string {
  return hex(lp(...items))
}
