import { nodeEngine } from '../cipher/aead.ts'
import type { KekId } from '../context/record-id.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { RowPlace } from '../field/dek-wrap.ts'
import { openValues, type ValueToOpen, type WrapToOpen } from '../field/open-rows.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import type { CellAudit } from './cell-audit.ts'
import { assertOwnRow, createKeyLookup, type KeyLookup } from './key-lookup.ts'
import { parseRow, type ParsedCell, type ParsedRow } from './parse-row.ts'
import type { OpenedRow, Row } from './ports.ts'
import { inTimeSlices } from './time-slices.ts'
import { isUnreadable, Unreadable } from './unreadable.ts'
import { createWrapFrames, type WrapFrames } from './wrap-frames.ts'

export interface OpenDeps {
  readonly app: string
  readonly keyrings: Keyrings
  readonly cellAudit: CellAudit
}

/** Who opens, and who hears of it. */
interface Reader {
  readonly context: OperationContext
  readonly cellAudit: CellAudit
}

interface PendingRow extends ParsedRow {
  readonly row: Row<unknown>
  readonly place: RowPlace
  readonly values: unknown[]
  readonly outdated: number[]
}

/** Opens the stored cells of rows: parses all, looks for all keys at once, decrypts in time slices. */
export async function openBatch(
  rows: readonly Row<unknown>[],
  context: OperationContext,
  via: unknown,
  deps: OpenDeps,
): Promise<readonly OpenedRow[]> {
  const lookup = createKeyLookup(deps.app, deps.keyrings, 'read', via)
  try {
    const opened = await openWith(lookup, rows, context, via, deps)
    await tellOpened(opened, deps.cellAudit)
    return opened
  } finally {
    lookup.release()
  }
}

async function openWith(
  lookup: KeyLookup,
  rows: readonly Row<unknown>[],
  context: OperationContext,
  via: unknown,
  { app, keyrings, cellAudit }: OpenDeps,
): Promise<readonly PendingRow[]> {
  const reader = { context, cellAudit }
  const pending: PendingRow[] = []
  const placeOf = createPlaces()
  await inTimeSlices(rows.length, (from, to) => {
    for (const row of rows.slice(from, to)) pending.push(parsePending(row, placeOf(row), reader))
  })
  for (const { row, wraps } of pending) for (const { kekId } of wraps) lookup.want(row.facts, kekId)
  await lookup.settle()
  const newest = new Map<RowPlace, KekId | undefined>()
  for (const { place, cells } of pending) {
    if (cells.length === 0 || newest.has(place)) continue
    const ref = { app, tenant: place.tenant, keyspace: place.keyspace }
    newest.set(place, await keyrings.newestId(ref, via).catch(() => undefined)) // whether keys are found was settled above
  }
  await lookup.settle() // what was purged meanwhile
  const frames = createWrapFrames()
  await inTimeSlices(
    pending.length,
    (from, to) => openSlice(pending.slice(from, to), lookup, frames, newest, reader),
    () => lookup.settle(),
  )
  return pending
}

function openSlice(
  targets: readonly PendingRow[],
  lookup: KeyLookup,
  frames: WrapFrames,
  newest: ReadonlyMap<RowPlace, KekId | undefined>,
  reader: Reader,
): void {
  const wraps: WrapToOpen[] = []
  const values: ValueToOpen[] = []
  const owners: { readonly target: PendingRow; readonly cell: ParsedCell }[] = []
  for (const target of targets) {
    const { row, place } = target
    const found = target.wraps.map((wrap): number | { readonly error: unknown } => {
      const key = lookup.found(row.facts, wrap.kekId)
      if ('error' in key) return key
      const frame = frames.toOpen(key.kek, wrap.envelope, place)
      return wraps.push({ envelope: wrap.envelope, frame, rowId: wrap.rowBound ? row.facts.rowId : undefined }) - 1
    })
    for (const cell of target.cells) {
      const wrap = found[cell.wrap]
      if (typeof wrap === 'number') {
        values.push({ parsed: cell.parsed, wrap, aad: cell.aad })
        owners.push({ target, cell })
      } else
        target.values[cell.column] = unreadable(row, cell.column, wrap?.error, reader, target.wraps[cell.wrap]?.kekId)
    }
  }
  const opened = openValues(values, wraps, nodeEngine)
  for (let i = 0; i < opened.length; i++) {
    const { target, cell } = owners[i] as (typeof owners)[number] // one owner per value
    finish(target, cell, opened[i], newest.get(target.place), reader)
  }
}

function parsePending(row: Row<unknown>, place: RowPlace, reader: Reader): PendingRow {
  assertOwnRow(row.map.id, row.facts, reader.context)
  const values = row.cells.map((): unknown => null)
  const { cells, wraps } = parseRow(row, (column, error) => {
    values[column] = unreadable(row, column, error, reader)
  })
  return { row, place, cells, wraps, values, outdated: [] }
}

function finish(
  target: PendingRow,
  { column, field, parsed, wrap }: ParsedCell,
  plaintext: Buffer | undefined,
  newest: KekId | undefined,
  reader: Reader,
): void {
  const kekId = target.wraps[wrap]?.kekId
  try {
    if (plaintext === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED')
    target.values[column] = field.policy.decode(parsed, plaintext)
    if (newest !== undefined && kekId !== newest) target.outdated.push(column)
  } catch (error) {
    target.values[column] = unreadable(target.row, column, error, reader, kekId)
  }
}

/** The sentinel, where the context asks for it and the error is about this value; throws otherwise, naming the field. */
function unreadable(
  row: Row<unknown>,
  column: number,
  error: unknown,
  { context, cellAudit }: Reader,
  kekId?: KekId,
): Unreadable {
  if (!isFieldsealError(error)) throw error
  const { map, facts, cells } = row
  cellAudit.failed(row, column, error, kekId)
  const cell = cells[column]
  const stored = cell?.value
  const ofThisValue = error.kind === 'corrupt' || error.kind === 'denied' || error.kind === 'erased'
  if (context.onUnreadable === 'mark' && ofThisValue && (typeof stored === 'string' || stored instanceof Uint8Array)) {
    return new Unreadable(error.code, stored)
  }
  const named = { ...error.details, tenant: facts.tenant, model: map.id, field: cell?.field.id ?? '' }
  throw new FieldsealError(error.code, named, error.retryAfterMs)
}

/** One entry per opened value, in slices: a sink may write synchronously. */
async function tellOpened(rows: readonly PendingRow[], { opened }: CellAudit): Promise<void> {
  if (opened === undefined) return
  await inTimeSlices(rows.length, (from, to) => {
    for (const { row, cells, wraps, values } of rows.slice(from, to))
      for (const { column, wrap } of cells) {
        const kekId = wraps[wrap]?.kekId
        if (kekId !== undefined && !isUnreadable(values[column])) opened(row, column, kekId)
      }
  })
}

/** One object per tenant, keyspace and model, so that the places of rows compare by identity. */
function createPlaces(): (row: Row<unknown>) => RowPlace {
  const places = new Map<string, RowPlace>()
  let last: RowPlace | undefined
  return ({ map, facts: { tenant, keyspace } }) => {
    if (last?.tenant === tenant && last.keyspace === keyspace && last.model === map.id) return last
    const name = `${tenant}\0${keyspace}\0${map.id}`
    last = places.get(name) ?? { tenant, keyspace, model: map.id }
    places.set(name, last)
    return last
  }
}
