import 'reflect-metadata'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keep } from '../../packages/quickstart/src/keep.ts'
import { openLocalDesk } from '../../packages/quickstart/src/local-desk.ts'
import { openRegistry } from '../../packages/quickstart/src/stage.ts'
import { tellStory } from '../../packages/quickstart/src/story.ts'
import { openTypeormStage } from '../../packages/quickstart/src/typeorm-stage.ts'
import {
  check,
  openValue,
  parseEnvelope,
  readKek,
  readKeyFile,
  readTables,
  Refused,
  rowIdOf,
  uriOf,
} from './decoder.mjs'

const silent = { chapter: () => {}, line: () => {} }
const folders = []
let kept

function folder() {
  const made = mkdtempSync(path.join(tmpdir(), 'fieldseal-spec-'))
  folders.push(made)
  return made
}

beforeAll(async () => {
  kept = folder()
  const keyFile = path.join(folder(), 'fieldseal.key')
  const desk = openLocalDesk(keyFile)
  const registry = openRegistry(desk)
  const stage = await openTypeormStage(registry)
  try {
    await tellStory({ stage, desk, registry }, silent, (patients) => keep(kept, stage.dataSource, keyFile, patients))
  } finally {
    await stage.close()
  }
}, 60_000)

afterAll(() => {
  for (const made of folders) rmSync(made, { recursive: true, force: true })
})

function known() {
  return JSON.parse(readFileSync(path.join(kept, 'known.json'), 'utf8'))
}

/** A known value as the reader sees it: its text, the place, and the KEKs of its tenant. */
function oneValue(column) {
  const { app, values } = known()
  const { tenant, key, value } = values.find((one) => one.column === column && one.value !== null)
  const tables = readTables(readFileSync(path.join(kept, 'tables.sql'), 'utf8'))
  const keyFile = readKeyFile(readFileSync(path.join(kept, 'fieldseal.key'), 'utf8'))
  const place = {
    tenant,
    keyspace: 'default',
    model: 'patients',
    field: column,
    type: column === 'born' ? 'day' : 'string',
    rowId: rowIdOf([{ field: 'id', kind: 'uuid', value: key.id }]),
  }
  const texts = tables.get('fieldseal_keys').map(({ record }) => record)
  const reader = { keyFile, cmks: Object.keys(keyFile.cmks).map((name) => uriOf(keyFile, name)), anyState: true }
  const keyOf = (id) => readKek(texts, id, { app, tenant, keyspace: 'default' }, reader, { purpose: 'wrap' }).kek
  const text = tables.get('patients').find((row) => row.id === key.id)[column]
  return { value, text, place, keyOf }
}

function withChange(name, change) {
  const changed = folder()
  cpSync(kept, changed, { recursive: true })
  const file = path.join(changed, name)
  const before = readFileSync(file, 'utf8')
  const after = change(before)
  expect(after).not.toBe(before)
  writeFileSync(file, after)
  return changed
}

function changedKnown(change) {
  return withChange('known.json', (text) => {
    const all = JSON.parse(text)
    change(all.values, all)
    return JSON.stringify(all)
  })
}

function refusal(action) {
  try {
    action()
  } catch (error) {
    expect(error).toBeInstanceOf(Refused)
    return error.kind
  }
  return 'opened'
}

