import {
  type BlindIndex,
  FieldsealError,
  type Field,
  type IndexToken,
  type KekId,
  type PageOptions,
  type RecordMap,
  type StoredRow,
} from '@fieldseal/core/adapter'
import { turnsInPlace, type SealedColumn, type TokenSlots } from '../entity-map/entity-model.ts'
import { startsLikeEnvelope } from '../entity-map/tripwire.ts'
import type { Installation } from '../install/installation.ts'
import { storedCell } from '../read-path/stored-cell.ts'
import { rowKey } from './row-key.ts'
import { onPrimary, keyTypes, tableOf, type ModelTable } from './table.ts'

/** Magic and version, then a suite of layout `kek` or `direct`: what may stand before a KEK id. */
const HEADS = [Buffer.of(0xf8, 0x01, 0x01), Buffer.of(0xf8, 0x01, 0x11)]

/**
 * Walks the rows of a model in the order of its key, soft-deleted ones too. Every page takes a connection of its own, so
 * that a long walk holds none.
 */
export async function* pages(
  installation: Installation,
  map: RecordMap,
  { after, shard, size, kekId, tenant, tokens = false }: PageOptions,
): AsyncGenerator<readonly StoredRow[]> {
  if (!Number.isSafeInteger(size) || size < 1)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'size', reason: 'a positive integer' })
  const escape = (name: string) => installation.dataSource.driver.escape(name)
  const table = tableOf(installation, map)
  let position = after
  for (;;) {
    const page = await onPrimary(installation, async (query) => {
      const types = await keyTypes(installation, table, query)
      const parameters = position === undefined ? [] : decodePosition(position)
      const ofTenant = table.facts.find(({ path }) => path === map.tenantPath)
      const conditions = [
        ...(position === undefined ? [] : [isAfter(table, types, escape)]),
        ...(shard === undefined ? [] : [isInShard(table, shard, escape)]),
        ...(kekId === undefined ? [] : [needsKek(table, kekId, escape)]),
        ...(tenant === undefined || ofTenant === undefined
          ? []
          : [`${escape(ofTenant.column.databaseName)}::text = $${parameters.push(tenant)}`]),
      ]
      return query(pageStatement(table, conditions, { size, tokens }, escape), parameters)
    })
    const rows = page.map((row) => storedRow(installation, table, row, tokens))
    if (rows.length > 0) yield rows
    position = rows.at(-1)?.after
    if (rows.length < size) return
  }
}

/** Counts rows by a sequential scan. */
export async function count(
  installation: Installation,
  map: RecordMap,
  what: { readonly kekId: KekId } | 'plaintext' | 'all',
): Promise<{ rows: number; exact: boolean }> {
  const escape = (name: string) => installation.dataSource.driver.escape(name)
  const table = tableOf(installation, map)
  const where =
    what === 'all' ? 'TRUE' : what === 'plaintext' ? holdsPlaintext(table, escape) : needsKek(table, what.kekId, escape)
  const [row] = await onPrimary(installation, (query) =>
    query(`SELECT count(*) AS rows FROM ${table.name} WHERE ${where}`),
  )
  return { rows: Number(row?.['rows'] ?? 0), exact: true }
}

/** Rows that hold a value of one field unencrypted; where nulls are encrypted too, those without a value as well. */
export async function countPlaintext(installation: Installation, map: RecordMap, field: Field): Promise<number> {
  const escape = (name: string) => installation.dataSource.driver.escape(name)
  const table = tableOf(installation, map)
  const sealed = table.columns.find((column) => column.field === field)
  if (sealed === undefined)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      model: map.id,
      field: field.path,
      reason: 'a field of another model',
    })
  const lacks = field.encryptNull ? ` OR ${escape(sealed.envelope.databaseName)} IS NULL` : ''
  const [row] = await onPrimary(installation, (query) =>
    query(`SELECT count(*) AS rows FROM ${table.name} WHERE ${isPlaintextIn(sealed, escape)}${lacks}`),
  )
  return Number(row?.['rows'] ?? 0)
}

