// The vectors of docs/spec, by a decoder that was written from its text alone.
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  checkContext,
  columnsOf,
  commitmentOf,
  contextBytes,
  expand,
  fieldIdOf,
  hmac,
  indexFacts,
  indexKeyOf,
  isKeyspace,
  isTenant,
  kekFacts,
  kekRecordMac,
  kmsRowOf,
  localAad,
  lp,
  NORMALISERS,
  openValue,
  parseEnvelope,
  readIndexRecord,
  readKek,
  readKeyFile,
  readRecord,
  Refused,
  rowIdOf,
  sha256,
  subjectAad,
  tokenOf,
  unwrapDek,
  unwrapLocalBlob,
  uriOf,
  valueFacts,
  wrapAad,
  wrapKeyOf,
} from './decoder.mjs'

const spec = path.join(import.meta.dirname, '..', '..', 'docs', 'spec')
const groupsOf = (name) => JSON.parse(readFileSync(path.join(spec, 'vectors', name), 'utf8')).testGroups
const hex = (bytes) => Buffer.from(bytes).toString('hex')
const unhex = (text) => Buffer.from(text, 'hex')

/** What an action ends in: its result, or the code of its refusal. Anything else is a fault of the decoder. */
function outcome(action) {
  try {
    return action()
  } catch (error) {
    if (error instanceof Refused) return error.code
    throw error
  }
}

function placeOf({ tenant, keyspace, model, field, mapKeys, rowId, type, formerTypes = [], accepts, ...more }) {
  const layouts = accepts.filter((one) => one !== 'unbound')
  const { maxBytes, encryptNull: encryptNulls } = more
  return {
    tenant,
    keyspace,
    model,
    field,
    mapKeys,
    rowId: rowId === undefined ? undefined : unhex(rowId),
    type: [type, ...formerTypes],
    layouts,
    unbound: accepts.includes('unbound'),
    maxBytes,
    encryptNulls,
  }
}

function asJson(tag, value) {
  if (value === null) return null
  if (tag === 4) return { $bigint: String(value) }
  if (tag === 5) return { $date: value.getTime() }
  if (tag === 6) return { $bytes: hex(value) }
  if (tag === 2 && (Object.is(value, -0) || !Number.isFinite(value)))
    return { $number: Object.is(value, -0) ? '-0' : String(value) }
  return value
}

const keyFor = (reader) => (id) => (id === reader.keyId ? unhex(reader.kek ?? reader.dek) : undefined)

