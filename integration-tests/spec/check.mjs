// Holds the tables that somebody kept against what the application knows of them.
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { openValue, rowIdOf } from './envelope.mjs'
import { indexKeyOf, indexRecordMac, NORMALISERS, openKek, tokenOf } from './keys.mjs'
import { fromBase64url, same, utf8 } from './primitives.mjs'
import { readTables } from './sql.mjs'

const INDEX = {
  table: 'patients',
  model: 'patients',
  index: 'email',
  column: 'email',
  normaliser: 'email@1',
  bits: 128,
}

/** Counts of what held: { values, nulls, tokens, kekRecords, indexRecords }. Throws with all that did not. */
export function check(dir) {
  const read = (name) => readFileSync(path.join(dir, name), 'utf8')
  const tables = readTables(read('tables.sql'))
  const known = JSON.parse(read('known.json'))
  const problems = []
  const counts = { values: 0, nulls: 0, tokens: 0, kekRecords: 0, indexRecords: 0 }
  const run = { tables, known, counts, keyFile: JSON.parse(read('fieldseal.key')) }
  const attempt = (what, action) => {
    try {
      action()
    } catch (error) {
      problems.push(`${what}: ${error.message}`)
    }
  }
  run.records = tables.get('fieldseal_keys').map((row) => JSON.parse(row.record))
  run.keks = new Map()
  for (const record of kekRecords(run)) attempt(`record ${record.id}`, () => checkKek(run, record))
  for (const record of run.records.filter((one) => one.kind === 'index')) {
    attempt(`record ${record.id}`, () => checkIndexRecord(run, record))
  }
  for (const entry of known.values) {
    attempt(`${entry.table}.${entry.column} of ${JSON.stringify(entry.key)}`, () => checkValue(run, entry))
  }
  attempt('coverage', () => checkCoverage(run))
  if (problems.length > 0) throw new Error(`${problems.length} problems\n${problems.join('\n')}`)
  return counts
}

/** Parents before children. */
function kekRecords({ records }) {
  const keks = records.filter((one) => one.kind === 'kek')
  return [...keks.filter((one) => one.parent === undefined), ...keks.filter((one) => one.parent !== undefined)]
}

/** The state of a CMK and of a record is nothing that this check is about: a look at what is stored. */
function checkKek(run, record) {
  const expected = { app: run.known.app, tenant: record.tenant, keyspace: record.keyspace }
  const parentOf = (id) => run.keks.get(id)?.kek
  const kek = openKek(record, expected, run.keyFile, { parentOf, anyState: true })
  run.keks.set(record.id, { kek, record })
  run.counts.kekRecords += 1
}

/** A KEK for an expected tenant, keyspace and purpose: whatever else a record says, it is another place's. */
function kekFor(run, id, { tenant, keyspace = 'default', purpose }) {
  const found = run.keks.get(id)
  if (found === undefined) return undefined
  const { record } = found
  const fits = record.tenant === tenant && record.keyspace === keyspace && record.purpose === purpose
  return fits ? found.kek : undefined
}

function checkIndexRecord(run, record) {
  const kek = kekFor(run, record.kekId, { tenant: record.tenant, purpose: 'index' })
  if (kek === undefined) throw new Error('no KEK')
  const { tenant, model, index } = record
  const mac = indexRecordMac(kek, record, { app: run.known.app, tenant, model, index })
  if (!same(mac, fromBase64url(record.mac))) throw new Error('MAC')
  run.counts.indexRecords += 1
}

function placeOf(run, entry) {
  const model = run.known.models.find((one) => one.table === entry.table)
  const rows = run.tables.get(entry.table).filter((row) => isRow(row, entry.key))
  if (rows.length !== 1) throw new Error(`${rows.length} rows`)
  const [row] = rows
  if (row[model.tenantColumn] !== entry.tenant) throw new Error('another tenant')
  const field = model.fields.find((one) => one.column === entry.column)
  const rowId = rowIdOf(model.keyColumns.map(({ column, kind }) => ({ field: column, kind, value: entry.key[column] })))
  const place = { tenant: entry.tenant, keyspace: 'default', model: model.model, field: field.field, rowId }
  return { row, place: { ...place, type: field.type } }
}

function isRow(row, key) {
  return Object.entries(key).every(([column, value]) => row[column] === String(value))
}

function checkValue(run, entry) {
  const { row, place } = placeOf(run, entry)
  const expected = entry.value ?? null
  const stored = row[entry.column]
  if (stored === null || expected === null) {
    if (stored !== expected) throw new Error('null on one side only')
    run.counts.nulls += 1
  } else {
    const value = openValue(stored, place, (id) => kekFor(run, id, { tenant: entry.tenant, purpose: 'wrap' }))
    if (!isDeepStrictEqual(asJson(value), expected)) throw new Error('another value')
    run.counts.values += 1
  }
  if (entry.table === INDEX.table && entry.column === INDEX.column) {
    checkToken(run, entry.tenant, expected, row[`${INDEX.column}_bidx`], 1)
    checkToken(run, entry.tenant, expected, row[`${INDEX.column}_bidx_next`], 0)
  }
}

/** Odd epochs stand in `_bidx`; `_bidx_next` is empty outside of a move. */
function checkToken(run, tenant, value, token, parity) {
  if (token === null && (value === null || parity === 0)) return
  if (token === null || value === null) throw new Error('token or value missing')
  const [epoch] = token
  if (epoch % 2 !== parity) throw new Error(`epoch ${epoch} in this column`)
  const record = run.records.find(
    (one) =>
      one.kind === 'index' &&
      one.tenant === tenant &&
      one.model === INDEX.model &&
      one.index === INDEX.index &&
      one.epoch === epoch,
  )
  const kek = kekFor(run, record?.kekId, { tenant, purpose: 'index' })
  if (kek === undefined) throw new Error('no KEK of the token')
  const { normaliser, bits } = INDEX
  const key = indexKeyOf(kek, { ...INDEX, epoch })
  const expected = tokenOf(key, epoch, bits, [{ tag: 1, bytes: utf8(NORMALISERS[normaliser](value)) }])
  if (!same(expected, token)) throw new Error('another token')
  run.counts.tokens += 1
}

/** A value that nobody knows would otherwise go unchecked. */
function checkCoverage({ tables, known, counts }) {
  const cells = known.models.flatMap((model) =>
    (tables.get(model.table) ?? []).flatMap((row) => model.fields.map(({ column }) => row[column])),
  )
  if (cells.length !== known.values.length) throw new Error(`${cells.length} cells, ${known.values.length} known`)
  if (counts.values === 0 || counts.tokens === 0) throw new Error('nothing to check')
}

function asJson(value) {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Date) return value.toISOString()
  return Buffer.isBuffer(value) ? value.toString('base64url') : value
}