describe('a decoder written from the specification alone', () => {
  it('opens everything that the quickstart kept', () => {
    const counts = check(kept)
    const { values } = known()
    expect(counts.values + counts.nulls).toBe(values.length)
    expect(counts.values).toBeGreaterThan(10)
    expect(counts.tokens).toBe(values.filter(({ column, value }) => column === 'email' && value !== null).length)
    expect(counts.tokens).toBeGreaterThan(0)
    expect(counts.kekRecords).toBeGreaterThan(3)
    expect(counts.indexRecords).toBeGreaterThan(1)
  })

  it('says so on the command line', () => {
    const run = (dir) =>
      spawnSync(process.execPath, [path.join(import.meta.dirname, 'decoder.mjs'), 'check', dir], { encoding: 'utf8' })
    const good = run(kept)
    expect([good.status, JSON.parse(good.stdout)]).toEqual([0, check(kept)])
    expect(good.stderr).toMatch(/^\d+ values and \d+ nulls checked: each is what known\.json says\n$/)
    const bad = run(changedKnown((values) => (values[0].value = 'something else')))
    expect([bad.status, bad.stdout]).toEqual([1, ''])
    expect(bad.stderr).toContain('another value')
  })

  it.each(['email', 'born'])('refuses %s with any one byte changed', (column) => {
    const { text, value, place, keyOf } = oneValue(column)
    expect(openValue(text, place, keyOf)).toBe(value)
    const { bytes } = parseEnvelope(text)
    for (let at = 0; at < bytes.length; at += 1) {
      for (const flip of [0xff, 0x01, 0x80]) {
        const changed = Buffer.from(bytes)
        changed[at] ^= flip
        const asText = `fs.${changed.toString('base64url')}`
        expect(
          refusal(() => openValue(changed, place, keyOf)),
          `byte ${at}`,
        ).not.toBe('opened')
        expect(
          refusal(() => openValue(asText, place, keyOf)),
          `byte ${at}, text`,
        ).not.toBe('opened')
      }
    }
  })

  it('says why, by class', () => {
    const { text, place, keyOf } = oneValue('email')
    const { bytes } = parseEnvelope(text)
    const changed = (at, byte) => {
      const copy = Buffer.from(bytes)
      copy[at] = byte
      return refusal(() => openValue(copy, place, keyOf))
    }
    expect(refusal(() => parseEnvelope('Ada'))).toBe('plaintext')
    expect(refusal(() => parseEnvelope(`${text}=`))).toBe('malformed')
    expect(refusal(() => parseEnvelope(bytes.subarray(0, 111)))).toBe('malformed')
    expect(changed(0, 0x41)).toBe('plaintext')
    expect(changed(1, 2)).toBe('version')
    expect(changed(2, 2)).toBe('version')
    expect(changed(3, bytes[3] ^ 1)).toBe('key')
    expect(changed(15, 0)).toBe('layout')
    expect(changed(15, 2)).toBe('malformed')
    expect(changed(17, 10)).toBe('malformed')
    expect(changed(17, 2)).toBe('decrypt')
    expect(changed(95, bytes[95] ^ 1)).toBe('decrypt')
  })

  it('refuses a value at another place', () => {
    const { text, place, keyOf } = oneValue('email')
    const rowId = rowIdOf([{ field: 'id', kind: 'uuid', value: '00000000-0000-4000-8000-000000000000' }])
    for (const other of [
      { field: 'name' },
      { model: 'staff' },
      { tenant: 'clinic-z' },
      { keyspace: 'class:x' },
      { rowId },
    ]) {
      expect(refusal(() => openValue(text, { ...place, ...other }, keyOf))).toBe('decrypt')
    }
  })
})

describe('a check that can fail', () => {
  it('notices every known value that is not what is stored', () => {
    const { values } = known()
    for (const at of values.keys()) {
      const dir = changedKnown((all) => {
        all[at].value = all[at].value === null ? 'something' : `${all[at].value}.`
      })
      expect(() => check(dir), `value ${at}`).toThrow(/^1 problems/)
    }
  })

  it('notices a value that nobody knows, another tenant and another application', () => {
    expect(() => check(changedKnown((values) => values.pop()))).toThrow('coverage')
    expect(() => check(changedKnown((values) => (values[0].tenant = 'clinic-z')))).toThrow('another tenant')
    expect(() => check(changedKnown((_, all) => (all.app = 'another')))).toThrow('no KEK')
  })

  it('notices another token, other facts of a record and another MAC', () => {
    const sql = (change) => () => check(withChange('tables.sql', change))
    expect(sql((text) => text.replace(/'\\x01(..)/, (_, byte) => `'\\x01${byte === '00' ? '01' : '00'}`))).toThrow(
      'token',
    )
    expect(sql((text) => text.replace('"state":"active"', '"state":"decrypt-only"'))).toThrow('another MAC')
    expect(sql((text) => text.replace('"role":"current"', '"role":"old"'))).toThrow('another MAC')
    expect(sql((text) => text.replace('"revision":1', '"revision":2'))).toThrow('another MAC')
    expect(sql((text) => text.replace('"createdAt":1', '"createdAt":2'))).toThrow('another MAC')
  })
})
