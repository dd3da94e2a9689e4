import {
  type BlindIndex,
  type Cell,
  type ErrorCode,
  FieldsealError,
  type Field,
  type IndexToken,
  isEnvelopeText,
  isFieldsealError,
  isPlainCell,
  isUnreadable,
  type OperationContext,
  type PatchedCell,
  plainCell,
  type PlainCell,
  type Row,
  type SealedRow,
} from '@fieldseal/core/adapter'
import type { RowOutcome, RowVerb } from '../engine/batch.ts'
import type { Pace } from '../engine/pace.ts'
import { runJob } from '../engine/run-job.ts'
import { fieldOf, type Surroundings, type Target, type TargetRow, targetsOf, type What } from '../engine/target.ts'
import type { Report } from '../report/report.ts'
import { whatOf } from './rewrap.ts'

/** A cell on its way: where it stands among the cells of its row, and among those of its field. */
interface PlainValue {
  readonly cell: Cell<unknown>
  readonly before: PlainCell | null
  readonly value: unknown
  /** Place among the cells of the field: its tokens stand at the same place. */
  readonly nth: number
}

/**
 * Encrypts what is stored in plaintext of fields in state `migrating`, and gives values of fields in state `plaintext`
 * their tokens. Before a field leaves `plaintext`, texts that look like envelopes and are none are listed by key: they
 * would be unreadable. Once a field is `encrypted`, plaintext is not encrypted any more: who wrote it is not known.
 *
 * @throws FieldsealError ERR_ROWS_REMAIN, with the report, while plaintext or values without tokens remain
 */
export async function backfill(surroundings: Surroundings, options: What & Pace = {}): Promise<Report> {
  const { tenant, model, field, keyspace, ...pace } = options
  const what = whatOf({ tenant, model, field, keyspace })
  const targets = targetsOf(surroundings, 'backfill', what)
  const fields = targets.flatMap(({ map }) => chosenFields(map.fields, what, map.id))
  if (fields.length === 0)
    throw new FieldsealError('ERR_ARGUMENT_INVALID', {
      field: 'field',
      reason: 'no field is on its way from plaintext',
      hint: "annotate it with state: 'plaintext' or 'migrating', or name it to count what remains",
    })
  const onlyTokens = fields.every(({ state }) => state === 'plaintext')
  const verb: RowVerb = {
    name: onlyTokens ? 'backfill-tokens' : 'backfill',
    tokens: true,
    converts: true,
    converges: true,
    work: (rows, target) => workOn(surroundings, rows, target),
    remaining: (target) => plaintextOf(target, pace),
  }
  return runJob(surroundings, {
    verb,
    what,
    pace,
    pinned: fields.map(({ model: of, id, state, plaintextIn }) => [of, id, state, plaintextIn ?? null]),
    hint: fields.some(({ state }) => state === 'encrypted')
      ? "plaintext stands where only envelopes may: find out who wrote it; deploy state 'migrating' again to encrypt it"
      : 'running processes may still write plaintext: run it again',
  })
}

/** The field that is named, else all that are not encrypted yet. */
function chosenFields(fields: readonly Field[], what: What, model: string): readonly Field[] {
  if (what.field === undefined) return fields.filter(({ state }) => state !== 'encrypted')
  return fields.filter((one) => one.model === model && (one.path === what.field || one.id === what.field))
}

/** Rows with plaintext, where the source can count them and every one of them is meant. */
async function plaintextOf({ source, map, what }: Target, { shard }: Pace): Promise<number | undefined> {
  const fields = chosenFields(map.fields, what, map.id)
  const allRows = what.tenant === undefined && what.keyspace === undefined && shard === undefined
  if (source.countPlaintext === undefined || !allRows || fields.some(({ state }) => state === 'plaintext'))
    return undefined
  let values = 0
  for (const field of fields) values += await source.countPlaintext(map, field)
  // Values of several fields may stand in one row: then a walk counts the rows.
  return values === 0 || fields.length === 1 ? values : undefined
}

