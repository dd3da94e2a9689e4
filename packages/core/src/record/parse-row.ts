import type { KekId } from '../context/record-id.ts'
import { VALUE_FLAG_PADDED } from '../envelope/layout.ts'
import { keyIdOf, parseEnvelope, type ParsedEnvelope } from '../envelope/parse.ts'
import { envelopeFromText } from '../envelope/text-form.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { sharesWrap } from '../field/dek-wrap.ts'
import { sharesDirectWrap } from '../field/direct-value.ts'
import { built, type BuiltField } from './blind-index-of-model.ts'
import type { KeyMode } from './options.ts'
import { isEnvelopeText, isPlainCell } from './plain-cell.ts'
import type { Cell, Field, Row } from './ports.ts'

/** A distinct wrap among the cells of one row. */
export interface RowWrap {
  /** Any envelope that carries it. */
  readonly envelope: Buffer
  readonly layout: KeyMode
  /** Id of the KEK record, or of the direct key record. */
  readonly kekId: KekId
  readonly rowBound: boolean
}

/** A stored cell that parsed. */
export interface ParsedCell {
  readonly column: number
  readonly cell: Cell<unknown>
  readonly field: BuiltField
  readonly parsed: ParsedEnvelope
  /** Place in the row's wraps. */
  readonly wrap: number
  readonly aad: Uint8Array
}

export interface ParsedRow {
  readonly cells: readonly ParsedCell[]
  readonly wraps: readonly RowWrap[]
}

/**
 * Parses the stored cells of a row; `onError` hears of those that cannot be envelopes of their field, and may throw;
 * `onPlain` of those that are stored unencrypted while they may be.
 */
export function parseRow(
  row: Row<unknown>,
  onError: (column: number, error: unknown) => void,
  onPlain?: (column: number, value: unknown) => void,
): ParsedRow {
  const cells: ParsedCell[] = []
  const wraps: RowWrap[] = []
  for (let column = 0; column < row.cells.length; column++) {
    const cell = row.cells[column] as Cell<unknown> // column < length
    const field = built.field(cell.field)
    const plain = plainValueOf(field, cell.value)
    if (plain !== undefined) {
      onPlain?.(column, plain.value)
      continue
    }
    try {
      const parsed = parseCell(row, field, cell.value)
      if (parsed === null) continue
      const aad = field.policy.aad(parsed.padded ? VALUE_FLAG_PADDED : 0, parsed.typeTag, cell.mapKeys)
      cells.push({ column, cell, field, parsed, wrap: wrapAt(wraps, parsed), aad })
    } catch (error) {
      onError(column, error)
    }
  }
  return { cells, wraps }
}

/**
 * The value of a cell that is stored unencrypted while its field may be; undefined for an envelope, and for everything
 * where the field is `encrypted`: then plaintext is an error.
 */
export function plainValueOf(field: Field, stored: unknown): { readonly value: unknown } | undefined {
  if (field.state === 'encrypted') return undefined
  if (isPlainCell(stored)) return stored
  if (stored === null || stored === undefined) return { value: null }
  const inPlace = typeof stored === 'string' && field.plaintextIn === undefined
  return inPlace && !isEnvelopeText(stored) ? { value: stored } : undefined
}

/** Distinct wraps looked back at: a row of thousands of cells, each written alone, must not compare all with all. */
const WINDOW = 64

/** The place of a cell's wrap: one unwrap per distinct write that a row holds. */
function wrapAt(wraps: RowWrap[], { bytes, layout, rowBound }: ParsedEnvelope): number {
  for (let i = wraps.length - 1; i >= Math.max(0, wraps.length - WINDOW); i--) {
    // Every byte is compared: a copy of the wrap under another header gains nothing.
    const wrap = wraps[i]
    const shares = layout === 'kek' ? sharesWrap : sharesDirectWrap
    if (wrap !== undefined && wrap.layout === layout && shares(wrap.envelope, bytes)) return i
  }
  return wraps.push({ envelope: bytes, layout, kekId: keyIdOf(bytes), rowBound }) - 1
}

/** The envelope of a cell, null for a database NULL. Checks all that can be known without a key. */
function parseCell({ map, facts }: Row<unknown>, field: BuiltField, value: unknown): ParsedEnvelope | null {
  if (value === null || value === undefined) {
    if (field.encryptNull) throw new FieldsealError('ERR_PLAINTEXT_FOUND', { reason: 'NULL where nulls are encrypted' })
    return null
  }
  if (typeof value !== 'string' && !(value instanceof Uint8Array)) throw new FieldsealError('ERR_PLAINTEXT_FOUND')
  const parsed = parseEnvelope(typeof value === 'string' ? envelopeFromText(value) : value)
  if (!map.layouts.has(parsed.layout))
    throw new FieldsealError('ERR_LAYOUT_REFUSED', { reason: `layout ${parsed.layout}` })
  if (!parsed.rowBound && !map.acceptsUnbound) {
    throw new FieldsealError('ERR_LAYOUT_REFUSED', { reason: 'not bound to its row' })
  }
  if (parsed.rowBound && facts.rowId === undefined) {
    throw new FieldsealError('ERR_QUERY_UNSUPPORTED', {
      reason: 'row-key-not-read',
      hint: 'select the whole primary key with the encrypted field',
    })
  }
  field.policy.assertReadable(parsed)
  return parsed
}
