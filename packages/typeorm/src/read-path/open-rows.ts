import {
  envelopeFromText,
  FieldsealError,
  isEnvelope,
  isPlainCell,
  isUnreadable,
  type Cell,
  type Envelope,
  type OpenedRow,
  type OperationContext,
  type Row,
} from '@fieldseal/core/adapter'
import type { QueryRunner } from 'typeorm'
import type { EntityModel, SealedColumn } from '../entity-map/entity-model.ts'
import type { SoughtTerm } from '../carrier/sought-term.ts'
import type { Conversions } from '../install/driver.ts'
import { viaOf, type Installation } from '../install/installation.ts'
import { OpenedCell } from './opened-cell.ts'
import { storedBytes } from './stored-bytes.ts'
import { storedCell } from './stored-cell.ts'

export type RawRow = Record<string, unknown>

/** One entity in a result set, and under which names its columns stand there. Made once for each result set. */
export interface RowSource {
  readonly model: EntityModel
  readonly columns: readonly SourceColumn[]
  /** Key, tenant and keyspace columns. */
  readonly facts: readonly { readonly path: string; readonly key: string }[]
  /** Names of the primary key's columns: all null where a join found nothing. */
  readonly keys: readonly string[]
  readonly terms: readonly TermCheck[]
}

/** An encrypted column in a result set. */
export interface SourceColumn {
  readonly sealed: SealedColumn
  readonly key: string
  /** Name of the field's other column, where it has one. */
  readonly twinKey: string | undefined
}

/** A condition that may have found the row, with the names of the row's values and tokens. */
export interface TermCheck {
  readonly term: SoughtTerm
  readonly valueKeys: readonly string[]
  readonly tokenKeys: readonly string[]
}

export interface OpenedRows {
  /** The rows, without those that a truncated index found in vain. */
  readonly rows: RawRow[]
  /** Puts the stored values back. */
  restore(): void
}

/** One entity to open. A join repeats it in several rows of the result. */
interface Pending {
  readonly source: RowSource
  readonly rows: RawRow[]
  /** Names under which the cells stand in the rows, in the order of the cells. */
  readonly keys: readonly string[]
  /** What stood there before, in the same order. */
  readonly stored: readonly unknown[]
  readonly core: Row<unknown>
}

// Entities must not share an object that one of them may change.
const MUTABLE_TYPES: readonly string[] = ['json', 'date', 'bytes']

/**
 * Decrypts the encrypted columns of a result set, in place and in one batch, and compares what was found by token.
 *
 * @throws FieldsealError ERR_TENANT_MISMATCH before any value of a foreign row is opened, ERR_TOKEN_MISMATCH when a
 * full-length token stands beside a value that does not have it, and what opening throws
 */
export async function openRows(
  installation: Installation,
  rows: RawRow[],
  sources: readonly RowSource[],
  context: OperationContext,
  runner: QueryRunner | undefined,
): Promise<OpenedRows> {
  const { conversions } = installation
  const pending = sources.flatMap((source) => collectAll(rows, source, context, sources.length > 1, conversions))
  const atHand = runner && installation.rowsAtHand.get(runner)
  if (atHand !== undefined) for (const { core } of pending) atHand.remember(core.map, core.facts)
  const filled = pending.filter(({ core }) => core.cells.length > 0)
  const cells = filled.map(({ core }) => core)
  const opened = await installation.host.cipher.open(cells, context, viaOf(installation, runner))
  for (let i = 0; i < filled.length; i++) {
    const [one, result] = [filled[i] as Pending, opened[i] as OpenedRow] // results come in the order of the input
    place(one, result)
    if (result.outdated.length > 0) offer(installation, one, result)
  }
  const dropped = checkTerms(pending)
  return {
    rows: dropped.size === 0 ? rows : rows.filter((row) => !dropped.has(row)),
    restore() {
      for (const { rows: places, keys, stored } of filled) {
        for (const row of places) for (let at = 0; at < keys.length; at++) row[keys[at] as string] = stored[at]
      }
    },
  }
}

