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

/** Where a decrypted value replaced a stored one. */
interface Placed {
  readonly row: RawRow
  readonly key: string
  readonly stored: unknown
}

export interface OpenedRows {
  /** The rows, without those that a truncated index found in vain. */
  readonly rows: RawRow[]
  /** Puts the stored values back. */
  restore(): void
}

interface Pending {
  readonly source: RowSource
  readonly row: RawRow
  readonly keys: readonly string[]
  readonly core: Row<unknown>
}

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
  const pending: Pending[] = []
  for (const row of rows) for (const source of sources) collect(row, source, context, pending)
  const atHand = runner && installation.rowsAtHand.get(runner)
  if (atHand !== undefined) for (const { core } of pending) atHand.remember(core.map, core.facts)
  const cells = pending.filter(({ core }) => core.cells.length > 0)
  const opened = await installation.host.cipher.open(
    cells.map(({ core }) => core),
    context,
    viaOf(installation, runner),
  )
  const placed: Placed[] = []
  for (const [index, { source, row, keys, core }] of cells.entries()) {
    const result = opened[index] as OpenedRow // results come in the order of the input
    for (const [at, key] of keys.entries()) {
      placed.push({ row, key, stored: row[key] })
      row[key] = new OpenedCell(result.values[at])
    }
    if (result.outdated.length > 0) offer(installation, source, row, core, result)
  }
  const dropped = checkTerms(pending)
  return {
    rows: dropped.size === 0 ? rows : rows.filter((row) => !dropped.has(row)),
    restore() {
      for (const { row, key, stored } of placed) row[key] = stored
    },
  }
}

function collect(row: RawRow, source: RowSource, context: OperationContext, pending: Pending[]): void {
  if (source.keys.every((key) => row[key] === null || row[key] === undefined)) return
  const known: RawRow = {}
  for (const { path, key } of source.facts) known[path] = row[key]
  const { map } = source.model
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
  pending.push({ source, row, keys, core: { map, facts, cells } })
}

function checkTerms(pending: readonly Pending[]): Set<RawRow> {
  const dropped = new Set<RawRow>()
  for (const { source, row } of pending) {
    for (const { term, valueKey, tokenKeys } of source.terms) {
      const cell = row[valueKey]
      const value = OpenedCell.isOpened(cell) ? OpenedCell.valueOf(cell) : cell
      if (isUnreadable(value)) continue
      const tokens = tokenKeys.map((key) => storedCell(row[key]) as Uint8Array | null | undefined) // bytea columns of ours
      if (term.verdict(tokens, value) !== 'foreign') continue
      if (!term.index.truncated)
        throw new FieldsealError('ERR_TOKEN_MISMATCH', { model: term.index.model, field: term.index.id })
      dropped.add(row)
    }
  }
  return dropped
}

function offer(
  { offerRewrap, writer }: Installation,
  source: RowSource,
  row: RawRow,
  core: Row<unknown>,
  { outdated }: OpenedRow,
): void {
  // Without canonical key the row could not be found again.
  if (core.facts.rowId === undefined) return
  const cells = outdated.flatMap((at) => {
    const cell = core.cells[at]
    const value = cell && (typeof cell.value === 'string' ? envelopeFromText(cell.value) : cell.value)
    return cell && isEnvelope(value) ? [{ ...cell, value: value as Envelope }] : []
  })
  const key = Object.fromEntries(source.facts.map(({ path, key: name }) => [path, row[name]]))
  offerRewrap({ ...core, cells }, key, writer)
}
