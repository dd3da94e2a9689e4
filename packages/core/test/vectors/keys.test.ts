import { createSecretKey } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { createFieldseal } from '../../src/create-fieldseal.ts'
import { expand, LABELS } from '../../src/cipher/hkdf.ts'
import { contextBytes } from '../../src/context/encryption-context.ts'
import type { RecordId } from '../../src/context/record-id.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import { internalsOf } from '../../src/internals.ts'
import { kekContext } from '../../src/keyring/kek-wraps.ts'
import type { KeyspaceRef } from '../../src/keys/key-store.ts'
import { recordFromJson, recordToJson } from '../../src/keys/record-json.ts'
import { kekRecordMac } from '../../src/keys/record-mac.ts'
import { type KekFacts, type KekRecord, keyspaceOf, slotOf } from '../../src/keys/records.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { manualClock } from '../support/manual-clock.ts'
import { kekOf, type RecordVector, type storedRow } from './kek-record-vectors.ts'
import { KEY_FILE, localCmk, NOW, unwrapLocally } from './key-material.ts'
import { kekRecordFacts } from './mac-facts.ts'
import type { SubjectVector } from './subject-vectors.ts'
import { hex, readVectors, unhex } from './vector-file.ts'

type StoredRow = ReturnType<typeof storedRow>
interface Group<T> {
  readonly keyFile: typeof KEY_FILE
  readonly tests: readonly T[]
}

const records = readVectors<Group<RecordVector & Shown>>('kek-records.json')
const [subjects] = readVectors<
  Group<SubjectVector & Shown> & {
    readonly parents: readonly { readonly row: StoredRow }[]
    readonly cmks: readonly string[]
  }
>('subject-keks.json')

interface Shown {
  readonly context?: Record<string, string>
  readonly contextBytes?: string
  readonly macFacts?: string
  readonly macKey?: string
  readonly mac?: string
}

/** Looks for a key as core does when a value names it; the key in hex, or the code of the error. */
async function lookUp(
  rows: readonly StoredRow[],
  { expected, id, cmks }: { readonly expected: KeyspaceRef; readonly id: string; readonly cmks: readonly string[] },
): Promise<string> {
  const keyStore = arrayKeyStore()
  const clock = manualClock()
  try {
    for (const { record } of rows) await keyStore.insert(recordFromJson(record))
    const fieldseal = createFieldseal({
      app: expected.app,
      tenancy: 'multi',
      keyStore,
      keys: { cmks: cmks.map(localCmk) },
      clock,
    })
    try {
      const found = await internalsOf(fieldseal).keyrings.toUnwrap(expected, [id as RecordId], 'read')
      return hex(found.get(id as RecordId)?.key.exposeBytes() ?? Buffer.alloc(0))
    } finally {
      await fieldseal.close()
    }
  } catch (error) {
    if (isFieldsealError(error)) return error.code
    throw error
  }
}

describe('KEK records', () => {
  it('open to the key they name, and are refused for the reason they name', async () => {
    let checked = 0
    for (const { tests } of records) {
      for (const vector of tests) {
        expect(await lookUp([vector.row], vector), vector.comment).toBe(vector.kek ?? vector.code)
        checked++
      }
    }
    expect(checked).toBeGreaterThan(70)
  })

  it('stand in columns that say what they say, and are written again as they were', () => {
    for (const { row, comment } of [...(records[0]?.tests ?? []), ...(subjects?.tests ?? [])]) {
      const record = recordFromJson(row.record)
      if (!comment.startsWith('unknown members')) expect(recordToJson(record), comment).toBe(row.record)
      expect([
        record.id,
        record.kind,
        record.app,
        record.tenant,
        keyspaceOf(record),
        record.rowVersion,
        slotOf(record),
      ]).toEqual([row.id, row.kind, row.app, row.tenant, row.keyspace, row.row_version, row.slot])
    }
  })

  it('show what their MAC is over, and the context that the KMS authenticates', () => {
    for (const {
      row,
      kek = '',
      macFacts,
      macKey,
      mac,
      context = {},
      contextBytes: bytes,
      expected,
      comment,
    } of records[0]?.tests ?? []) {
      const record = recordFromJson(row.record) as KekRecord
      const key = createSecretKey(unhex(kek))
      expect(hex(kekRecordMac(key, record)), comment).toBe(mac)
      expect(hex(kekRecordFacts(record)), comment).toBe(macFacts)
      expect(hex(expand(key, LABELS.record))).toBe(macKey)
      expect(kekContext(expected, record.purpose, record.id)).toEqual(context)
      expect(hex(contextBytes(context))).toBe(bytes)
      const [wrap] = record.wraps.filter(({ uri }) => uri === `local:${KEY_FILE.id}/clinic-7`)
      expect(hex(unwrapLocally(wrap?.uri ?? '', wrap?.blob ?? Buffer.alloc(0), context) ?? Buffer.alloc(0))).toBe(kek)
    }
  })

  it('ignore a record of a lower revision than the process has checked', async () => {
    const first = (revision: number, more: Partial<KekFacts> = {}) => kekOf('good', { revision, ...more }).record
    const keyStore = arrayKeyStore()
    const clock = manualClock()
    const newer = first(3)
    await keyStore.insert(newer)
    const { app, tenant, keyspace, id } = newer
    const fieldseal = createFieldseal({
      app,
      tenancy: 'multi',
      keyStore,
      keys: { cmks: [localCmk(`local:${KEY_FILE.id}/clinic-7`)] },
      clock,
    })
    const { keyrings } = internalsOf(fieldseal)
    await keyrings.toUnwrap({ app, tenant, keyspace }, [id], 'read')
    expect(await keyStore.update({ ...first(2, { state: 'retired' }), rowVersion: 2 })).toBe('updated')
    await keyrings.reload({ app, tenant, keyspace })
    expect((await keyrings.toUnwrap({ app, tenant, keyspace }, [id], 'read')).has(id)).toBe(true)
    await fieldseal.close()
  })
})

describe('KEKs of data subjects', () => {
  it('open to the key they name under their parent, and are refused for the reason they name', async () => {
    const { parents = [], cmks = [], tests = [] } = subjects ?? {}
    for (const vector of tests) {
      const rows = [...parents.map(({ row }) => row), vector.row]
      expect(await lookUp(rows, { ...vector, cmks }), vector.comment).toBe(vector.kek ?? vector.code)
    }
    expect(tests.length).toBeGreaterThan(20)
  })
})

it('keeps the time of the vectors in the past, and a deletion that has not come yet', () => {
  expect(NOW).toBeLessThan(Date.now())
  expect(KEY_FILE.cmks.leaving.deletesAt).toBeGreaterThan(Date.now())
})