describe('envelopes', () => {
  const valid = groupsOf('envelopes-valid.json')
  const invalid = groupsOf('envelopes-invalid.json')

  it('opens every valid one, as bytes and as text', () => {
    let opened = 0
    for (const vector of valid.flatMap(({ tests }) => tests)) {
      for (const stored of [unhex(vector.envelope), vector.text]) {
        const value = openValue(stored, placeOf(vector), keyFor(vector))
        if (vector.typeTag === 8) expect(Object.keys({ v: value }), vector.comment).toEqual(['v'])
        else expect(asJson(vector.typeTag, value), vector.comment).toEqual(vector.value)
        opened += 1
      }
    }
    expect(opened).toBeGreaterThan(300)
  })

  it('finds every intermediate value on its own', () => {
    for (const vector of valid.flatMap(({ tests }) => tests)) {
      const envelope = parseEnvelope(vector.text)
      const place = placeOf(vector)
      expect(hex(envelope.bytes), vector.comment).toBe(vector.envelope)
      expect(hex(envelope.header16)).toBe(vector.header)
      expect(hex(envelope.id)).toBe(vector.keyId)
      expect([envelope.tag, envelope.valueFlags]).toEqual([vector.typeTag, vector.valueFlags])
      expect(hex(envelope.nonce)).toBe(vector.valueNonce)
      expect(envelope.n).toBe(vector.plaintext.length / 2)
      expect(hex(valueFacts(envelope, place)), vector.comment).toBe(vector.valueFacts)
      expect(hex(sha256(unhex(vector.valueFacts)))).toBe(vector.valueAAD)
      if (vector.rowKey !== undefined) expect(hex(rowIdOf(vector.rowKey)), vector.comment).toBe(vector.rowId)
      if (envelope.layout === 'kek') checkKek(vector, envelope, place)
      else checkDirect(vector, envelope)
    }
  })

  function checkKek(vector, envelope, place) {
    const kek = unhex(vector.kek)
    expect(hex(envelope.salt)).toBe(vector.salt)
    expect(hex(envelope.wrapNonce)).toBe(vector.wrapNonce)
    expect(hex(lp('fieldseal/1/wrap', envelope.salt))).toBe(vector.wrapKeyInfo)
    expect(hex(wrapKeyOf(kek, envelope.salt)), vector.comment).toBe(vector.wrapKey)
    expect(hex(wrapAad(envelope, place)), vector.comment).toBe(vector.wrapAAD)
    expect(hex(unwrapDek(envelope, place, kek))).toBe(vector.dek)
    expect(envelope.bytes.length - envelope.n).toBe(112)
  }

  function checkDirect(vector, envelope) {
    const { keyFile } = valid.find(({ type }) => type === 'direct')
    const { tenant, keyspace, model, context, rowKey, keyId } = vector
    const row = kmsRowOf(rowKey)
    const expected = { app: 'clinic', fieldseal: '1', tenant, keyspace, purpose: 'direct', kek: keyId, model, row }
    expect(context, vector.comment).toEqual(expected)
    checkContext(context)
    expect(hex(contextBytes(context))).toBe(vector.contextBytes)
    expect([envelope.label.toString(), hex(envelope.blob)]).toEqual([vector.label, vector.blob])
    expect(hex(envelope.commitment)).toBe(vector.commitment)
    expect(hex(commitmentOf(unhex(vector.dek), envelope.header16))).toBe(vector.commitment)
    expect(hex(expand(unhex(vector.dek), lp('fieldseal/1/commit-key')))).toBe(vector.commitKey)
    expect(hex(lp('fieldseal/1/dek-commit', envelope.header16))).toBe(vector.commitmentFacts)
    if (vector.cmk !== undefined)
      expect(hex(unwrapLocalBlob(keyFile, vector.cmk, envelope.blob, context))).toBe(vector.dek)
  }

  it('refuses every invalid one in the class it names', () => {
    let refused = 0
    for (const { reader, tests } of invalid) {
      for (const { comment, form, stored, code, reader: other } of tests) {
        const all = { ...reader, ...other }
        const cell = form === 'binary' ? unhex(stored) : stored
        expect(
          outcome(() => (openValue(cell, placeOf(all), keyFor(all)), 'opened')),
          comment,
        ).toBe(code)
        refused += 1
      }
    }
    expect(refused).toBeGreaterThan(150)
  })

  it('refuses every valid one with any bit of any byte flipped, but for the label', () => {
    const rowId = rowIdOf([{ field: 'id', kind: 'integer', value: 1 }])
    const one = (type) =>
      valid.find((group) => group.type.startsWith(type)).tests.find(({ plaintext }) => plaintext.length < 10)
    for (const vector of [one('kek, bound to the row'), one('kek, bound to no row'), one('direct')]) {
      const { keyFile } = valid.find(({ type }) => type === 'direct')
      const keyOf = (id, { blob }) =>
        vector.cmk === undefined
          ? keyFor(vector)(id)
          : unwrapLocalBlob(keyFile, vector.cmk, blob, { ...vector.context, kek: id })
      const place = placeOf(vector)
      place.rowId ??= rowId // every reader knows its row
      const bytes = unhex(vector.envelope)
      expect(asJson(vector.typeTag, openValue(bytes, place, keyOf))).toEqual(vector.value)
      for (let at = 0; at < bytes.length; at += 1) {
        for (let bit = 0; bit < 8; bit += 1) {
          const copy = Buffer.from(bytes)
          copy[at] ^= 1 << bit
          const isLabel = vector.label !== undefined && at === 53
          expect(
            outcome(() => (openValue(copy, place, keyOf), 'opened')) === 'opened',
            `${vector.comment}, byte ${at} bit ${bit}`,
          ).toBe(isLabel)
        }
      }
    }
  })
})

