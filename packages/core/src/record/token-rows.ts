import { type KeyObject } from 'node:crypto'
import { lp } from '../bytes/lp.ts'
import { hmac } from '../cipher/hkdf.ts'
import type { IndexKeys, LiveIndexKey } from '../blind-index/index-keys.ts'
import { newestShape } from '../blind-index/index-shape.ts'
import { liveTokens } from '../blind-index/live-tokens.ts'
import { isEnvelope } from '../envelope/parse.ts'
import { envelopeFromText } from '../envelope/text-form.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import { built } from './blind-index-of-model.ts'
import type { BlindIndex, Cell, Envelope, Field, IndexToken, PatchedCell, Row, RowPatch } from './ports.ts'
import { occurrencesOf } from './seal-batch.ts'
import { openEach, type RowToVerify, type VerifyDeps } from './verify-rows.ts'
import { isUnreadable } from './unreadable.ts'

/** Cells and indexes that are to have other tokens, the envelopes as they are; or why the row cannot have its tokens. */
export type TokenedRow = Pick<RowPatch<PatchedCell>, 'cells' | 'tokens'> | { readonly error: unknown }

/** One occurrence of an index: the cells of its fields, and the tokens that are stored of them. */
interface Indexed {
  readonly index: BlindIndex
  /** Places of the cells in the row, in the order of the index's fields. */
  readonly columns: readonly number[]
  readonly cells: readonly Cell<unknown>[]
  readonly stored: readonly IndexToken[]
  readonly live: readonly LiveIndexKey[]
}

/**
 * Gives stored rows the tokens of all live epochs of their indexes, and no others. Opens only rows that lack one: tokens of
 * epochs that are no longer live are dropped without a key, and so are those of several fields in a row that lacks one of them.
 *
 * @param compares opens all rows, and replaces tokens of other values: a build that does not know an index leaves them
 * behind. A row that does not open keeps the ones it has
 */
export async function tokenRows(
  rows: readonly RowToVerify[],
  context: OperationContext,
  deps: VerifyDeps,
  compares = false,
): Promise<readonly TokenedRow[]> {
  const keys = liveKeysOf(deps.indexKeys)
  try {
    const wanted: (readonly Indexed[] | { readonly error: unknown })[] = []
    for (const row of rows) wanted.push(await indexedCells(row, keys.of))
    const lacking = rows.flatMap((row, at) => {
      const cells = wanted[at]
      const isNeeded = (one: Indexed) => lacksToken(one) || (compares && isComparable(one))
      return Array.isArray(cells) && cells.some(isNeeded) ? [{ at, row }] : []
    })
    const opened = await openEach(
      lacking.map(({ row }) => row),
      { ...context, onUnreadable: 'mark' },
      deps,
    )
    const values = new Map(lacking.map(({ at, row }, i) => [at, valuesOf(row, opened[i])]))
    return wanted.map((cells, at) => {
      if ('error' in cells) return cells
      try {
        return patchOf(cells, values.get(at), compares)
      } catch (error) {
        return { error }
      }
    })
  } finally {
    keys.release()
  }
}

/** Values of a row that opened; what did not is an error where it is needed. */
function valuesOf(
  { row }: RowToVerify,
  opened: Awaited<ReturnType<typeof openEach>>[number] | undefined,
): (column: number) => unknown {
  return (column) => {
    const details = { model: row.map.id, tenant: row.facts.tenant }
    if (opened === undefined || 'code' in opened)
      throw new FieldsealError(opened?.code ?? 'ERR_DECRYPT_FAILED', details)
    const value = opened.values[column]
    const field = row.cells[column]?.field.id ?? ''
    if (isUnreadable(value)) throw new FieldsealError(value.code, { ...details, field })
    return value
  }
}

