import {
  envelopeFromText,
  FieldsealError,
  isEnvelope,
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
import { viaOf, type Installation } from '../install/installation.ts'
import { OpenedCell } from './opened-cell.ts'
import { storedCell } from './stored-bytes.ts'

export type RawRow = Record<string, unknown>

/** One entity in a result set, and under which names its columns stand there. Made once for each result set. */
export interface RowSource {
  readonly model: EntityModel
  readonly columns: readonly { readonly sealed: SealedColumn; readonly key: string }[]
  /** Key, tenant and keyspace columns. */
  readonly facts: readonly { readonly path: string; readonly key: string }[]
  /** Names of the primary key's columns: all null where a join found nothing. */
  readonly keys: readonly string[]
  readonly terms: readonly TermCheck[]
}

/** A condition that may have found the row, with the names of the row's value and tokens. */
export interface TermCheck {
  readonly term: SoughtTerm
  readonly valueKey: string
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
  const pending = sources.flatMap((source) => collectAll(rows, source, context, sources.length > 1))
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
      for (const { rows: places, keys, core } of filled) {
        for (const row of places)
          for (let at = 0; at < keys.length; at++) row[keys[at] as string] = core.cells[at]?.value
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
): Pending[] {
  const pending: Pending[] = []
  const shares = repeated && source.columns.every(({ sealed }) => !MUTABLE_TYPES.includes(sealed.field.type))
  const known = new Map<string, Pending>()
  for (const row of rows) {
    if (isAbsent(row, source)) continue
    const name = shares ? source.keys.map((key) => String(row[key])).join('\0') : ''
    const earlier = shares ? known.get(name) : undefined
    if (earlier !== undefined && source.columns.every(({ key }) => row[key] === earlier.rows[0]?.[key])) {
      earlier.rows.push(row)
      continue
    }
    const one = collect(row, source, context)
    if (shares) known.set(name, one)
    pending.push(one)
  }
  return pending
}

/** A join that found nothing. */
function isAbsent(row: RawRow, { keys }: RowSource): boolean {
  for (const key of keys) if (row[key] !== null && row[key] !== undefined) return false
  return true
}

function collect(row: RawRow, source: RowSource, context: OperationContext): Pending {
  const { map } = source.model
  const known: RawRow = {}
  for (const { path, key } of source.facts) known[path] = row[key]
  const facts = map.facts(known, context)
  const keys: string[] = []
  const cells: Cell<unknown>[] = []
  for (const { sealed, key } of source.columns) {
    const value = storedCell(row[key])
    // A database NULL is the value null, unless nulls are encrypted too: then core has to see it.
    if (value === undefined || (value === null && !sealed.field.encryptNull)) continue
    keys.push(key)
    cells.push({ field: sealed.field, value })
  }
  return { source, rows: [row], keys, core: { map, facts, cells } }
}

function place({ rows, keys }: Pending, { values }: OpenedRow): void {
  for (let at = 0; at < keys.length; at++) {
    const cell = new OpenedCell(values[at])
    for (const row of rows) row[keys[at] as string] = cell
  }
}

function checkTerms(pending: readonly Pending[]): Set<RawRow> {
  const dropped = new Set<RawRow>()
  for (const { source, rows } of pending) {
    const [row = {}] = rows
    for (const { term, valueKey, tokenKeys } of source.terms) {
      const cell = row[valueKey]
      const value = OpenedCell.isOpened(cell) ? OpenedCell.valueOf(cell) : cell
      if (isUnreadable(value)) continue
      const tokens = tokenKeys.map((key) => storedCell(row[key]) as Uint8Array | null | undefined) // bytea columns of ours
      if (term.verdict(tokens, value) !== 'foreign') continue
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
