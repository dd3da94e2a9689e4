import {
  type ErrorCode,
  envelopeFromText,
  type Envelope,
  FieldsealError,
  type Field,
  isEnvelope,
  isEnvelopeText,
  isFieldsealError,
  isPlainCell,
  isUnreadable,
  type PatchedCell,
  plainCell,
} from '@fieldseal/core/adapter'
import type { RowOutcome, RowVerb } from '../engine/batch.ts'
import type { Pace } from '../engine/pace.ts'
import { runJob } from '../engine/run-job.ts'
import { fieldOf, type Surroundings, type Target, type TargetRow, targetsOf, type What } from '../engine/target.ts'
import type { Report } from '../report/report.ts'
import { eachRow } from './backfill.ts'
import { whatOf } from './rewrap.ts'

/** One field: nobody decrypts a database by leaving an option out. */
export interface DecryptOptions extends What, Pace {
  readonly model: string
  readonly field: string
}

/**
 * Stores the values of a field in plaintext again: the way back. The field must be in state `plaintext`, or running
 * processes would go on encrypting. Values that the old place cannot hold exactly stay encrypted, and readable, and are
 * listed by key; so are values that do not open. Tokens stay.
 *
 * @throws FieldsealError ERR_ARGUMENT_INVALID in another state, ERR_ROWS_REMAIN, with the report, while envelopes remain
 */
export async function decrypt(surroundings: Surroundings, options: DecryptOptions): Promise<Report> {
  const { tenant, model, field, keyspace, ...pace } = options
  if (typeof model !== 'string' || typeof field !== 'string')
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'field', reason: 'name the model and the field' })
  const what = whatOf({ tenant, model, field, keyspace })
  const targets = targetsOf(surroundings, 'decrypt', what)
  for (const target of targets) assertOnItsWay(target)
  const verb: RowVerb = {
    name: 'decrypt',
    converts: true,
    converges: true,
    work: (rows, target) => workOn(surroundings, rows, target),
  }
  return runJob(surroundings, {
    verb,
    what,
    pace,
    pinned: targets.map(({ map }) => fieldOf(map, field)?.plaintextIn ?? null),
    hint: 'running processes may still write envelopes: run it again',
  })
}

function assertOnItsWay({ source, map, what }: Target): void {
  const field = fieldOf(map, what.field ?? '')
  const refuse = (reason: string, hint: string) => {
    throw new FieldsealError('ERR_ARGUMENT_INVALID', { model: map.id, field: field?.id ?? '', reason, hint })
  }
  if (field?.state !== 'plaintext')
    refuse(
      `the field is in state '${field?.state}'`,
      "deploy it with state: 'plaintext' first: all processes must write plaintext",
    )
  if (source.convert === undefined || source.fits === undefined)
    refuse('the source writes no plaintext', 'use a newer version of its package')
}

interface Sealed {
  readonly field: Field
  readonly mapKeys?: readonly string[]
  readonly before: Envelope
  readonly value: unknown
}

async function workOn(
  { host: { cipher } }: Surroundings,
  rows: readonly TargetRow[],
  { source, map, context, what }: Target,
): Promise<readonly RowOutcome[]> {
  const field = fieldOf(map, what.field ?? '') as Field // targetsOf() found it
  const sealed = rows.map(({ row }) => ({
    ...row,
    cells: row.cells.filter(({ value }) => envelopeOf(value) !== undefined),
  }))
  const opened = await eachRow(sealed, (some) => cipher.open(some, { ...context, onUnreadable: 'mark' }))
  const outcomes = rows.map(({ row }) => ({
    cells: row.cells.flatMap(({ value, mapKeys }) => forgotten(field, value, mapKeys)),
    problems: [] as { field: string; code: ErrorCode }[],
  }))
  const values: { readonly at: number; readonly cell: Sealed }[] = []
  const errors = new Map<number, unknown>()
  for (const [at, { cells }] of sealed.entries()) {
    const result = opened[at]
    if (result === undefined || 'error' in result) {
      errors.set(at, result?.error)
      continue
    }
    for (const [column, { mapKeys, value: stored }] of cells.entries()) {
      const value = result.result.values[column]
      if (isUnreadable(value)) outcomes[at]?.problems.push({ field: field.id, code: value.code as ErrorCode })
      else {
        const before = envelopeOf(stored) as Envelope // filtered above
        values.push({ at, cell: { field, ...(mapKeys === undefined ? {} : { mapKeys }), before, value } })
      }
    }
  }
  const asked = values.filter(({ cell: { value } }) => value !== null)
  const fit = await source.fits?.(
    map,
    field,
    asked.map(({ cell: { value } }) => value),
  )
  const fitting = new Set(asked.filter((_, i) => fit?.[i] === true))
  for (const one of values) {
    const { before, value, mapKeys } = one.cell
    const after = value === null ? null : plainCell(field.plaintextIn ?? field.path, value)
    if (value === null || fitting.has(one))
      outcomes[one.at]?.cells.push({ field, ...(mapKeys === undefined ? {} : { mapKeys }), before, after })
    else outcomes[one.at]?.problems.push({ field: field.id, code: 'ERR_VALUE_INVALID' })
  }
  return outcomes.map((outcome, at) => (errors.has(at) ? errorOf(errors.get(at)) : outcome))
}

/** An envelope that newer plaintext stands beside is no value any more. */
function forgotten(field: Field, value: unknown, mapKeys: readonly string[] | undefined): PatchedCell[] {
  if (!isPlainCell(value) || value.outlived === undefined) return []
  const after = plainCell(value.path, value.value, { stored: value.stored })
  return [{ field, ...(mapKeys === undefined ? {} : { mapKeys }), before: value, after }]
}

function envelopeOf(value: unknown): Envelope | undefined {
  if (typeof value === 'string')
    return isEnvelopeText(value) ? (envelopeFromText(value) as Uint8Array as Envelope) : undefined // it parses
  return isEnvelope(value) ? value : undefined
}

function errorOf(error: unknown): RowOutcome {
  return { error: isFieldsealError(error) ? error : new FieldsealError('ERR_DECRYPT_FAILED') }
}
