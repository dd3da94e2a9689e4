import { nodeEngine } from '../cipher/aead.ts'
import type { KekId } from '../context/record-id.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { RowPlace } from '../field/dek-wrap.ts'
import { type DirectToOpen, openDirectValues } from '../field/direct-value.ts'
import { openValues, type ValueToOpen, type WrapToOpen } from '../field/open-rows.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import type { CellAudit } from './cell-audit.ts'
import type { DirectLookup } from './direct-lookup.ts'
import type { KeyLookup } from './key-lookup.ts'
import { isOutdated, type Newest } from './newest.ts'
import type { ParsedCell, ParsedRow, RowWrap } from './parse-row.ts'
import type { Row } from './ports.ts'
import { Unreadable } from './unreadable.ts'
import type { WrapFrames } from './wrap-frames.ts'

/** A parsed row, to be filled with its values. */
export interface PendingRow extends ParsedRow {
  readonly row: Row<unknown>
  readonly place: RowPlace
  readonly values: unknown[]
  readonly outdated: number[]
}

/** Where the keys of one batch were looked for. */
export interface Lookups {
  readonly keks: KeyLookup
  readonly deks: DirectLookup
}

/** Who opens, and who hears of it. */
export interface Reader {
  readonly context: OperationContext
  readonly cellAudit: CellAudit
}

/** Whose value is opened. */
interface Owner {
  readonly target: PendingRow
  readonly cell: ParsedCell
  /** Whether its DEK is to be wrapped anew. */
  readonly outdated: boolean
}

/** Opens the cells of some rows, each layout in one call of the cipher. */
export function openSlice(
  targets: readonly PendingRow[],
  { keks, deks }: Lookups,
  frames: WrapFrames,
  newest: ReadonlyMap<RowPlace, Newest | undefined>,
  reader: Reader,
): void {
  const wraps: WrapToOpen[] = []
  const values: (ValueToOpen & Owner)[] = []
  const directs: (DirectToOpen & Owner)[] = []

  /** The place of a wrap of layout `kek` among those to open. */
  function wrapAt(
    { row, place }: PendingRow,
    { envelope, kekId, rowBound }: RowWrap,
  ): number | { readonly error: unknown } {
    const found = keks.found(row.facts, kekId)
    if ('error' in found) return found
    const frame = frames.toOpen(found.kek, envelope, place)
    return wraps.push({ envelope, frame, rowId: rowBound ? row.facts.rowId : undefined }) - 1
  }

  for (const target of targets) {
    const keys = target.wraps.map((wrap) => (wrap.layout === 'kek' ? wrapAt(target, wrap) : deks.found(wrap)))
    const current = newest.get(target.place)
    const outdatedWraps = target.wraps.map((wrap) => current !== undefined && isOutdated(wrap, current))
    for (const cell of target.cells) {
      const key = keys[cell.wrap]
      const outdated = outdatedWraps[cell.wrap] ?? false
      const { parsed, aad } = cell
      if (typeof key === 'number') {
        values.push({ parsed, wrap: key, aad, target, cell, outdated })
      } else if (key !== undefined && 'dek' in key) {
        directs.push({ parsed, dek: key.dek.key.exposeKeyObject(), aad, target, cell, outdated })
      } else {
        const kekId = target.wraps[cell.wrap]?.kekId
        target.values[cell.column] = unreadable(target.row, cell.column, key?.error, reader, kekId)
      }
    }
  }
  finishAll(openValues(values, wraps, nodeEngine), values, reader)
  finishAll(openDirectValues(directs, nodeEngine), directs, reader)
}

function finishAll(opened: readonly (Buffer | undefined)[], owners: readonly Owner[], reader: Reader): void {
  for (let i = 0; i < opened.length; i++) finish(owners[i] as Owner, opened[i], reader) // one owner per value
}

function finish({ target, cell, outdated }: Owner, plaintext: Buffer | undefined, reader: Reader): void {
  const { column, field, parsed, wrap } = cell
  try {
    if (plaintext === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED')
    target.values[column] = field.policy.decode(parsed, plaintext)
    if (outdated) target.outdated.push(column)
  } catch (error) {
    target.values[column] = unreadable(target.row, column, error, reader, target.wraps[wrap]?.kekId)
  }
}

/** The sentinel, where the context asks for it and the error is about this value; throws otherwise, naming the field. */
export function unreadable(
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
