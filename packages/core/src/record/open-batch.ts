import type { RowPlace } from '../field/dek-wrap.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import type { CellAudit } from './cell-audit.ts'
import { createDirectLookup, type DirectDeps } from './direct-lookup.ts'
import { assertOwnRow, createKeyLookup } from './key-lookup.ts'
import { type Newest, newestOf } from './newest.ts'
import { type Lookups, openSlice, type PendingRow, type Reader, unreadable } from './open-slice.ts'
import { parseRow } from './parse-row.ts'
import type { OpenedRow, Row } from './ports.ts'
import { inTimeSlices } from './time-slices.ts'
import { isUnreadable } from './unreadable.ts'
import { createWrapFrames } from './wrap-frames.ts'

export interface OpenDeps extends DirectDeps {
  readonly keyrings: Keyrings
  readonly cellAudit: CellAudit
}

/** Opens the stored cells of rows: parses all, looks for all keys at once, decrypts in time slices. */
export async function openBatch(
  rows: readonly Row<unknown>[],
  context: OperationContext,
  via: unknown,
  deps: OpenDeps,
): Promise<readonly OpenedRow[]> {
  const keks = createKeyLookup(deps.app, deps.keyrings, 'read', via)
  const deks = createDirectLookup(deps, { use: 'read', via, goOn: context.onUnreadable === 'mark' })
  try {
    const opened = await openWith({ keks, deks }, rows, context, via, deps)
    await tellOpened(opened, deps.cellAudit)
    return opened
  } finally {
    keks.release()
    deks.release()
  }
}

async function openWith(
  lookups: Lookups,
  rows: readonly Row<unknown>[],
  context: OperationContext,
  via: unknown,
  deps: OpenDeps,
): Promise<readonly PendingRow[]> {
  const reader = { context, cellAudit: deps.cellAudit }
  const pending: PendingRow[] = []
  const placeOf = createPlaces()
  await inTimeSlices(rows.length, (from, to) => {
    for (const row of rows.slice(from, to)) pending.push(parsePending(row, placeOf(row), reader))
  })
  for (const { row, wraps } of pending)
    for (const wrap of wraps) {
      if (wrap.layout === 'direct') lookups.deks.want(row, wrap)
      else lookups.keks.want(row.facts, wrap.kekId)
    }
  const settle = async () => {
    await lookups.keks.settle()
    await lookups.deks.settle()
  }
  await settle()
  const newest = new Map<RowPlace, Newest | undefined>()
  for (const { row, place, cells } of pending) {
    if (cells.length === 0 || newest.has(place)) continue
    newest.set(place, await newestOf(row, via, deps).catch(() => undefined)) // whether keys are found was settled above
  }
  await settle() // what was purged meanwhile
  const frames = createWrapFrames()
  await inTimeSlices(
    pending.length,
    (from, to) => openSlice(pending.slice(from, to), lookups, frames, newest, reader),
    settle,
  )
  return pending
}

function parsePending(row: Row<unknown>, place: RowPlace, reader: Reader): PendingRow {
  assertOwnRow(row.map.id, row.facts, reader.context)
  const values = row.cells.map((): unknown => null)
  const { cells, wraps } = parseRow(
    row,
    (column, error) => {
      values[column] = unreadable(row, column, error, reader)
    },
    (column, value) => {
      values[column] = value ?? null
    },
  )
  return { row, place, cells, wraps, values, outdated: [] }
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
