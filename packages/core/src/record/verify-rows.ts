import { type IndexKeys, type LiveIndexKey, soughtEpoch } from '../blind-index/index-keys.ts'
import { liveTokens } from '../blind-index/live-tokens.ts'
import type { IndexToken } from '../blind-index/token.ts'
import type { ErrorCode } from '../errors/codes.ts'
import { type FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import { built } from './blind-index-of-model.ts'
import { openBatch, type OpenDeps } from './open-batch.ts'
import type { BlindIndex, OpenedRow, Row } from './ports.ts'
import { occurrencesOf } from './seal-batch.ts'
import { plainValueOf } from './parse-row.ts'
import { isUnreadable } from './unreadable.ts'

/** A stored row to verify, with its tokens where they were read. */
export interface RowToVerify {
  readonly row: Row<unknown>
  readonly tokens?: ReadonlyMap<BlindIndex, readonly (readonly IndexToken[])[]> | undefined
}

export interface VerifiedRow {
  /** Values that opened where they stand, and tokens that belong to them. */
  readonly values: number
  readonly tokens: number
  /** What did not, by field or index id. */
  readonly problems: readonly { readonly field: string; readonly code: ErrorCode }[]
  /** Values whose DEK is not wrapped as it would be now. */
  readonly outdated: number
}

export interface VerifyDeps extends OpenDeps {
  readonly indexKeys: IndexKeys
}

/**
 * Opens every value of rows and computes every token anew. Nothing of a value leaves this function.
 * @throws FieldsealError kind `unavailable` when keys cannot be asked for: that says nothing about a row
 */
export async function verifyRows(
  rows: readonly RowToVerify[],
  context: OperationContext,
  deps: VerifyDeps,
): Promise<readonly VerifiedRow[]> {
  const opened = await openEach(rows, { ...context, onUnreadable: 'mark' }, deps)
  const keys = new Map<string, Promise<readonly LiveIndexKey[] | ErrorCode>>()
  const release: (() => void)[] = []
  try {
    const verified: VerifiedRow[] = []
    for (const [i, { row, tokens }] of rows.entries()) {
      const found = opened[i]
      if (found === undefined || 'code' in found) {
        const code = found?.code ?? 'ERR_DECRYPT_FAILED'
        verified.push({ values: 0, tokens: 0, outdated: 0, problems: [{ field: '*', code }] })
        continue
      }
      const problems: { field: string; code: ErrorCode }[] = []
      let values = 0
      for (const [column, value] of found.values.entries()) {
        if (isUnreadable(value)) problems.push({ field: row.cells[column]?.field.id ?? '', code: value.code })
        else if (value !== null || row.cells[column]?.value !== null) values++
      }
      const checked =
        tokens === undefined
          ? { ok: 0, problems: [] }
          : await checkTokens(row, found.values, tokens, (index) => liveKeys(row, index, keys, release, deps))
      verified.push({
        values,
        tokens: checked.ok,
        outdated: found.outdated.length,
        problems: [...problems, ...checked.problems],
      })
    }
    return verified
  } finally {
    for (const one of release) one()
  }
}

/** All rows at once; one by one where a row breaks the batch. */
export async function openEach(
  rows: readonly RowToVerify[],
  context: OperationContext,
  deps: VerifyDeps,
): Promise<readonly (OpenedRow | { readonly code: ErrorCode })[]> {
  try {
    return await openBatch(
      rows.map(({ row }) => row),
      context,
      undefined,
      deps,
    )
  } catch (error) {
    if (!isOfRow(error)) throw error
  }
  const opened: (OpenedRow | { readonly code: ErrorCode })[] = []
  for (const { row } of rows) {
    try {
      opened.push(...(await openBatch([row], context, undefined, deps)))
    } catch (error) {
      if (!isOfRow(error)) throw error
      opened.push({ code: error.code })
    }
  }
  return opened
}

/** A key that was zeroed meanwhile says nothing about a row, nor does one that could not be asked for. */
function isOfRow(error: unknown): error is FieldsealError {
  return isFieldsealError(error) && error.kind !== 'unavailable' && error.code !== 'ERR_CLOSED'
}

async function liveKeys(
  row: Row<unknown>,
  index: BlindIndex,
  keys: Map<string, Promise<readonly LiveIndexKey[] | ErrorCode>>,
  release: (() => void)[],
  { indexKeys }: VerifyDeps,
): Promise<readonly LiveIndexKey[] | ErrorCode> {
  const name = `${row.facts.tenant}\0${index.model}\0${index.id}`
  let live = keys.get(name)
  if (live === undefined) {
    live = indexKeys.live(row.facts.tenant, built.index(index).description, 'read').then(
      (found) => {
        release.push(...found.map(({ kek }) => kek.hold()))
        return found
      },
      (error: unknown) => {
        if (!isOfRow(error)) throw error
        return error.code
      },
    )
    keys.set(name, live)
  }
  return live
}

async function checkTokens(
  { map, cells }: Row<unknown>,
  values: readonly unknown[],
  stored: ReadonlyMap<BlindIndex, readonly (readonly IndexToken[])[]>,
  keysOf: (index: BlindIndex) => Promise<readonly LiveIndexKey[] | ErrorCode>,
): Promise<{ readonly ok: number; readonly problems: readonly { field: string; code: ErrorCode }[] }> {
  const opened = cells.map((cell, i) => ({ ...cell, value: values[i] }))
  const problems: { field: string; code: ErrorCode }[] = []
  let ok = 0
  for (const index of map.indexes) {
    const occurrences = occurrencesOf(index, opened)
    if (occurrences === undefined) {
      // A document without one of the fields has no token of them together.
      const isStale = index.fields.length > 1 && (stored.get(index) ?? []).some((tokens) => tokens.length > 0)
      if (isStale) problems.push({ field: index.id, code: 'ERR_TOKEN_MISMATCH' })
      continue
    }
    if (occurrences.some((parts) => parts.some(isUnreadable))) continue // told of with the value
    const live = await keysOf(index)
    if (typeof live === 'string') {
      problems.push({ field: index.id, code: live })
      continue
    }
    const found = stored.get(index) ?? []
    const first = cells.filter(({ field }) => field === index.fields[0])
    for (const [i, parts] of occurrences.entries()) {
      // Beside plaintext tokens may be missing, and no look-up trusts them.
      if (index.fields.length === 1 && first[i] && plainValueOf(first[i].field, first[i].value)) continue
      const agreeing = agree(live, parts, found[i] ?? [])
      if (agreeing === undefined) problems.push({ field: index.id, code: 'ERR_TOKEN_MISMATCH' })
      else ok += agreeing
    }
  }
  return { ok, problems }
}

/**
 * How many stored tokens belong to a value; undefined when one does not, or the one that look-ups ask for is missing. While
 * an index moves, the other epoch may be missing, and tokens of epochs that are no longer live wait for being cleared.
 */
function agree(
  live: readonly LiveIndexKey[],
  values: readonly unknown[],
  stored: readonly IndexToken[],
): number | undefined {
  const sought = soughtEpoch(live)?.epoch
  const expected = tokensIfAny(live, values)
  let agreeing = 0
  for (const { epoch } of live) {
    const found = stored.filter(([first]) => first === epoch)
    const of = expected.find(([first]) => first === epoch)
    if (found.length === 0 && (of === undefined || epoch !== sought)) continue
    const [one] = found
    if (of === undefined || one === undefined || found.length > 1 || Buffer.compare(one, of) !== 0) return undefined
    agreeing++
  }
  return agreeing
}

/** Tokens of all live epochs that can hold the value. */
function tokensIfAny(live: readonly LiveIndexKey[], values: readonly unknown[]): readonly IndexToken[] {
  return live.flatMap((one) => {
    try {
      return liveTokens([one], values)
    } catch (error) {
      if (isFieldsealError(error) && error.code === 'ERR_VALUE_INVALID') return []
      throw error
    }
  })
}