/** @param repeated the result set joins, so that a row may stand in it many times */
function collectAll(
  rows: readonly RawRow[],
  source: RowSource,
  context: OperationContext,
  repeated: boolean,
  conversions: Conversions,
): Pending[] {
  const pending: Pending[] = []
  const shares = repeated && source.columns.every(({ sealed }) => !MUTABLE_TYPES.includes(sealed.field.type))
  const known = new Map<string, Pending>()
  for (const row of rows) {
    if (isAbsent(row, source)) continue
    const name = shares ? source.keys.map((key) => String(row[key])).join('\0') : ''
    const earlier = shares ? known.get(name) : undefined
    const [first] = earlier?.rows ?? []
    if (earlier !== undefined && first !== undefined && holdTheSame(row, first, source)) {
      earlier.rows.push(row)
      continue
    }
    const one = collect(row, source, context, conversions)
    if (shares) known.set(name, one)
    pending.push(one)
  }
  return pending
}

function holdTheSame(a: RawRow, b: RawRow, { columns }: RowSource): boolean {
  return columns.every(({ key, twinKey }) => a[key] === b[key] && (twinKey === undefined || a[twinKey] === b[twinKey]))
}

/** A join that found nothing. */
function isAbsent(row: RawRow, { keys }: RowSource): boolean {
  for (const key of keys) if (row[key] !== null && row[key] !== undefined) return false
  return true
}

function collect(row: RawRow, source: RowSource, context: OperationContext, conversions: Conversions): Pending {
  const { map } = source.model
  const known: RawRow = {}
  for (const { path, key } of source.facts) known[path] = row[key]
  const facts = map.facts(known, context)
  const keys: string[] = []
  const cells: Cell<unknown>[] = []
  const stored: unknown[] = []
  for (const { sealed, key, twinKey } of source.columns) {
    const own = storedBytes(row[key])
    const places = twinKey === undefined ? { own } : { own, twin: storedBytes(row[twinKey]) }
    const value = storedCell(sealed, places, conversions)
    // A database NULL is the value null, unless nulls are encrypted too: then core has to see it.
    if (value === undefined || (value === null && !sealed.field.encryptNull)) continue
    keys.push(key)
    stored.push(own)
    cells.push({ field: sealed.field, value })
  }
  return { source, rows: [row], keys, stored, core: { map, facts, cells } }
}

function place({ rows, keys, core }: Pending, { values }: OpenedRow): void {
  for (let at = 0; at < keys.length; at++) {
    const cell = new OpenedCell(values[at], isPlainCell(core.cells[at]?.value))
    for (const row of rows) row[keys[at] as string] = cell
  }
}

function checkTerms(pending: readonly Pending[]): Set<RawRow> {
  const dropped = new Set<RawRow>()
  for (const { source, rows } of pending) {
    const [row = {}] = rows
    for (const { term, valueKeys, tokenKeys } of source.terms) {
      const cells = valueKeys.map((key) => row[key])
      if (cells.some(OpenedCell.isPlain)) continue
      const values = cells.map((cell) => (OpenedCell.isOpened(cell) ? OpenedCell.valueOf(cell) : cell))
      if (values.some(isUnreadable)) continue
      const tokens = tokenKeys.map((key) => storedBytes(row[key]) as Uint8Array | null | undefined) // bytea columns of ours
      if (term.verdict(tokens, values) !== 'foreign') continue
      if (!term.index.truncated)
        throw new FieldsealError('ERR_TOKEN_MISMATCH', { model: term.index.model, field: term.index.id })
      for (const each of rows) dropped.add(each)
    }
  }
  return dropped
}

function offer({ offerRewrap, writer }: Installation, { source, rows, core }: Pending, { outdated }: OpenedRow): void {
  // Without canonical key the row could not be found again.
  if (core.facts.rowId === undefined) return
  const cells = outdated.flatMap((at) => {
    const cell = core.cells[at]
    const value = cell && (typeof cell.value === 'string' ? envelopeFromText(cell.value) : cell.value)
    return cell && isEnvelope(value) ? [{ ...cell, value: value as Envelope }] : []
  })
  const [row = {}] = rows
  const key = Object.fromEntries(source.facts.map(({ path, key: name }) => [path, row[name]]))
  offerRewrap({ ...core, cells }, key, writer)
}
