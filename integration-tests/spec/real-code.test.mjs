// Vectors against the packages that core's own tests cannot reach: the real kms-local and the TypeORM adapter's names.
import { mkdtempSync, rmSync, writeFileSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { SecretKey } from '@fieldseal/core/kms'
import { changeCmk, createKeyFile, localKms } from '@fieldseal/kms-local'
import { afterAll, expect, it } from 'vitest'
import { pathOf } from '../../packages/typeorm/src/entity-map/entity-model.ts'
import { localAad, readKeyFile, unwrapLocalBlob, uriOf } from './decoder.mjs'

const folder = mkdtempSync(path.join(tmpdir(), 'fieldseal-spec-kms-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const vectors = path.join(import.meta.dirname, '..', '..', 'docs', 'spec', 'vectors')
const groupsOf = (name) => JSON.parse(readFileSync(path.join(vectors, name), 'utf8')).testGroups
const { signal } = new AbortController()

it('has blobs in its vectors that kms-local opens, and those that it refuses for the same reason', async () => {
  let count = 0
  for (const { keyFile, tests } of groupsOf('kek-records.json')) {
    const file = path.join(folder, `vectors-${count}.key`)
    writeFileSync(file, JSON.stringify(keyFile), { mode: 0o600 })
    const kms = localKms({ file })
    for (const { comment, row, id, expected, cmks, kek, code, step = 6 } of tests) {
      if (step < 6) continue
      const { wraps, purpose } = JSON.parse(row.record)
      const { blob } = wraps.find(({ uri }) => uri === cmks[0])
      const context = { ...expected, fieldseal: '1', purpose, kek: id }
      const wrap = { blob: Buffer.from(blob, 'base64url'), versionEvidence: 'unknown' }
      const outcome = await kms
        .cmk(cmks[0])
        .unwrap(wrap, { context, signal })
        .then(
          (key) => Buffer.from(key.exposeBytes()).toString('hex'),
          (error) => error.code,
        )
      if (step === 6) expect(outcome, comment).toBe(kek ?? code)
      else expect(outcome, comment).toMatch(/^[0-9a-f]{64}$/) // the MAC alone tells
      count += 1
    }
  }
  expect(count).toBeGreaterThan(25)
})

it('reads key files and blobs that kms-local makes', async () => {
  const file = path.join(folder, 'made.key')
  createKeyFile(file, ['a', 'b'])
  changeCmk(file, 'a', 'rotate')
  changeCmk(file, 'b', 'disable')
  const keyFile = readKeyFile(readFileSync(file, 'utf8'))
  const context = {
    app: 'clinic',
    fieldseal: '1',
    tenant: 'ß',
    keyspace: 'default',
    purpose: 'wrap',
    kek: '00'.repeat(12),
  }
  const cmk = localKms({ file }).cmk('a')
  const key = new SecretKey(Uint8Array.from({ length: 32 }, (_, i) => i))
  const { blob, keyVersion } = await cmk.wrap(key, { context, signal })
  expect(keyVersion).toBe('2')
  expect(await cmk.canonicalUri({ context, signal })).toBe(uriOf(keyFile, 'a'))
  expect(unwrapLocalBlob(keyFile, uriOf(keyFile, 'a'), Buffer.from(blob), context)).toEqual(
    Buffer.from(key.exposeBytes()),
  )
  expect(() => unwrapLocalBlob(keyFile, uriOf(keyFile, 'b'), Buffer.from(blob), context)).toThrow(
    'ERR_KMS_KEY_DISABLED',
  )
  expect(localAad(uriOf(keyFile, 'a'), 2, context).length).toBeGreaterThan(100)
})

it('has field ids in its vectors that the TypeORM adapter makes of its columns', () => {
  const { tests } = groupsOf('contexts.json').find(({ type }) => type === 'field ids')
  const columns = tests.filter(({ path: steps }) => steps.length === 1)
  for (const {
    path: [databaseName],
    fieldId,
    comment,
  } of columns)
    expect(pathOf({ databaseName }), comment).toBe(fieldId)
  expect(columns.length).toBeGreaterThan(5)
})