async function indexedCells(
  { row, tokens }: RowToVerify,
  keysOf: (tenant: string, index: BlindIndex) => Promise<readonly LiveIndexKey[]>,
): Promise<readonly Indexed[] | { readonly error: unknown }> {
  const found: Indexed[] = []
  const absent = new Map<Field, Cell<null>>()
  try {
    for (const index of row.map.indexes) {
      const occurrences = columnsOf(index, row.cells)
      const left = occurrences.length === 0 ? (tokens?.get(index) ?? []).flat() : []
      if (index.fields.length > 1 && left.length > 0)
        found.push({ index, columns: [], cells: unpaired(index, row, absent), stored: left, live: [] })
      for (const [nth, columns] of occurrences.entries()) {
        const stored = tokens?.get(index)?.[nth] ?? []
        const cells = columns.flatMap((column) => row.cells[column] ?? [])
        found.push({ index, columns, cells, stored, live: await keysOf(row.facts.tenant, index) })
      }
    }
    return found
  } catch (error) {
    if (isFieldsealError(error) && error.kind === 'unavailable') throw error
    return { error }
  }
}

/** Where the cells of an index stand in a row, one list per occurrence; none where the row does not have all of them. */
function columnsOf(index: BlindIndex, cells: readonly Cell<unknown>[]): readonly (readonly number[])[] {
  const places = cells.map((cell, column) => ({ ...cell, value: column }))
  return (occurrencesOf(index, places) ?? []) as readonly (readonly number[])[] // of the values given here
}

/** Why a row has no token of several fields: those that it lacks, as null, or has more than once. */
function unpaired(
  { fields }: BlindIndex,
  { cells }: Row<unknown>,
  absent: Map<Field, Cell<null>>,
): readonly Cell<unknown>[] {
  return fields.flatMap((field) => {
    const own = cells.filter((cell) => cell.field === field)
    if (own.length > 0) return own.length === 1 ? [] : own
    const nothing = absent.get(field) ?? { field, value: null }
    absent.set(field, nothing) // one for all indexes
    return [nothing]
  })
}

function isNull({ cells }: Indexed): boolean {
  return cells.some(({ value }) => value === null || value === undefined)
}

function lacksToken(one: Indexed): boolean {
  return !isNull(one) && one.live.some(({ epoch }) => !hasEpoch(one.stored, epoch))
}

function patchOf(
  indexed: readonly Indexed[],
  valueOf: ((column: number) => unknown) | undefined,
  compares: boolean,
): Pick<RowPatch<PatchedCell>, 'cells' | 'tokens'> {
  const cells = new Map<Cell<unknown>, PatchedCell>()
  const compound = new Map<BlindIndex, readonly IndexToken[]>()
  for (const one of indexed) {
    const tokens = tokensFor(one, valueOf) ?? (compares ? replacementsFor(one, valueOf) : undefined)
    if (tokens === undefined) continue
    const isCompound = one.index.fields.length > 1
    if (isCompound) compound.set(one.index, tokens)
    // What the tokens are of must be stored still when they are written.
    for (const cell of one.cells) {
      const before = cell.value === null || cell.value === undefined ? null : envelopeOf(cell)
      const { field, mapKeys } = cell
      const same = { field, ...(mapKeys === undefined ? {} : { mapKeys }), before, after: before }
      cells.set(cell, { ...same, ...cells.get(cell), ...(isCompound ? {} : { tokens }) })
    }
  }
  return { cells: [...cells.values()], ...(compound.size === 0 ? {} : { tokens: compound }) }
}

