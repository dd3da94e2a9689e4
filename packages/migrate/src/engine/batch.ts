import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Converted,
  type ErrorCode,
  FieldsealError,
  isFieldsealError,
  type PageOptions,
  type PatchedCell,
  type RowPatch,
  type StoredRow,
} from '@fieldseal/core/adapter'
import type { RowFailure } from '../report/report.ts'
import type { Counts } from './checkpoint.ts'
import { keyText, rowOf, type Target, type TargetRow } from './target.ts'

/** What a verb makes of one row: cells to replace, none where it is as it should be; or what is wrong with it. */
export type RowOutcome = {
  readonly cells?: readonly PatchedCell[]
  /** Of indexes over several fields, which are among the cells. */
  readonly tokens?: RowPatch['tokens']
  readonly error?: unknown
  readonly problems?: readonly { readonly field: string; readonly code: ErrorCode }[]
  readonly counts?: Counts
}

/** One verb over rows. Its outcomes come in the order of the rows. */
export interface RowVerb {
  readonly name: string
  readonly tokens?: boolean
  /** Writes plain cells, or tokens, which the source must be able to. @defaultValue false: the same values in other envelopes */
  readonly converts?: boolean
  /** Rows remain in the table that are not counted as failures: walks end only when none is left. */
  readonly converges: boolean
  work(rows: readonly TargetRow[], target: Target): Promise<readonly RowOutcome[]>
  /** Rows that are not yet what the verb makes of them; undefined = known only by another walk. */
  remaining?(target: Target): Promise<number | undefined>
}

export interface BatchResult {
  readonly counts: Counts
  readonly failures: readonly RowFailure[]
}

const ATTEMPTS = 6

/**
 * Works on one page. A row that somebody else changed between reading and writing is read again: the other writer always
 * wins. `start` is the position before the page.
 */
export async function runBatch(
  verb: RowVerb,
  target: Target,
  page: readonly StoredRow[],
  options: PageOptions,
): Promise<BatchResult> {
  const counts: Counts = { rows: page.length }
  const failures: RowFailure[] = []
  let todo: readonly StoredRow[] = page
  for (let attempt = 1; todo.length > 0; attempt++) {
    const changed = await workOn(verb, target, todo, counts, failures)
    if (changed.length === 0) break
    if (attempt === ATTEMPTS) {
      add(counts, 'changed', changed.length)
      break
    }
    // A lock is held for a transaction, not for a moment.
    await sleep(5 * 2 ** attempt)
    const { found, isAll } = await readAgain(target, page, changed, options)
    add(counts, isAll ? 'gone' : 'changed', changed.length - found.length)
    todo = found
  }
  return { counts, failures }
}

/** @returns the rows that somebody else changed */
async function workOn(
  verb: RowVerb,
  target: Target,
  page: readonly StoredRow[],
  counts: Counts,
  failures: RowFailure[],
): Promise<readonly StoredRow[]> {
  const rows: TargetRow[] = []
  for (const stored of page) {
    try {
      const row = rowOf(target, stored)
      if (row === undefined) add(counts, 'others')
      else rows.push({ stored, row })
    } catch (error) {
      fail(error, target, stored, undefined, counts, failures)
    }
  }
  const outcomes = rows.length === 0 ? [] : await verb.work(rows, target)
  const patches: Patched[] = []
  for (const [i, { stored, row }] of rows.entries()) {
    const { cells = [], tokens, error, problems = [], counts: own = {} } = outcomes[i] ?? {}
    for (const [name, count] of Object.entries(own)) add(counts, name, count)
    if (error !== undefined) fail(error, target, stored, row.facts.tenant, counts, failures)
    else if (problems.length > 0) tell(problems, target, stored, row.facts.tenant, counts, failures)
    else if (cells.length > 0)
      patches.push({
        patch: { key: stored.key, cells, ...(tokens === undefined ? {} : { tokens }) },
        stored,
        tenant: row.facts.tenant,
      })
    else add(counts, 'unchanged')
  }
  if (patches.length === 0) return []
  const results = await write(verb, target, patches)
  const changed: StoredRow[] = []
  for (const [i, { stored, tenant }] of patches.entries()) {
    const result = results[i] ?? 'changed'
    if (result === 'changed') changed.push(stored)
    else if (result === 'updated') add(counts, 'updated')
    else tell([{ field: '*', code: 'ERR_INDEX_COLLISION' }], target, stored, tenant, counts, failures)
  }
  return changed
}

