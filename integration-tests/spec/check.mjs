// Holds the tables that somebody kept against what the application knows of them.
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { indexKeyOf, NORMALISERS, tokenOf } from './blind-index.mjs'
import { openValue, parseEnvelope } from './envelope.mjs'
import { readKeyFile, uriOf } from './local-kms.mjs'
import { rowIdOf } from './names.mjs'
import { utf8 } from './primitives.mjs'
import { readRecord } from './record-json.mjs'
import { columnsOf, readIndexRecord, readKek } from './records.mjs'
import { readTables } from './sql.mjs'

/**
 * Counts of what held: { values, bound, nulls, tokens, kekRecords, indexRecords }; `bound` of the values name their row.
 * Throws with all that did not hold.
 *
 * `dir` holds tables.sql, fieldseal.key and known.json: { app, models: [{ table, model, tenantColumn, keyColumns: [{ column,
 * kind }], fields: [{ column, field, type }] }], values: [{ table, key, tenant, column, value }] }.
 */
export function check(dir) {
  const read = (name) => readFileSync(path.join(dir, name), 'utf8')
  const tables = readTables(read('tables.sql'))
  const known = JSON.parse(read('known.json'))
  const keyFile = readKeyFile(read('fieldseal.key'))
  const rows = tables.get('fieldseal_keys') ?? []
  const run = {
    tables,
    known,
    texts: rows.map(({ record }) => record),
    // The states of CMKs and records are nothing that this check is about: a look at what is stored.
    reader: { keyFile, cmks: Object.keys(keyFile.cmks).map((name) => uriOf(keyFile, name)), anyState: true },
    counts: { values: 0, bound: 0, nulls: 0, tokens: 0, kekRecords: 0, indexRecords: 0 },
  }
  const problems = []
  const attempt = (what, action) => {
    try {
      action()
    } catch (error) {
      problems.push(`${what}: ${error.message}`)
    }
  }
  for (const row of rows) attempt(`record ${row.id}`, () => checkRecord(run, row))
  for (const entry of known.values) {
    attempt(`${entry.table}.${entry.column} of ${JSON.stringify(entry.key)}`, () => checkValue(run, entry))
  }
  attempt('coverage', () => checkCoverage(run))
  if (problems.length > 0) throw new Error(`${problems.length} problems\n${problems.join('\n')}`)
  return run.counts
}

function checkRecord(run, row) {
  const record = readRecord(row.record)
  for (const [column, value] of Object.entries(columnsOf(record))) {
    if (row[column] !== String(value)) throw new Error(`column ${column}`)
  }
  const { id, kind, tenant, keyspace } = record
  const { app } = run.known
  if (kind === 'kek') {
    readKek(run.texts, id, { app, tenant, keyspace }, run.reader)
    run.counts.kekRecords += 1
  }
  if (kind === 'index') {
    const { model, index, normalizer: normaliser, bits } = record
    readIndexRecord(row.record, { model, index, normaliser, bits }, { app, tenant }, run.texts, run.reader)
    run.counts.indexRecords += 1
  }
}

function placeOf({ known, tables }, entry) {
  const model = known.models.find((one) => one.table === entry.table)
  const rows = tables.get(entry.table).filter((row) => isRow(row, entry.key))
  if (rows.length !== 1) throw new Error(`${rows.length} rows`)
  const [row] = rows
  if (row[model.tenantColumn] !== entry.tenant) throw new Error('another tenant')
  const { field, type } = model.fields.find((one) => one.column === entry.column)
  const rowId = rowIdOf(model.keyColumns.map(({ column, kind }) => ({ field: column, kind, value: entry.key[column] })))
  const place = { tenant: entry.tenant, keyspace: 'default', model: model.model, field, type, rowId }
  return { row, place }
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
    const ref = { app: run.known.app, tenant: place.tenant, keyspace: place.keyspace }
    const keyOf = (id) => readKek(run.texts, id, ref, run.reader, { purpose: 'wrap' }).kek
    const value = openValue(stored, { ...place, unbound: true }, keyOf)
    if (!isDeepStrictEqual(asJson(value), expected)) throw new Error('another value')
    run.counts.values += 1
    if (parseEnvelope(stored).rowBound) run.counts.bound += 1
  }
  checkTokens(run, place, entry.value ?? null, row, entry.column)
}

/** Odd epochs stand in `_bidx`, even ones in `_bidx_next`; outside of a move the second one is empty. */
function checkTokens(run, place, value, row, column) {
  const stored = row[`${column}_bidx`]
  const next = row[`${column}_bidx_next`] ?? null
  if (stored === undefined) return
  if ((value === null) !== (stored === null && next === null)) throw new Error('token or value missing')
  if (stored !== null) checkToken(run, place, value, stored, 1)
  if (next !== null) checkToken(run, place, value, next, 0)
}

function checkToken(run, { tenant, model, field, type }, value, token, parity) {
  const [epoch] = token
  if (epoch % 2 !== parity) throw new Error(`epoch ${epoch} in this column`)
  const { app } = run.known
  const text = run.texts.find((one) => {
    const record = readRecord(one)
    const isIts = record.kind === 'index' && record.tenant === tenant && record.model === model
    return isIts && record.index === field && record.epoch === epoch
  })
  if (text === undefined) throw new Error('no index record of the token')
  const { normalizer: normaliser, bits } = readRecord(text)
  const described = { model, index: field, normaliser, bits }
  const { kek } = readIndexRecord(text, described, { app, tenant }, run.texts, run.reader)
  const normalise = NORMALISERS[normaliser]
  if (type !== 'string' || normalise === undefined) throw new Error(`no token of ${type} by ${normaliser}`)
  const components = [{ tag: 1, bytes: utf8(normalise(value)) }]
  const made = tokenOf(indexKeyOf(kek, { ...described, epoch }), epoch, bits, components)
  if (!made.equals(token)) throw new Error('another token')
  run.counts.tokens += 1
}

/** A value that nobody knows would otherwise go unchecked. */
function checkCoverage({ tables, known, counts }) {
  const cells = known.models.flatMap((model) =>
    (tables.get(model.table) ?? []).flatMap((row) => model.fields.map(({ column }) => row[column])),
  )
  if (cells.length !== known.values.length) throw new Error(`${cells.length} cells, ${known.values.length} known`)
  if (counts.values === 0 || counts.kekRecords === 0) throw new Error('nothing to check')
}

function asJson(value) {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Date) return value.toISOString()
  return Buffer.isBuffer(value) ? value.toString('base64url') : value
}
