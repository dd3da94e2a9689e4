import {
  FieldsealError,
  type Field,
  type KekId,
  type PageOptions,
  type RecordMap,
  type StoredRow,
} from '@fieldseal/core/adapter'
import { tokenSlotsOf, turnsInPlace, type SealedColumn } from '../entity-map/entity-model.ts'
import { startsLikeEnvelope } from '../entity-map/tripwire.ts'
import type { Installation } from '../install/installation.ts'
import { NAMES, partialIndexes, rowReader } from './stored-row.ts'
import { assertSeesAll, keyTypes, onPrimary, tableOf, type ModelTable, type Query } from './table.ts'

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
  const read = rowReader(installation, table, tokens)
  let position = after
  let types: readonly string[] | undefined
  for (;;) {
    const page = await onPrimary(installation, async (query) => {
      types ??= await begin(query)
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
    const rows = page.map(read)
    if (rows.length > 0) yield rows
    position = rows.at(-1)?.after
    if (rows.length < size) return
  }

  async function begin(query: Query): Promise<readonly string[]> {
    await assertSeesAll(table, query)
    return keyTypes(installation, table, query)
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
  return { rows: await countRows(installation, table, where), exact: true }
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
  return countRows(installation, table, `${isPlaintextIn(sealed, escape)}${lacks}`)
}

function countRows(installation: Installation, table: ModelTable, where: string): Promise<number> {
  return onPrimary(installation, async (query) => {
    await assertSeesAll(table, query)
    const [row] = await query(`SELECT count(*) AS rows FROM ${table.name} WHERE ${where}`)
    return Number(row?.['rows'] ?? 0)
  })
}

function pageStatement(
  table: ModelTable,
  conditions: readonly string[],
  { size, tokens }: { readonly size: number; readonly tokens: boolean },
  escape: (name: string) => string,
): string {
  const slots = tokens ? tokenSlotsOf(table).flatMap(({ odd, even }) => [odd, even]) : []
  const keys = table.keys.map(({ column }, index) => `${escape(column.databaseName)}::text AS "${NAMES.key(index)}"`)
  const texts = table.columns.flatMap((sealed, index) =>
    sealed.plain === undefined || turnsInPlace(sealed)
      ? []
      : [`${escape(sealed.plain.databaseName)}::text AS "${NAMES.plain(index)}"`],
  )
  const outside = partialIndexes(table).map(({ where }, at) => `(${where}) IS NOT TRUE AS "${NAMES.outside(at)}"`)
  const columns = [
    ...table.facts.map(({ column }) => column),
    ...table.columns.flatMap(({ envelope, plain }) => (plain === undefined ? [envelope] : [envelope, plain])),
    ...slots,
  ]
  const version = [`ctid::text AS "${NAMES.place}"`, `xmin::text AS "${NAMES.writer}"`]
  const others = new Set(columns.map(({ databaseName }) => escape(databaseName)))
  const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`
  const order = table.keys.map(({ column }) => escape(column.databaseName)).join(', ')
  return `SELECT ${[...keys, ...version, ...texts, ...outside, ...others].join(', ')} FROM ${table.name}${where} ORDER BY ${order} LIMIT ${size}`
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