interface Patched {
  readonly patch: RowPatch<PatchedCell>
  readonly stored: StoredRow
  readonly tenant: string
}
async function write(
  verb: RowVerb,
  { source, map }: Target,
  patches: readonly Patched[],
): Promise<readonly Converted[]> {
  const all = patches.map(({ patch }) => patch)
  if (verb.converts !== true) return source.compareAndSet(map, all as readonly RowPatch[]) // what a verb that converts nothing makes
  if (source.convert !== undefined) return source.convert(map, all)
  throw new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'sources', reason: 'the source writes no tokens' })
}

function tell(
  problems: NonNullable<RowOutcome['problems']>,
  target: Target,
  stored: StoredRow,
  tenant: string,
  counts: Counts,
  failures: RowFailure[],
): void {
  add(counts, kindOf(problems.map(({ code }) => code)))
  for (const { field, code } of problems) failures.push({ key: keyText(target, stored), tenant, field, code })
}

/** @throws what says nothing about the row: then the job stops, and goes on from its checkpoint another time */
function fail(
  error: unknown,
  target: Target,
  stored: StoredRow,
  tenant: string | undefined,
  counts: Counts,
  failures: RowFailure[],
): void {
  if (!isFieldsealError(error) || error.kind === 'unavailable') throw error
  const kind = kindOf([error.code], error.kind)
  add(counts, kind)
  if (kind === 'erased') return
  const { field } = error.details
  failures.push({
    key: keyText(target, stored),
    ...(tenant === undefined ? {} : { tenant }),
    ...(field === undefined ? {} : { field }),
    code: error.code,
  })
}

const DENIED: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['ERR_KEY_RETIRED', 'ERR_TENANT_UNKNOWN'])

function kindOf(codes: readonly ErrorCode[], kind?: string): 'failed' | 'denied' | 'erased' {
  if (kind === 'erased' || codes.every((code) => code === 'ERR_KEY_ERASED')) return 'erased'
  const denied = (code: ErrorCode) => DENIED.has(code) || (code.startsWith('ERR_KMS_') && kind !== 'corrupt')
  return kind === 'denied' || codes.every(denied) ? 'denied' : 'failed'
}

/** The changed rows of a page as they are now; those that are not found are gone where it saw `isAll` of their places. */
async function readAgain(
  { source, map }: Target,
  page: readonly StoredRow[],
  changed: readonly StoredRow[],
  options: PageOptions,
): Promise<{ readonly found: readonly StoredRow[]; readonly isAll: boolean }> {
  const wanted = new Set(changed.map(nameOf))
  const names = page.map(nameOf)
  const behind = new Set(names.slice(names.findLastIndex((name) => wanted.has(name))))
  const found: StoredRow[] = []
  let pages = 0
  for await (const rows of source.pages(map, options)) {
    for (const row of rows) {
      const name = nameOf(row)
      if (wanted.delete(name)) found.push(row)
      if (behind.has(name)) return { found, isAll: true }
    }
    // New rows may have come between them; where those are pages full, another walk finds what is left.
    if (++pages === 3) return { found, isAll: false }
  }
  return { found, isAll: true }
}

function nameOf({ after }: StoredRow): string {
  return Buffer.from(after).toString('latin1')
}

export function add(counts: Counts, name: string, by = 1): void {
  counts[name] = (counts[name] ?? 0) + by
}
