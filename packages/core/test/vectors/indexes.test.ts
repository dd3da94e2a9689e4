import { createSecretKey } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { NormalizerName } from '../../src/blind-index/normalize.ts'
import { indexKey, indexToken } from '../../src/blind-index/token.ts'
import { createFieldseal } from '../../src/create-fieldseal.ts'
import { SHARED_TENANT } from '../../src/context/tenant-id.ts'
import { isFieldsealError } from '../../src/errors/fieldseal-error.ts'
import { internalsOf } from '../../src/internals.ts'
import { createIndexKeys } from '../../src/blind-index/index-keys.ts'
import { recordFromJson, recordToJson } from '../../src/keys/record-json.ts'
import { indexRecordMac } from '../../src/keys/record-mac.ts'
import { type IndexRecord, keyspaceOf, slotOf } from '../../src/keys/records.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { manualClock } from '../support/manual-clock.ts'
import { type IndexRecordVector, indexOver, type TokenVector } from './index-vectors.ts'
import { kekOf, storedRow } from './kek-record-vectors.ts'
import { localCmk } from './key-material.ts'
import { indexRecordFacts } from './mac-facts.ts'
import { fromJson } from './value-json.ts'
import { hex, readVectors, unhex } from './vector-file.ts'

interface Group {
  readonly type: string
  readonly kek: string
  readonly kekRow: ReturnType<typeof storedRow>
  readonly cmks: readonly string[]
  readonly expected: { readonly app: string; readonly tenant: string }
  readonly tests: readonly (TokenVector & IndexRecordVector & { readonly macFacts?: string; readonly mac?: string })[]
}
const [tokens, records] = readVectors<Group>('index-and-tokens.json')

it('makes every token from its components', () => {
  expect(tokens?.tests.length).toBeGreaterThan(20)
  for (const { comment, model, index, epoch, bits, normaliser, components, token } of tokens?.tests ?? []) {
    const of = indexOver(model, index, components, bits)
    expect(of.description.shapes[0].normalizer, comment).toBe(normaliser)
    const key = indexKey(createSecretKey(unhex(tokens?.kek ?? '')), {
      model,
      index,
      epoch,
      normalizer: normaliser,
      bits,
    })
    const parts = of.parts(components.map(({ type, value }) => fromJson(type, value)))
    expect(parts && hex(indexToken(key, epoch, bits, parts)), comment).toBe(token)
    expect(components.every((component) => (component.normaliser satisfies NormalizerName) !== undefined)).toBe(true)
  }
})

describe('index records', () => {
  it('are used or refused as they name, each time they are read', async () => {
    expect(records?.tests.length).toBeGreaterThan(20)
    for (const { comment, row, described, code } of records?.tests ?? [])
      expect(await use(row, described), comment).toBe(code ?? 'used')
  })

  it('stand in columns that say what they say, and show what their MAC is over', () => {
    for (const { comment, row, macFacts, mac, result } of records?.tests ?? []) {
      if (result === 'invalid') continue
      const record = recordFromJson(row.record) as IndexRecord
      expect(recordToJson(record), comment).toBe(row.record)
      expect([
        record.id,
        record.kind,
        record.app,
        record.tenant,
        keyspaceOf(record),
        record.rowVersion,
        slotOf(record),
      ]).toEqual([row.id, row.kind, row.app, row.tenant, row.keyspace, row.row_version, row.slot])
      expect(hex(indexRecordFacts(record)), comment).toBe(macFacts)
      expect(hex(indexRecordMac(createSecretKey(unhex(records?.kek ?? '')), record))).toBe(mac)
    }
  })
})

async function use(row: ReturnType<typeof storedRow>, described: IndexRecordVector['described']): Promise<string> {
  const { app, tenant } = records?.expected ?? { app: '', tenant: SHARED_TENANT }
  const keyStore = arrayKeyStore()
  try {
    for (const record of [records?.kekRow.record ?? '', storedRow(kekOf('first').record).record, row.record])
      await keyStore.insert(recordFromJson(record))
    const cmks = (records?.cmks ?? []).map(localCmk)
    const fieldseal = createFieldseal({ app, tenancy: 'multi', keyStore, keys: { cmks }, clock: manualClock() })
    const { keyrings, settings } = internalsOf(fieldseal)
    const { model, index, normaliser, bits } = described
    const keys = createIndexKeys({ app, keyrings, keyStore, random: settings.random })
    const shape = { normalizer: normaliser, bits, parts: () => null }
    const live = await keys.live(tenant, { model, index, shapes: [shape], acrossTenants: false }, 'read')
    await fieldseal.close()
    return live.length === 1 ? 'used' : `${live.length} epochs`
  } catch (error) {
    if (isFieldsealError(error)) return error.code
    throw error
  }
}
