import {
  FieldsealError,
  isEnvelope,
  isUnreadable,
  type AdapterHost,
  type BlindIndex,
  type OpenedRow,
  type OperationContext,
  type SoughtTokens,
} from '@fieldseal/core/adapter'
import { toDriverValue, type PromoteOptions } from '../bson/driver-values.ts'
import type { Doc } from '../bson/documents.ts'
import { compoundsOf } from '../path-graph/compound-paths.ts'
import type { PathNode } from '../path-graph/path-node.ts'
import type { RewrapWriter } from '../record-source/compare-and-set.ts'
import { documentKey } from '../record-source/document-key.ts'
import { collectRows, compoundTokens, type StoredRow } from './collect-rows.ts'

/** How the documents of one operation are opened. */
export interface Opening {
  readonly host: AdapterHost
  readonly context: OperationContext
  /** What the documents look like: the model's graph, or what a pipeline made of it. */
  readonly root: PathNode
  readonly promote: PromoteOptions
  readonly sought: ReadonlyMap<BlindIndex, SoughtTokens>
  /** Rewraps outdated cells in the background; undefined where nothing may be written (transactions, snapshots). */
  readonly writer: RewrapWriter | undefined
  /** Documents come as they are stored, with every path. */
  readonly whole: boolean
  /** They hold all paths that the filter looked for, as far as these are not null. @defaultValue false */
  readonly holdsSought?: boolean
}

/**
 * Opens documents of a result in place, in one batch, and compares what was found by token.
 *
 * @returns the documents, without those that a truncated index found in vain
 * @throws FieldsealError ERR_TENANT_MISMATCH before any value of a foreign document is opened, ERR_TOKEN_MISMATCH when a
 * full-length token stands beside a value that does not have it, and what opening throws
 */
export async function openDocuments(documents: readonly Doc[], opening: Opening): Promise<Doc[]> {
  const { host, context, root, promote } = opening
  if (!root.reaches) return [...documents]
  const owners = documents.map((document) => collectRows(document, root, context, promote))
  const rows = owners.flat().filter(({ cells, compounds }) => cells.length > 0 || compounds !== undefined)
  if (rows.length === 0) return [...documents]
  const opened = await host.cipher.open(
    rows.map(({ model, facts, cells }) => ({ map: model.map, facts, cells })),
    context,
  )
  const dropped = new Set<StoredRow>()
  rows.forEach((row, at) => {
    const result = opened[at] as OpenedRow // results come in the order of the input
    if (isForeign(row, result, opening)) dropped.add(row)
    row.places.forEach(({ holder, key, plain }, cell) => {
      const value = result.values[cell]
      const shown = isUnreadable(value) ? value : plain === undefined ? toDriverValue(value, promote) : plain.shown
      Object.defineProperty(holder, key, { value: shown, enumerable: true, configurable: true, writable: true })
    })
    if (result.outdated.length > 0 && opening.writer !== undefined)
      offer(host, row, result, opening.writer, opening.whole)
  })
  if (dropped.size === 0) return [...documents]
  return documents.filter((_, at) => !owners[at]?.some((row) => dropped.has(row)))
}

/** True for a document that a truncated token found without having the value. @throws FieldsealError ERR_TOKEN_MISMATCH */
function isForeign(row: StoredRow, { values }: OpenedRow, { sought, holdsSought = false }: Opening): boolean {
  if (sought.size === 0) return false
  const verdicts = new Map<BlindIndex, Set<string>>()
  for (const index of compoundsOf(row.model)) {
    const of = sought.get(index)
    const cells = index.fields.map((field) => row.cells.findIndex((cell) => cell.field === field))
    const found = cells.map((at) => (at === -1 ? null : values[at]))
    if (of === undefined || (cells.includes(-1) && !holdsSought) || found.some(isUnreadable)) continue
    if (of.verdict(compoundTokens(row, index), found) === 'foreign')
      throw new FieldsealError('ERR_TOKEN_MISMATCH', { model: index.model, field: index.id })
  }
  row.cells.forEach(({ field }, at) => {
    const index = field.blindIndex
    const of = index && sought.get(index)
    const value = values[at]
    if (index === undefined || of === undefined || isUnreadable(value)) return
    if (row.places[at]?.plain !== undefined) return // it was compared itself
    const verdict = of.verdict(row.places[at]?.tokens ?? [], [value])
    if (verdict === 'foreign' && !index.truncated)
      throw new FieldsealError('ERR_TOKEN_MISMATCH', { model: index.model, field: index.id })
    verdicts.set(index, (verdicts.get(index) ?? new Set()).add(verdict))
  })
  return [...verdicts].some(([, seen]) => seen.has('foreign') && !seen.has('hit'))
}

function offer(host: AdapterHost, row: StoredRow, { outdated }: OpenedRow, writer: RewrapWriter, whole: boolean): void {
  if (row.facts.rowId === undefined || row.document['_id'] === undefined) return // it could not be found again
  const cells = outdated.flatMap((at) => {
    const cell = row.cells[at]
    if (cell === undefined || !isEnvelope(cell.value) || !writer.inFlight.take(row.document['_id'], cell.value))
      return []
    return [{ ...cell, value: cell.value }]
  })
  if (cells.length > 0)
    host.rewraps.offer({ map: row.model.map, facts: row.facts, cells }, documentKey(row, whole), writer)
}