describe('key records', () => {
  it('reads every KEK and refuses the others with the code they name', () => {
    let count = 0
    for (const { keyFile, tests } of groupsOf('kek-records.json')) {
      for (const { comment, row, id, expected, cmks, kek, code } of tests) {
        const found = outcome(() => hex(readKek([row.record], id, expected, { keyFile, cmks }).kek))
        expect(found, comment).toBe(kek ?? code)
        count += 1
      }
    }
    expect(count).toBeGreaterThan(70)
  })

  it('finds columns, MAC and additional data of each on its own', () => {
    const [{ tests, keyFile }] = groupsOf('kek-records.json')
    expect(readKeyFile(JSON.stringify(keyFile))).toEqual(keyFile)
    for (const vector of tests) {
      const record = readRecord(vector.row.record)
      const { record: _text, ...columns } = vector.row
      expect(columnsOf(record), vector.comment).toEqual(columns)
      const kek = unhex(vector.kek)
      expect(hex(kekFacts(record, vector.expected)), vector.comment).toBe(vector.macFacts)
      expect(hex(expand(kek, lp('fieldseal/1/record')))).toBe(vector.macKey)
      expect(hex(kekRecordMac(kek, record, vector.expected))).toBe(vector.mac)
      expect(hex(contextBytes(vector.context))).toBe(vector.contextBytes)
      const [uri] = vector.cmks
      const wrap = record.wraps.find((one) => one.uri === uri)
      const version = Buffer.from(wrap.blob, 'base64url').readUInt32BE(1)
      expect(hex(localAad(uri, version, vector.context))).toBe(vector.blobAAD)
    }
  })

  it('reads every KEK of a data subject and refuses the others with the code they name', () => {
    const [{ keyFile, cmks, parents, tests }] = groupsOf('subject-keks.json')
    for (const vector of tests) {
      const texts = [...parents.map(({ row }) => row.record), vector.row.record]
      const found = outcome(() => hex(readKek(texts, vector.id, vector.expected, { keyFile, cmks }).kek))
      expect(found, vector.comment).toBe(vector.kek ?? vector.code)
      if (vector.result === 'invalid') continue
      const record = readRecord(vector.row.record)
      const parent = parents.find(({ row }) => row.id === record.parent)
      expect(hex(subjectAad(record, vector.expected)), vector.comment).toBe(vector.aad)
      expect(hex(lp('fieldseal/1/kek-wrap', unhex(vector.salt)))).toBe(vector.wrapKeyInfo)
      expect(hex(expand(unhex(parent.kek), unhex(vector.wrapKeyInfo)))).toBe(vector.wrapKey)
      expect(hex(kekFacts(record, vector.expected))).toBe(vector.macFacts)
      expect(hex(kekRecordMac(unhex(vector.kek), record, vector.expected))).toBe(vector.mac)
    }
    expect(tests.length).toBeGreaterThan(20)
  })

  it('takes no KEK of purpose index for a value', () => {
    const [{ keyFile, tests }] = groupsOf('kek-records.json')
    const { row, id, expected, cmks } = tests.find(({ comment }) => comment === 'purpose index')
    const read = (purpose) =>
      outcome(() => readKek([row.record], id, expected, { keyFile, cmks }, { purpose }).record.id)
    expect(read('index')).toBe(id)
    expect(read('wrap')).toBe('ERR_KEY_NOT_FOUND')
  })
})

describe('blind indexes', () => {
  const [tokens, records] = groupsOf('index-and-tokens.json')

  it('makes every token', () => {
    for (const { comment, model, index, epoch, bits, normaliser, components, ...vector } of tokens.tests) {
      const kek = unhex(tokens.kek)
      const key = indexKeyOf(kek, { model, index, epoch, normaliser, bits })
      expect(hex(key), comment).toBe(vector.indexKey)
      expect(hex(expand(kek, unhex(vector.indexKeyInfo)))).toBe(vector.indexKey)
      expect(components.map((one) => `${one.normaliser}@1`).join('+'), comment).toBe(normaliser)
      const parts = components.map(partOf)
      expect(
        components.some(({ value }) => value === null) ? null : parts.map(({ bytes }) => hex(bytes)),
        comment,
      ).toEqual(vector.token === null ? null : components.map(({ bytes }) => bytes))
      const token = tokenOf(key, epoch, bits, parts)
      expect(token && hex(token), comment).toBe(vector.token)
      if (token !== null) expect(hex(hmac(key, unhex(vector.message)))).toBe(vector.mac)
    }
    expect(tokens.tests.length).toBeGreaterThan(20)
  })

  it('uses every index record and refuses the others with the code they name', () => {
    const { keyFile, cmks, kekRow, expected, tests } = records
    const [{ tests: keks }] = groupsOf('kek-records.json')
    const texts = [kekRow.record, keks[0].row.record]
    for (const { comment, row, described, code, macFacts, mac } of tests) {
      const found = outcome(() => readIndexRecord(row.record, described, expected, texts, { keyFile, cmks }))
      if (code !== undefined) expect(found, comment).toBe(code)
      else {
        const { model, index } = described
        expect(hex(found.kek), comment).toBe(records.kek)
        expect(hex(indexFacts(found.record, { ...expected, model, index })), comment).toBe(macFacts)
        expect(Buffer.from(found.record.mac, 'base64url').toString('hex')).toBe(mac)
        const { record: _text, ...columns } = row
        expect(columnsOf(found.record)).toEqual(columns)
      }
    }
    expect(tests.length).toBeGreaterThan(20)
  })
})