function pageStatement(
  table: ModelTable,
  conditions: readonly string[],
  { size, tokens }: { readonly size: number; readonly tokens: boolean },
  escape: (name: string) => string,
): string {
  const slots = tokens ? table.columns.flatMap((column) => slotsOf(column)) : []
  const keys = table.keys.map(({ column }, index) => `${escape(column.databaseName)}::text AS "key ${index}"`)
  const texts = table.columns.flatMap((sealed, index) =>
    sealed.plain === undefined || turnsInPlace(sealed)
      ? []
      : [`${escape(sealed.plain.databaseName)}::text AS "plain ${index}"`],
  )
  const outside = partialIndexes(table).map(({ where }, at) => `(${where}) IS NOT TRUE AS "outside ${at}"`)
  const columns = [
    ...table.facts.map(({ column }) => column),
    ...table.columns.flatMap(({ envelope, plain }) => (plain === undefined ? [envelope] : [envelope, plain])),
    ...slots,
  ]
  const version = ['ctid::text AS "row place"', 'xmin::text AS "row writer"']
  const others = new Set(columns.map(({ databaseName }) => escape(databaseName)))
  const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`
  const order = table.keys.map(({ column }) => escape(column.databaseName)).join(', ')
  return `SELECT ${[...keys, ...version, ...texts, ...outside, ...others].join(', ')} FROM ${table.name}${where} ORDER BY ${order} LIMIT ${size}`
}

/** Both token columns of a field's index. */
export function slotsOf({ slots }: SealedColumn) {
  return slots === undefined ? [] : [slots.odd, slots.even]
}

/** Indexes that are unique for some rows only. */
function partialIndexes({ columns }: ModelTable): readonly TokenSlots[] {
  return columns.flatMap(({ slots }) => (slots?.where === undefined ? [] : [slots]))
}

/** A column holds one value, so an index has one occurrence. */
function storedTokens({ columns }: ModelTable, row: Record<string, unknown>): NonNullable<StoredRow['tokens']> {
  const tokens = new Map<BlindIndex, readonly (readonly IndexToken[])[]>()
  for (const column of columns) {
    if (column.slots === undefined) continue
    const found = slotsOf(column).flatMap(({ databaseName }) => (row[databaseName] as IndexToken | null) ?? []) // bytea
    tokens.set(column.slots.index, [found])
  }
  return tokens
}

const NONE: ReadonlyMap<Field, unknown> = new Map()

function storedRow(
  { conversions }: Installation,
  table: ModelTable,
  row: Record<string, unknown>,
  tokens: boolean,
): StoredRow {
  const keys = table.keys.map((_, index) => String(row[`key ${index}`]))
  let plainTexts = NONE
  const cells: Record<string, StoredRow['cells'][string]> = {}
  for (const [index, sealed] of table.columns.entries()) {
    const { field, column, twin } = sealed
    const plainText = row[`plain ${index}`]
    if (plainText !== undefined) plainTexts = new Map([...plainTexts, [field, plainText]])
    const places = {
      own: row[column.databaseName],
      ...(twin === undefined ? {} : { twin: row[twin.databaseName] }),
      ...(typeof plainText === 'string' ? { plainText } : {}),
    }
    cells[field.path] = storedCell(sealed, places, conversions) as StoredRow['cells'][string] // text, or bytes of an envelope
  }
  const columns = Object.fromEntries(table.keys.map(({ path }, index) => [path, keys[index]]))
  const version = { place: String(row['row place']), writer: String(row['row writer']), columns: row, plainTexts }
  const outside = partialIndexes(table).flatMap(({ index }, at) => (row[`outside ${at}`] === true ? [index] : []))
  return {
    key: rowKey(columns, version),
    get after() {
      return Buffer.from(JSON.stringify(keys), 'utf8') // asked of the last row of a page
    },
    cells,
    columns: Object.fromEntries(table.facts.map(({ path, column }) => [path, row[column.databaseName]])),
    ...(outside.length === 0 ? {} : { outside: new Set(outside) }),
    ...(tokens ? { tokens: storedTokens(table, row) } : {}),
  }
}

function decodePosition(position: Uint8Array): unknown[] {
  const keys: unknown = JSON.parse(Buffer.from(position).toString('utf8'))
  if (!Array.isArray(keys))
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'after', reason: 'not a position of this source' })
  return keys
}

function isAfter({ keys }: ModelTable, types: readonly string[], escape: (name: string) => string): string {
  const names = keys.map(({ column }) => escape(column.databaseName)).join(', ')
  return `(${names}) > (${keys.map((_, index) => `$${index + 1}::${types[index]}`).join(', ')})`
}

/** Shard i of n, counted from 1. */
function isInShard(
  { keys }: ModelTable,
  [shard, shards]: readonly [number, number],
  escape: (name: string) => string,
): string {
  if (!Number.isSafeInteger(shard) || !Number.isSafeInteger(shards) || shard < 1 || shard > shards) {
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'shard', reason: '[i, n] with 1 <= i <= n' })
  }
  const text = keys.map(({ column }) => `${escape(column.databaseName)}::text`).join(" || ',' || ")
  return `('x' || substr(md5(${text}), 1, 8))::bit(32)::bigint % ${shards} = ${shard - 1}`
}

function needsKek({ columns }: ModelTable, kekId: KekId, escape: (name: string) => string): string {
  const heads = HEADS.map((head) => Buffer.concat([head, Buffer.from(kekId, 'hex')]))
  const [first] = heads
  const length = first?.length ?? 0
  const texts = heads.map((head) => `'fs.${head.toString('base64url')}'`).join(', ')
  const bytes = heads.map((head) => `'\\x${head.toString('hex')}'::bytea`).join(', ')
  const tests = columns.map(({ envelope, storage }) => {
    const name = escape(envelope.databaseName)
    return storage === 'text'
      ? `substr(${name}, 1, 23) IN (${texts})`
      : `substring(${name} from 1 for ${length}) IN (${bytes})`
  })
  return `(${tests.join(' OR ')})`
}

function holdsPlaintext({ columns }: ModelTable, escape: (name: string) => string): string {
  return `(${columns.map((sealed) => isPlaintextIn(sealed, escape)).join(' OR ')})`
}

/** True in SQL for rows that hold a value of the field unencrypted. */
export function isPlaintextIn(sealed: SealedColumn, escape: (name: string) => string): string {
  const { envelope, plain, storage } = sealed
  const name = escape(envelope.databaseName)
  const inPlace = `(${name} IS NOT NULL AND NOT (${startsLikeEnvelope(name, storage)}))`
  return plain === undefined || turnsInPlace(sealed)
    ? inPlace
    : `(${inPlace} OR ${escape(plain.databaseName)} IS NOT NULL)`
}
