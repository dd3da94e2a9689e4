import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import {
  type BlindIndex,
  digestRows,
  type DigestedRow,
  type ErrorCode,
  type Fieldseal,
  isFieldsealError,
} from '@fieldseal/core/adapter'
import { createRateLimit, type Pace } from '../engine/pace.ts'
import { keyText, rowOf, type Target, type TargetRow } from '../engine/target.ts'
import type { RowFailure } from '../report/report.ts'

/** What stands in the way of a new shape, in one model. */
export interface Scan {
  readonly rows: number
  /** Rows that another row is made equal to, and rows whose value the new shape cannot hold. */
  readonly found: number
  /** The first of them, by key. */
  readonly failures: readonly RowFailure[]
}

const MAX_FAILURES = 100

/**
 * Lists rows that the newest shape of an index would make equal, where it is unique, and rows that it cannot hold. Holds
 * eight bytes for each row in memory: digests under a key that is forgotten afterwards.
 */
export async function scan(
  fieldseal: Fieldseal<never> | Fieldseal,
  target: Target,
  indexes: readonly BlindIndex[],
  pace: Pace & { readonly batchSize: number },
): Promise<Scan> {
  const key = createSecretKey(randomBytes(32))
  const failures: RowFailure[] = []
  let found = 0
  let rows = 0
  const note = (failure: RowFailure) => {
    found++
    if (failures.length < MAX_FAILURES) failures.push(failure)
  }
  for (const index of indexes) {
    const short = new ShortDigests()
    rows = 0
    await eachRow(fieldseal, target, { index, key }, pace, (row, outcome, seen) => {
      rows = seen
      if ('digests' in outcome) for (const digest of distinct(row, index, outcome.digests)) short.add(digest)
      else if (!isOutOfReach(outcome.error)) note({ ...named(target, row, index), code: codeOf(outcome.error) })
    })
    if (!index.unique) continue
    const suspects = short.repeated()
    if (suspects.size === 0) continue
    const groups = new Map<string, TargetRow[]>()
    await eachRow(fieldseal, target, { index, key }, pace, (row, outcome) => {
      if (!('digests' in outcome)) return
      for (const digest of distinct(row, index, outcome.digests)) {
        if (!suspects.has(digest.readBigUInt64BE())) continue
        const name = digest.toString('latin1')
        groups.set(name, [...(groups.get(name) ?? []), row])
      }
    })
    for (const group of groups.values()) {
      if (group.length < 2) continue
      for (const row of group) note({ ...named(target, row, index), code: 'ERR_INDEX_COLLISION' })
    }
  }
  return { rows, found, failures }
}

/** What may be in the way of other rows: elements of one document may be equal to each other. */
function distinct(
  { stored: { outside } }: TargetRow,
  index: BlindIndex,
  digests: readonly Buffer[],
): readonly Buffer[] {
  if (outside?.has(index) === true) return []
  const known = new Set<string>()
  return digests.filter((digest) => known.size < known.add(digest.toString('latin1')).size)
}

async function eachRow(
  fieldseal: Fieldseal<never> | Fieldseal,
  target: Target,
  asked: { readonly index: BlindIndex; readonly key: KeyObject },
  pace: Pace & { readonly batchSize: number },
  visit: (row: TargetRow, outcome: DigestedRow, seen: number) => void,
): Promise<void> {
  const { source, map, what, context } = target
  const limit = createRateLimit(pace.rowsPerSecond, pace.signal)
  const startedAt = performance.now()
  const total = pace.onProgress === undefined ? undefined : (await source.count(map, 'all')).rows
  const options = { size: pace.batchSize, ...(what.tenant === undefined ? {} : { tenant: what.tenant }) }
  let seen = 0
  for await (const page of source.pages(map, options)) {
    await limit.take(page.length)
    const rows = page.flatMap((stored): TargetRow[] => {
      const row = rowOf(target, stored)
      return row === undefined ? [] : [{ stored, row }]
    })
    const outcomes = await digestRows(
      fieldseal,
      rows.map(({ row }) => row),
      context,
      asked,
    )
    seen += rows.length
    for (const [i, row] of rows.entries()) visit(row, outcomes[i] as DigestedRow, seen) // in the order of the rows
    const rowsPerSecond = Math.round((seen / Math.max(1, performance.now() - startedAt)) * 1_000)
    pace.onProgress?.({
      verb: 'reindex-scan',
      model: map.id,
      pass: 1,
      rows: seen,
      total,
      updated: 0,
      rowsPerSecond,
      etaMs:
        total === undefined ? undefined : Math.round((Math.max(0, total - seen) / Math.max(1, rowsPerSecond)) * 1_000),
    })
  }
}

function named(target: Target, { stored, row }: TargetRow, index: BlindIndex): Omit<RowFailure, 'code'> {
  return { key: keyText(target, stored), tenant: row.facts.tenant, field: index.id }
}

/** @throws what says nothing about the row */
function codeOf(error: unknown): ErrorCode {
  if (!isFieldsealError(error) || error.kind === 'unavailable') throw error
  return error.code
}

/** Rows whose keys are denied or destroyed are not for this scan: their tenants stay as they are, or the walk rejects. */
function isOutOfReach(error: unknown): boolean {
  return isFieldsealError(error) && (error.kind === 'erased' || error.kind === 'denied')
}

/** The first eight bytes of many digests. */
class ShortDigests {
  #values = new BigUint64Array(1_024)
  #length = 0

  add(digest: Buffer): void {
    if (this.#length === this.#values.length) {
      const grown = new BigUint64Array(2 * this.#length)
      grown.set(this.#values)
      this.#values = grown
    }
    this.#values[this.#length++] = digest.readBigUInt64BE()
  }

  /** Those that were added more than once. */
  repeated(): ReadonlySet<bigint> {
    const sorted = this.#values.subarray(0, this.#length).sort()
    const repeated = new Set<bigint>()
    for (let i = 1; i < sorted.length; i++) {
      const one = sorted[i]
      if (one !== undefined && one === sorted[i - 1]) repeated.add(one)
    }
    return repeated
  }
}