const ENCODERS = {
  string: (value) => Buffer.from(value),
  number: (value) => {
    const bytes = Buffer.alloc(8)
    bytes.writeDoubleBE((value.$number === undefined ? value : Number(value.$number)) || 0) // -0 counts as 0
    return bytes
  },
  boolean: (value) => Buffer.of(value ? 1 : 0),
  bigint: ({ $bigint }) => minimal(BigInt($bigint)),
  date: ({ $date }) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64BE(BigInt($date))
    return bytes
  },
  bytes: ({ $bytes }) => unhex($bytes),
  bson: ({ $bytes }) => unhex($bytes),
  day: (value) => Buffer.from(value),
}
const TAG_OF = { string: 1, number: 2, boolean: 3, bigint: 4, date: 5, bytes: 6, bson: 8, day: 9 }

/** The fewest bytes that give the value back. */
function minimal(value) {
  let length = 1
  while (BigInt.asIntN(length * 8, value) !== value) length += 1
  return unhex(
    BigInt.asUintN(length * 8, value)
      .toString(16)
      .padStart(length * 2, '0'),
  )
}

function partOf({ type, normaliser, value }) {
  if (value === null) return null
  const normalised = type === 'string' ? NORMALISERS[`${normaliser}@1`](value) : value
  return { tag: TAG_OF[type], bytes: ENCODERS[type](normalised) }
}

function textOf({ value, utf16 }) {
  if (utf16 === undefined) return value
  return String.fromCharCode(...(utf16.match(/.{4}/g) ?? []).map((unit) => Number.parseInt(unit, 16)))
}

describe('names', () => {
  const groups = groupsOf('contexts.json')
  const testsOf = (type) => groups.find((group) => group.type === type).tests

  it('gives contexts their bytes and refuses what breaks a limit', () => {
    for (const { comment, context, contextBytes: bytes, code } of testsOf('contexts')) {
      if (comment.startsWith('what kms-local')) {
        const { 'local.uri': uri, 'local.version': version, ...own } = context
        expect(hex(localAad(uri, version, own))).toBe(bytes)
      } else {
        const made = outcome(() => {
          checkContext(context)
          return hex(contextBytes(context))
        })
        expect(made, comment).toBe(code ?? bytes)
      }
    }
  })

  it('names CMKs of a key file', () => {
    const { keyFile, tests } = groups.find(({ type }) => type.startsWith('key files'))
    for (const { name, uri } of tests) expect(uriOf(keyFile, name)).toBe(uri)
  })

  it.each([
    ['tenants', isTenant],
    ['keyspaces', isKeyspace],
  ])('tells %s from other texts', (type, is) => {
    for (const vector of testsOf(type)) expect(is(textOf(vector)), vector.comment).toBe(vector.result === 'valid')
  })

  it('makes field ids', () => {
    for (const { comment, path: steps, fieldId } of testsOf('field ids'))
      expect(fieldIdOf(steps), comment).toBe(fieldId)
  })

  it('makes row ids', () => {
    const [{ tests }] = groupsOf('row-ids.json')
    for (const vector of tests) {
      const columns = vector.columns.map((column) => ({ ...column, value: textOf(column) }))
      const made = outcome(() => hex(rowIdOf(columns)))
      expect(made, vector.comment).toBe(vector.rowId ?? 'ERR_ENVELOPE_MALFORMED')
      if (vector.kmsRow !== undefined) expect(kmsRowOf(columns)).toBe(vector.kmsRow)
      else expect(outcome(() => kmsRowOf(columns))).toMatch(/^ERR_/)
    }
  })

  it('normalises texts', () => {
    for (const { tests } of groupsOf('normalizers.json')) {
      for (const vector of tests) {
        const made = outcome(() => NORMALISERS[vector.normaliser](textOf(vector)))
        expect(made, vector.comment).toBe(vector.result === 'valid' ? vector.normalised : 'ERR_VALUE_INVALID')
      }
    }
  })
})