async function workOn(
  { host: { cipher } }: Surroundings,
  rows: readonly TargetRow[],
  target: Target,
): Promise<readonly RowOutcome[]> {
  const { context, what } = target
  const outcomes = rows.map(({ row }) => ({ problems: strictProblems(row, what), cells: [] as PatchedCell[] }))
  const errors = new Map<number, unknown>()
  const found = rows.map(({ row }) => plainValues(row))
  const cut = await cutValues(target, found.flat())
  const parts = found.map((values) => values.filter((one) => !cut.has(one)))
  for (const [at, values] of found.entries())
    for (const one of values)
      if (cut.has(one)) outcomes[at]?.problems.push({ field: one.cell.field.id, code: 'ERR_VALUE_INVALID' })

  const inState = (state: Field['state']) =>
    parts.flatMap((values, at) => {
      const own = values.filter(({ cell: { field } }) => field.state === state)
      return own.length === 0 ? [] : [{ at, values: own }]
    })
  const rowWith = (at: number, values: readonly PlainValue[]): Row<unknown> => ({
    ...(rows[at] as TargetRow).row, // one of them
    cells: values.map(({ cell, value }) => ({ ...cell, value })),
  })

  const toSeal = inState('migrating').map(({ at, values }) => ({
    at,
    values: values.filter(({ cell: { field }, value }) => value !== null || field.encryptNull),
  }))
  const sealable = toSeal.filter(({ values }) => values.length > 0)
  const sealed = await eachRow(
    sealable.map(({ at, values }) => rowWith(at, values)),
    (some) => cipher.seal(some, context),
  )
  for (const [i, { at, values }] of sealable.entries()) {
    const result = sealed[i]
    if (result === undefined || 'error' in result) errors.set(at, result?.error)
    else outcomes[at]?.cells.push(...encryptedCells(values, result.result, (rows[at] as TargetRow).stored.tokens))
  }

  for (const { at, values } of inState('migrating'))
    outcomes[at]?.cells.push(...withoutTokens(values, (rows[at] as TargetRow).stored.tokens))

  const toIndex = inState('plaintext').map(({ at, values }) => ({
    at,
    values: values.filter(({ cell: { field } }) => field.blindIndex !== undefined),
  }))
  const indexable = toIndex.filter(({ values }) => values.length > 0)
  const indexed = await eachRow(
    indexable.map(({ at, values }) => rowWith(at, values)),
    (some) => cipher.index(some, context),
  )
  for (const [i, { at, values }] of indexable.entries()) {
    const result = indexed[i]
    if (result === undefined || 'error' in result) errors.set(at, result?.error)
    else {
      const { cells, problems } = tokenedCells(values, result.result, (rows[at] as TargetRow).stored.tokens)
      outcomes[at]?.cells.push(...cells)
      outcomes[at]?.problems.push(...problems)
    }
  }

  const lookAlikes = await unreadableTexts(rows, context, (some, marking) => cipher.open(some, marking))
  for (const [at, problems] of lookAlikes) outcomes[at]?.problems.push(...problems)
  return outcomes.map((outcome, at) => (errors.has(at) ? { error: errors.get(at) } : outcome))
}

/** Plaintext of fields that are encrypted by now. */
function strictProblems({ map, cells }: Row<unknown>, what: What): { field: string; code: ErrorCode }[] {
  const named = what.field === undefined ? undefined : fieldOf(map, what.field)
  return cells.flatMap(({ field, value }) => {
    if (field !== named || field.state !== 'encrypted') return []
    const isPlain = isPlainCell(value) || (typeof value === 'string' && !isEnvelopeText(value))
    return isPlain ? [{ field: field.id, code: 'ERR_PLAINTEXT_FOUND' as const }] : []
  })
}

/** The cells of a row that hold plaintext, or nothing, of fields that may. */
function plainValues({ cells }: Row<unknown>): readonly PlainValue[] {
  const counted = new Map<Field, number>()
  return cells.flatMap((cell): readonly PlainValue[] => {
    const { field, value } = cell
    const nth = counted.get(field) ?? 0
    counted.set(field, nth + 1)
    if (field.state === 'encrypted') return []
    if (value === null || value === undefined) return [{ cell, before: null, value: null, nth }]
    if (isPlainCell(value)) return [{ cell, before: value, value: value.value, nth }]
    if (typeof value !== 'string' || field.plaintextIn !== undefined || isEnvelopeText(value)) return []
    return [{ cell, before: plainCell(field.path, value), value, nth }]
  })
}

/** Values that lack something of what is stored: encrypting them would lose it. */
async function cutValues({ source, map }: Target, values: readonly PlainValue[]): Promise<ReadonlySet<PlainValue>> {
  const cut = new Set<PlainValue>()
  if (source.isWhole === undefined) return cut
  for (const [field, own] of Map.groupBy(values, ({ cell }) => cell.field)) {
    const asked = own.flatMap((one) => (one.before?.stored === undefined ? [] : [{ one, cell: one.before }]))
    if (asked.length === 0) continue
    const whole = await source.isWhole(
      map,
      field,
      asked.map(({ cell }) => cell),
    )
    for (const [i, { one }] of asked.entries()) if (whole[i] !== true) cut.add(one)
  }
  return cut
}

function encryptedCells(
  values: readonly PlainValue[],
  { envelopes, tokens }: SealedRow,
  stored: TargetRow['stored']['tokens'],
): PatchedCell[] {
  const tokensFor = inOrder(tokens)
  return values.map(({ cell: { field, mapKeys }, before, nth }, i) => {
    const expected = tokensFor(field)
    const ofField = expected && isSame(expected, storedTokens(stored, field, nth)) ? undefined : expected
    return {
      field,
      ...(mapKeys === undefined ? {} : { mapKeys }),
      before,
      after: envelopes[i] ?? null,
      ...(ofField === undefined ? {} : { tokens: ofField }),
    }
  })
}

