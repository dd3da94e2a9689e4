import { nodeEngine } from '../cipher/aead.ts'
import type { KekId } from '../context/record-id.ts'
import { VALUE_FLAG_PADDED } from '../envelope/layout.ts'
import { keyIdOf, parseEnvelope, type ParsedEnvelope } from '../envelope/parse.ts'
import { envelopeFromText } from '../envelope/text-form.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { RowPlace } from '../field/dek-wrap.ts'
import { openValues, type ValueToOpen } from '../field/open-rows.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import { built } from './blind-index-of-model.ts'
import { assertOwnRow, createKeyLookup } from './key-lookup.ts'
import type { Cell, OpenedRow, Row } from './ports.ts'
import { inTimeSlices } from './time-slices.ts'
import { Unreadable } from './unreadable.ts'
import { createWrapFrames } from './wrap-frames.ts'

export interface OpenDeps {
  readonly app: string
  readonly keyrings: Keyrings
}

/** A stored cell that parsed. */
export interface ParsedCell {
  readonly column: number
  readonly cell: Cell<unknown>
  readonly parsed: ParsedEnvelope
  readonly kekId: KekId
}

interface PendingRow {
  readonly row: Row<unknown>
  readonly place: RowPlace
  readonly cells: ParsedCell[]
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
  const pending: PendingRow[] = []
  const lookup = createKeyLookup(deps.app, deps.keyrings, 'read', via)
  await inTimeSlices(rows.length, (from, to) => {
    for (const row of rows.slice(from, to)) pending.push(parseRow(row, context))
  })
  const settle = () => {
    for (const { row, cells } of pending) for (const { kekId } of cells) lookup.want(row.facts, kekId)
    return lookup.settle()
  }
  await settle()
  const newest = await newestIds(pending, deps, via)
  const frames = createWrapFrames()

  await inTimeSlices(
    pending.length,
    (from, to) => {
      const ready: { readonly target: PendingRow; readonly cell: ParsedCell }[] = []
      const values: ValueToOpen[] = []
      for (const target of pending.slice(from, to)) {
        for (const cell of target.cells) {
          const found = lookup.found(target.row.facts, cell.kekId)
          if ('error' in found) {
            target.values[cell.column] = unreadable(target.row, cell.cell, found.error, context)
            continue
          }
          ready.push({ target, cell })
          values.push(valueToOpen(target.row, cell, frames.toOpen(found.kek, cell.parsed.bytes, target.place)))
        }
      }
      const opened = openValues(values, nodeEngine)
      for (const [i, { target, cell }] of ready.entries())
        finish(target, cell, opened[i], newest.get(nameOf(target.place)), context)
    },
    settle,
  )
  return pending
}

/** What is needed to open one parsed cell in the place where its reader found it. */
export function valueToOpen(
  { facts }: Row<unknown>,
  { cell, parsed }: ParsedCell,
  frame: ValueToOpen['frame'],
): ValueToOpen {
  const { policy } = built.field(cell.field)
  const aad = policy.aad(parsed.padded ? VALUE_FLAG_PADDED : 0, parsed.typeTag, cell.mapKeys)
  return { parsed, frame, rowId: parsed.rowBound ? facts.rowId : undefined, aad }
}

function parseRow(row: Row<unknown>, context: OperationContext): PendingRow {
  const { map, facts } = row
  assertOwnRow(map.id, facts, context)
  const cells: ParsedCell[] = []
  const values = row.cells.map((cell, column): unknown => {
    try {
      const parsed = parseCell(row, cell)
      if (parsed !== null) cells.push({ column, cell, parsed, kekId: keyIdOf(parsed.bytes) })
      return null
    } catch (error) {
      return unreadable(row, cell, error, context)
    }
  })
  return { row, place: { tenant: facts.tenant, keyspace: facts.keyspace, model: map.id }, cells, values, outdated: [] }
}

/** The envelope of a cell, null for a database NULL. Checks all that can be known without a key. */
export function parseCell({ map, facts }: Row<unknown>, { field, value }: Cell<unknown>): ParsedEnvelope | null {
  if (value === null || value === undefined) {
    if (field.encryptNull) throw new FieldsealError('ERR_PLAINTEXT_FOUND', { reason: 'NULL where nulls are encrypted' })
    return null
  }
  if (typeof value !== 'string' && !(value instanceof Uint8Array)) throw new FieldsealError('ERR_PLAINTEXT_FOUND')
  const parsed = parseEnvelope(typeof value === 'string' ? envelopeFromText(value) : value)
  if (parsed.layout !== 'kek') throw new FieldsealError('ERR_LAYOUT_REFUSED', { reason: 'layout direct' })
  if (!parsed.rowBound && !map.acceptsUnbound)
    throw new FieldsealError('ERR_LAYOUT_REFUSED', { reason: 'not bound to its row' })
  if (parsed.rowBound && facts.rowId === undefined) {
    throw new FieldsealError('ERR_QUERY_UNSUPPORTED', {
      reason: 'row-key-not-read',
      hint: 'select the whole primary key with the encrypted field',
    })
  }
  built.field(field).policy.assertReadable(parsed)
  return parsed
}

function finish(
  target: PendingRow,
  { column, cell, parsed, kekId }: ParsedCell,
  plaintext: Buffer | undefined,
  newest: KekId | undefined,
  context: OperationContext,
): void {
  try {
    if (plaintext === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED')
    target.values[column] = built.field(cell.field).policy.decode(parsed, plaintext)
    if (newest !== undefined && kekId !== newest) target.outdated.push(column)
  } catch (error) {
    target.values[column] = unreadable(target.row, cell, error, context)
  }
}

/** The sentinel, where the context asks for it and the error is about this value; throws otherwise, naming the field. */
function unreadable(
  { map, facts }: Row<unknown>,
  { field, value }: Cell<unknown>,
  error: unknown,
  context: OperationContext,
): Unreadable {
  if (!isFieldsealError(error)) throw error
  const ofThisValue = error.kind === 'corrupt' || error.kind === 'denied' || error.kind === 'erased'
  if (context.onUnreadable === 'mark' && ofThisValue && (typeof value === 'string' || value instanceof Uint8Array)) {
    return new Unreadable(error.code, value)
  }
  throw new FieldsealError(
    error.code,
    { ...error.details, tenant: facts.tenant, model: map.id, field: field.id },
    error.retryAfterMs,
  )
}

/** Per keyspace the KEK that new values get: what lies under another one is outdated. */
async function newestIds(
  pending: readonly PendingRow[],
  { app, keyrings }: OpenDeps,
  via: unknown,
): Promise<ReadonlyMap<string, KekId | undefined>> {
  const newest = new Map<string, KekId | undefined>()
  for (const { place, cells } of pending) {
    const name = nameOf(place)
    if (cells.length > 0 && !newest.has(name)) {
      const ref = { app, tenant: place.tenant, keyspace: place.keyspace }
      newest.set(name, await keyrings.newestId(ref, via).catch(() => undefined)) // the keys themselves were or were not found
    }
  }
  return newest
}

function nameOf({ tenant, keyspace }: RowPlace): string {
  return `${tenant}\0${keyspace}`
}
