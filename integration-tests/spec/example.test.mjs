// The worked example of the specification is made of vectors, so that it cannot grow old.
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { expand, hmac, lp } from './decoder.mjs'

const spec = path.join(import.meta.dirname, '..', '..', 'docs', 'spec')
const text = readFileSync(path.join(spec, 'envelope-v1.md'), 'utf8')
const [, example = ''] = /## Worked example\n([^]*?)\n## /.exec(text) ?? []
const groupsOf = (name) => JSON.parse(readFileSync(path.join(spec, 'vectors', name), 'utf8')).testGroups
const testsOf = (name) => groupsOf(name).flatMap(({ tests }) => tests)

/** Hex of the example by its names: a line without a name goes on with the one before. */
function named() {
  const found = new Map()
  let last
  for (const [, name, hex] of example.matchAll(/^(\S.{0,14}?)? {2,}([0-9a-f]+)$/gm)) {
    if (name !== undefined) last = `${name}${found.has(name) ? ' 2' : ''}`
    found.set(last, (found.get(last) ?? '') + hex)
  }
  return found
}

it('shows a vector with every byte of it', () => {
  const [vector] = testsOf('envelopes-valid.json')
  const shown = named()
  expect(example).toContain(vector.text)
  const names = [
    'magic … suite',
    'KEK id',
    'flags, tag',
    'wrap salt',
    'wrap nonce',
    'wrapped DEK',
    'wrap tag',
    'value nonce',
  ]
  expect([...names, 'ciphertext', 'value tag'].map((name) => shown.get(name)).join('')).toBe(vector.envelope)
  expect(shown.get('row id')).toBe(vector.rowId)
  expect(shown.get('LP(wrap, salt)')).toBe(vector.wrapKeyInfo)
  expect(shown.get('wrapKey')).toBe(vector.wrapKey)
  expect(shown.get('wrapAAD')).toBe(vector.wrapAAD)
  expect(shown.get('DEK')).toBe(vector.dek)
  expect(shown.get('LP(value, …)')).toBe(vector.valueFacts)
  expect(shown.get('valueAAD')).toBe(vector.valueAAD)
  expect(shown.get('plaintext')).toBe(vector.plaintext)
})

it('shows the KEK of that vector with its record', () => {
  const [{ tests, keyFile }] = groupsOf('kek-records.json')
  const [vector] = tests
  const shown = named()
  const [wrap] = JSON.parse(vector.row.record).wraps
  const { key } = keyFile.cmks['clinic-7'].versions[1]
  expect(shown.get('CMK version 2')).toBe(Buffer.from(key, 'base64url').toString('hex'))
  expect(shown.get('context bytes')).toBe(vector.contextBytes)
  expect(shown.get('aad')).toBe(vector.blobAAD)
  expect(shown.get('blob')).toBe(Buffer.from(wrap.blob, 'base64url').toString('hex'))
  expect(shown.get('KEK')).toBe(vector.kek)
  expect(shown.get('LP(facts)')).toBe(vector.macFacts)
  expect(shown.get('MAC key')).toBe(vector.macKey)
  expect(shown.get('MAC')).toBe(vector.mac)
  const [envelope] = testsOf('envelopes-valid.json')
  expect([envelope.kek, envelope.keyId]).toEqual([vector.kek, vector.id])
})

it('shows layout direct and a token', () => {
  const shown = named()
  const direct = testsOf('envelopes-valid.json').find(({ comment }) => comment === 'string, direct: a string')
  const names = [
    'magic … suite 2',
    'record id',
    'flags, tag 2',
    'commitment',
    'L',
    'B',
    'label',
    'blob 2',
    'value nonce 2',
  ]
  expect([...names, 'ciphertext 2', 'value tag 2'].map((name) => shown.get(name)).join('')).toBe(direct.envelope)
  expect(shown.get('context bytes 2')).toBe(direct.contextBytes)
  expect(shown.get('DEK 2')).toBe(direct.dek)
  expect(shown.get('commit key')).toBe(direct.commitKey)
  expect(shown.get('LP(commit, …)')).toBe(direct.commitmentFacts)
  const [tokens] = groupsOf('index-and-tokens.json')
  const token = tokens.tests.find(({ comment }) => comment === 'email')
  expect(shown.get('index KEK')).toBe(tokens.kek)
  expect(shown.get('LP(index, …)')).toBe(token.indexKeyInfo)
  expect(shown.get('indexKey')).toBe(token.indexKey)
  expect(shown.get('normalised')).toBe(token.components[0].bytes)
  expect(shown.get('message')).toBe(token.message)
  expect(shown.get('HMAC')).toBe(token.mac)
  expect(shown.get('token')).toBe(token.token)
  expect(
    hmac(
      expand(Buffer.from(tokens.kek, 'hex'), Buffer.from(token.indexKeyInfo, 'hex')),
      Buffer.from(token.message, 'hex'),
    ).toString('hex'),
  ).toBe(token.mac)
})

it('shows examples of LP and row ids that are right', () => {
  const bare = text.replaceAll(/[\s`]/g, '')
  expect(bare).toContain(`LP("a",0xff)=${lp('a', Buffer.of(0xff)).toString('hex')}`)
  for (const { comment, rowId } of testsOf('row-ids.json'))
    if (['integer 42', 'a uuid'].includes(comment)) expect(bare).toContain(rowId)
  expect(bare).toContain(lp(lp(Buffer.of(4), 'a')).toString('hex'))
  expect(bare).toContain(lp(lp(Buffer.of(1), '1'), lp(Buffer.of(4), 'x')).toString('hex'))
})

it('names every label, file of vectors and code that a vector has', () => {
  for (const label of [
    'wrap',
    'wrap-aad',
    'value',
    'commit-key',
    'dek-commit',
    'record',
    'kek-wrap',
    'kek-wrap-aad',
    'index',
    'index-record',
  ])
    expect(text).toContain(`fieldseal/1/${label}`)
  const files = [
    'contexts',
    'envelopes-invalid',
    'envelopes-valid',
    'index-and-tokens',
    'kek-records',
    'normalizers',
    'row-ids',
    'subject-keks',
  ]
  for (const file of files) {
    expect(text).toContain(`\`${file}.json\``)
    for (const { code } of testsOf(`${file}.json`)) if (code !== undefined) expect(text, code).toContain(code)
  }
})

it('has no link to a heading that is not there', () => {
  const headings = [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} -]/gu, '')
      .replaceAll(' ', '-'),
  )
  for (const [, anchor] of text.matchAll(/\]\(#([^)]+)\)/g)) expect(headings).toContain(anchor)
})
