import {
  envelopeFromText,
  isEnvelope,
  isEnvelopeText,
  plainCell,
  type Envelope,
  type Field,
} from '@fieldseal/core/adapter'
import { turnsInPlace, type SealedColumn } from '../entity-map/entity-model.ts'
import type { Conversions } from '../install/driver.ts'

/** What stands in the columns of one field, as the driver gave it. */
export interface StoredPlaces {
  readonly own: unknown
  /** Of the field's other column. */
  readonly twin?: unknown
  /** The plaintext as text of the database, for whoever compares it. */
  readonly plainText?: string | undefined
}

/**
 * The stored cell of a field for core: an envelope in either form, a plain cell, or null. Where both columns hold a
 * value, the plaintext is the newer one: every write of ours clears it, and whoever writes it alone knows no envelopes.
 */
export function storedCell(
  sealed: SealedColumn,
  { own, twin, plainText }: StoredPlaces,
  { hydrate }: Conversions,
): unknown {
  const { field, plain, column } = sealed
  if (field.state === 'encrypted' || plain === undefined) return own
  if (turnsInPlace(sealed)) return typeof own === 'string' && !isEnvelopeText(own) ? plainCell(field.path, own) : own
  const [value, envelope] = column === plain ? [own, twin] : [twin, own]
  if (value === null || value === undefined) return envelope
  return plainCell(field.plaintextIn ?? field.path, fieldValue(field, hydrate(value, plain)), {
    stored: plainText,
    outlived: asEnvelope(envelope),
  })
}

/** A hydrated value as the field has it: drivers give numbers that may not be exact as texts. */
export function fieldValue({ type }: Pick<Field, 'type'>, value: unknown): unknown {
  if (type === 'day' && typeof value === 'string' && value.length > DAY_LENGTH) return dayOf(new Date(value))
  if (type === 'bigint' && (typeof value === 'number' || (typeof value === 'string' && /^-?\d+$/.test(value))))
    return BigInt(value)
  if (type === 'number' && typeof value === 'string' && value.trim() !== '') return Number(value)
  return value
}

const DAY_LENGTH = 'YYYY-MM-DD'.length

/** What the driver made a local midnight, and TypeORM's result cache a text. */
function dayOf(date: Date): string {
  const [year, month, day] = [date.getFullYear(), date.getMonth() + 1, date.getDate()]
  return [String(year).padStart(4, '0'), ...[month, day].map((part) => String(part).padStart(2, '0'))].join('-')
}

/** An envelope of either form as bytes; undefined for anything else. */
export function asEnvelope(stored: unknown): Envelope | undefined {
  if (typeof stored === 'string')
    return isEnvelopeText(stored) ? (envelopeFromText(stored) as Uint8Array as Envelope) : undefined // it parses
  return isEnvelope(stored) ? stored : undefined
}
