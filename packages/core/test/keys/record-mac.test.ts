import { createHmac, createSecretKey, randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { lp } from '../../src/bytes/lp.ts'
import { expand } from '../../src/cipher/hkdf.ts'
import { indexRecordMac, kekRecordMac, macHolds } from '../../src/keys/record-mac.ts'
import type { IndexRecord, KekFacts } from '../../src/keys/records.ts'
import { indexRecord, kekRecord, newId } from '../support/records.ts'

const kek = createSecretKey(randomBytes(32))
const hex = (text: string) => Buffer.from(text, 'hex')

it('covers the facts of a KEK record in the order and widths of the format', () => {
  const facts = kekRecord({ version: 258, revision: 3, createdAt: 1, notAfter: 2, compromised: true })
  const items = [
    hex(facts.id),
    'kek',
    'clinic',
    'a',
    'default',
    'wrap',
    hex('00000102'),
    hex('0000000000000003'),
    'decrypt-only',
    hex('0000000000000001'),
    hex('0000000000000002'),
    hex('000001ba62e0dc00'),
    hex(facts.parent ?? ''),
    hex('01'),
  ]
  const expected = createHmac('sha256', expand(kek, 'fieldseal/1/record'))
    .update(lp(...items))
    .digest()
  expect(kekRecordMac(kek, { ...facts, destroyAt: 0x1ba62e0dc00 })).toEqual(expected)
})

it('writes what is absent as an empty item', () => {
  const { notAfter: _n, destroyAt: _d, parent: _p, ...facts } = kekRecord({ compromised: false })
  const items = [
    hex(facts.id),
    'kek',
    'clinic',
    'a',
    'default',
    'wrap',
    hex('00000003'),
    hex('0000000000000002'),
    'decrypt-only',
    hex('0000018bcfe56800'),
    '',
    '',
    '',
    hex('00'),
  ]
  const expected = createHmac('sha256', expand(kek, 'fieldseal/1/record'))
    .update(lp(...items))
    .digest()
  expect(kekRecordMac(kek, facts)).toEqual(expected)
})

it('covers the facts of an index record in the order and widths of the format', () => {
  const record = indexRecord({ bits: 24, epoch: 2, revision: 9 })
  const items = [
    'a',
    'patients',
    'email',
    hex('02'),
    hex(record.kekId),
    'email@1',
    hex('0018'),
    'current',
    hex(record.id),
    'index',
    'clinic',
    hex('0000000000000009'),
  ]
  const expected = createHmac('sha256', expand(kek, 'fieldseal/1/index-record'))
    .update(lp(...items))
    .digest()
  expect(indexRecordMac(kek, record)).toEqual(expected)
})

it('changes with every fact and with the key, and with nothing beside the facts', () => {
  const facts = kekRecord()
  const changes: Partial<KekFacts>[] = [
    { id: newId() },
    { app: 'b' },
    { tenant: 'b' },
    { keyspace: 'class:x' },
    { purpose: 'index' },
    { version: 4 },
    { revision: 3 },
    { state: 'active' },
    { createdAt: 1 },
    { notAfter: 1 },
    { destroyAt: 1 },
    { parent: newId() },
    { compromised: false },
  ]
  const macs = [facts, ...changes.map((change) => ({ ...facts, ...change }))].map((one) => kekRecordMac(kek, one))
  expect(new Set(macs.map((mac) => mac.toString('hex'))).size).toBe(changes.length + 1)
  expect(kekRecordMac(createSecretKey(randomBytes(32)), facts)).not.toEqual(macs[0])
  expect(kekRecordMac(kek, { ...facts, denial: 'destroyed', wraps: [], rowVersion: 99 } as KekFacts)).toEqual(macs[0])
  const index = indexRecord()
  const edits: Partial<IndexRecord>[] = [
    { id: newId() },
    { app: 'b' },
    { tenant: 'b' },
    { model: 'b' },
    { index: 'b' },
    { epoch: 3 },
    { kekId: newId() },
    { normalizer: 'trim@1' },
    { bits: 64 },
    { role: 'next' },
    { revision: 2 },
  ]
  const indexMacs = [index, ...edits.map((edit) => ({ ...index, ...edit }))].map((one) => indexRecordMac(kek, one))
  expect(new Set(indexMacs.map((mac) => mac.toString('hex'))).size).toBe(edits.length + 1)
})

it('compares MACs of equal length only', () => {
  const mac = randomBytes(32)
  expect(macHolds(mac, Buffer.from(mac))).toBe(true)
  expect(macHolds(mac, mac.subarray(0, 31))).toBe(false)
  expect(macHolds(mac, Buffer.alloc(32))).toBe(false)
  expect(macHolds(mac, Buffer.alloc(0))).toBe(false)
})