function tokenedCells(
  values: readonly PlainValue[],
  tokens: SealedRow['tokens'],
  stored: TargetRow['stored']['tokens'],
): { readonly cells: PatchedCell[]; readonly problems: { field: string; code: ErrorCode }[] } {
  const tokensFor = inOrder(tokens)
  const cells: PatchedCell[] = []
  const problems: { field: string; code: ErrorCode }[] = []
  for (const { cell, before, value, nth } of values) {
    const { field, mapKeys } = cell
    const expected = tokensFor(field) ?? []
    if (value !== null && expected.length === 0) problems.push({ field: field.id, code: 'ERR_VALUE_INVALID' })
    if (isSame(expected, storedTokens(stored, field, nth))) continue
    cells.push({ field, ...(mapKeys === undefined ? {} : { mapKeys }), before, after: before, tokens: expected })
  }
  return { cells, problems }
}

/** Tokens that stand without a value: a build that knows none took it away. */
function withoutTokens(values: readonly PlainValue[], stored: TargetRow['stored']['tokens']): PatchedCell[] {
  return values.flatMap(({ cell: { field, mapKeys }, value, nth }) =>
    value !== null || field.encryptNull || storedTokens(stored, field, nth).length === 0
      ? []
      : [{ field, ...(mapKeys === undefined ? {} : { mapKeys }), before: null, after: null, tokens: [] }],
  )
}

function storedTokens(
  stored: TargetRow['stored']['tokens'],
  { blindIndex }: Field,
  nth: number,
): readonly IndexToken[] {
  return (blindIndex && stored?.get(blindIndex)?.[nth]) ?? []
}

/** Tokens come as one list per occurrence, in order of the cells. */
function inOrder(tokens: SealedRow['tokens']): (field: Field) => readonly IndexToken[] | undefined {
  const next = new Map<BlindIndex, number>()
  return ({ blindIndex }) => {
    if (blindIndex === undefined) return undefined
    const at = next.get(blindIndex) ?? 0
    next.set(blindIndex, at + 1)
    return tokens.get(blindIndex)?.[at] ?? []
  }
}

function isSame(a: readonly IndexToken[], b: readonly IndexToken[]): boolean {
  return a.length === b.length && a.every((token) => b.some((other) => Buffer.compare(token, other) === 0))
}

type OfRow<R> = { readonly result: R } | { readonly error: unknown }

/** All rows at once; one by one where a row breaks the batch. @throws what says nothing about a row */
export async function eachRow<R>(
  rows: readonly Row<unknown>[],
  run: (rows: readonly Row<unknown>[]) => Promise<readonly R[]>,
): Promise<readonly OfRow<R>[]> {
  if (rows.length === 0) return []
  try {
    return (await run(rows)).map((result) => ({ result }))
  } catch (error) {
    if (!isFieldsealError(error) || error.kind === 'unavailable') throw error
  }
  const results: OfRow<R>[] = []
  for (const row of rows) {
    try {
      const [result] = await run([row])
      results.push({ result: result as R }) // one for each row
    } catch (error) {
      if (!isFieldsealError(error) || error.kind === 'unavailable') throw error
      results.push({ error })
    }
  }
  return results
}

/** Texts that count as envelopes and do not open, where the field's own place held plaintext: values that look like them. */
async function unreadableTexts(
  rows: readonly TargetRow[],
  context: OperationContext,
  open: (
    rows: readonly Row<unknown>[],
    context: OperationContext,
  ) => Promise<readonly { readonly values: readonly unknown[] }[]>,
): Promise<ReadonlyMap<number, readonly { field: string; code: ErrorCode }[]>> {
  const asked = rows.flatMap(({ row }, at) => {
    const cells = row.cells.filter(
      ({ field, value }) =>
        field.state !== 'encrypted' &&
        field.plaintextIn === undefined &&
        typeof value === 'string' &&
        isEnvelopeText(value),
    )
    return cells.length === 0 ? [] : [{ at, row: { ...row, cells } }]
  })
  const opened = await eachRow(
    asked.map(({ row }) => row),
    (some) => open(some, { ...context, onUnreadable: 'mark' }),
  )
  const problems = new Map<number, readonly { field: string; code: ErrorCode }[]>()
  for (const [i, { at, row }] of asked.entries()) {
    const outcome = opened[i]
    if (outcome === undefined) continue
    const codeOf = (value: unknown) => (isUnreadable(value) ? (value.code as ErrorCode) : undefined)
    const codes =
      'error' in outcome
        ? row.cells.map(() => (isFieldsealError(outcome.error) ? outcome.error.code : undefined))
        : outcome.result.values.map(codeOf)
    const own = codes.flatMap((code, column) =>
      code === undefined ? [] : [{ field: row.cells[column]?.field.id ?? '', code }],
    )
    if (own.length > 0) problems.set(at, own)
  }
  return problems
}