/** What should be stored; undefined where it is. */
function tokensFor(
  one: Indexed,
  valueOf: ((column: number) => unknown) | undefined,
): readonly IndexToken[] | undefined {
  const { index, columns, live, stored } = one
  if (lacksToken(one)) {
    if (valueOf === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED', { model: index.model, field: index.id })
    return liveTokens(live, columns.map(valueOf)) // valueOf throws for what did not open
  }
  const kept = isNull(one) ? [] : stored.filter(([epoch]) => live.some((key) => key.epoch === epoch))
  return kept.length === stored.length ? undefined : kept
}

/** The right tokens where those of other values are stored. */
function replacementsFor(
  one: Indexed,
  valueOf: ((column: number) => unknown) | undefined,
): readonly IndexToken[] | undefined {
  if (valueOf === undefined || !isComparable(one)) return undefined
  let values: readonly unknown[]
  try {
    values = one.columns.map(valueOf)
  } catch (error) {
    if (isFieldsealError(error)) return undefined // `verify` tells of it
    throw error
  }
  const right = liveTokens(one.live, values)
  const isStored = (token: IndexToken) => one.stored.some((other) => Buffer.compare(other, token) === 0)
  return right.every(isStored) ? undefined : right
}

/** Whether the tokens of an index must be those of the values beside them: next to plaintext they may be older. */
function isComparable(one: Indexed): boolean {
  return !isNull(one) && one.index.fields.every(({ state }) => state === 'encrypted')
}

function hasEpoch(tokens: readonly IndexToken[], epoch: number): boolean {
  return tokens.some(([first]) => first === epoch)
}

/** @throws FieldsealError ERR_PLAINTEXT_FOUND */
function envelopeOf({ field, value }: Cell<unknown>): Envelope {
  const bytes = typeof value === 'string' ? envelopeFromText(value) : value
  if (isEnvelope(bytes)) return bytes
  throw new FieldsealError('ERR_PLAINTEXT_FOUND', { model: field.model, field: field.id })
}

/** Live keys, each looked for once and held until the batch is done. */
function liveKeysOf(indexKeys: IndexKeys) {
  const keys = new Map<BlindIndex, Map<string, Promise<readonly LiveIndexKey[]>>>()
  const release: (() => void)[] = []
  return {
    of(tenant: string, index: BlindIndex): Promise<readonly LiveIndexKey[]> {
      const tenants = keys.get(index) ?? new Map<string, Promise<readonly LiveIndexKey[]>>()
      keys.set(index, tenants)
      const live =
        tenants.get(tenant) ??
        indexKeys.live(tenant, built.index(index).description, 'write').then((found) => {
          release.push(...found.map(({ kek }) => kek.hold()))
          return found
        })
      tenants.set(tenant, live)
      return live
    },
    release() {
      for (const one of release) one()
    },
  }
}

/** What a row would have in the newest shape: one digest per occurrence that is not null; or why it cannot. */
export type DigestedRow = { readonly digests: readonly Buffer[] } | { readonly error: unknown }

/**
 * Tells which rows the newest shape of an index makes equal, without making its tokens: digests are equal exactly where the
 * tokens of two rows would be in each other's way. `key` should be random and forgotten afterwards.
 *
 * @returns 32 bytes for each value
 */
export async function digestRows(
  rows: readonly Row<unknown>[],
  context: OperationContext,
  { index, key }: { readonly index: BlindIndex; readonly key: KeyObject },
  deps: VerifyDeps,
): Promise<readonly DigestedRow[]> {
  const shape = newestShape(built.index(index).description)
  const asked = rows.map((row) => ({
    row: { ...row, cells: row.cells.filter(({ field }) => index.fields.includes(field)) },
  }))
  const opened = await openEach(asked, { ...context, onUnreadable: 'mark' }, deps)
  return asked.map((one, at) => {
    const scope = index.acrossTenants ? '' : one.row.facts.tenant
    const valueOf = valuesOf(one, opened[at])
    try {
      return {
        digests: columnsOf(index, one.row.cells).flatMap((columns) => {
          const parts = shape.parts(columns.map(valueOf))
          return parts === null
            ? []
            : [hmac(key, lp(scope, ...parts.map(({ tag, bytes }) => lp(Uint8Array.of(tag), bytes))))]
        }),
      }
    } catch (error) {
      return { error }
    }
  })
}
