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
import type { BlindIndex, Cell, Envelope, IndexToken, PatchedCell, Row } from './ports.ts'
import { openEach, type RowToVerify, type VerifyDeps } from './verify-rows.ts'
import { isUnreadable } from './unreadable.ts'

/** Cells that are to have other tokens beside them, their envelopes as they are; or why the row cannot have its tokens. */
export type TokenedRow = { readonly cells: readonly PatchedCell[] } | { readonly error: unknown }

/** An encrypted cell of an index, and the tokens that stand beside it. */
interface Indexed {
  readonly index: BlindIndex
  readonly column: number
  readonly cell: Cell<unknown>
  readonly stored: readonly IndexToken[]
  readonly live: readonly LiveIndexKey[]
}

/**
 * Gives stored rows the tokens of all live epochs of their indexes, and no others. Opens only rows that lack one: tokens of
 * epochs that are no longer live are dropped without a key.
 */
export async function tokenRows(
  rows: readonly RowToVerify[],
  context: OperationContext,
  deps: VerifyDeps,
): Promise<readonly TokenedRow[]> {
  const keys = liveKeysOf(deps.indexKeys)
  try {
    const wanted: (readonly Indexed[] | { readonly error: unknown })[] = []
    for (const row of rows) wanted.push(await indexedCells(row, keys.of))
    const lacking = rows.flatMap((row, at) => {
      const cells = wanted[at]
      return Array.isArray(cells) && cells.some(lacksToken) ? [{ at, row }] : []
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
        return { cells: cells.flatMap((one) => patchOf(one, values.get(at))) }
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
  try {
    for (const index of row.map.indexes) {
      const [field] = index.fields
      const stored = tokens?.get(index)
      let nth = 0
      for (const [column, cell] of row.cells.entries()) {
        if (cell.field !== field) continue
        const beside = stored?.[nth++] ?? []
        found.push({ index, column, cell, stored: beside, live: await keysOf(row.facts.tenant, index) })
      }
    }
    return found
  } catch (error) {
    if (isFieldsealError(error) && error.kind === 'unavailable') throw error
    return { error }
  }
}

function lacksToken({ cell, live, stored }: Indexed): boolean {
  return cell.value !== null && cell.value !== undefined && live.some(({ epoch }) => !hasEpoch(stored, epoch))
}

function patchOf(one: Indexed, valueOf: ((column: number) => unknown) | undefined): PatchedCell[] {
  const { cell, column, live, stored } = one
  const { field, mapKeys } = cell
  const mapped = mapKeys === undefined ? {} : { mapKeys }
  if (lacksToken(one)) {
    if (valueOf === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED', { model: field.model, field: field.id })
    const value = valueOf(column) // throws for what did not open
    const before = envelopeOf(cell)
    return [{ field, ...mapped, before, after: before, tokens: liveTokens(live, [value]) }]
  }
  const isNull = cell.value === null || cell.value === undefined
  const kept = isNull ? [] : stored.filter(([epoch]) => live.some((key) => key.epoch === epoch))
  if (kept.length === stored.length) return []
  const before = isNull ? null : envelopeOf(cell)
  return [{ field, ...mapped, before, after: before, tokens: kept }]
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
        digests: one.row.cells.flatMap((_, column) => {
          const parts = shape.parts([valueOf(column)])
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
