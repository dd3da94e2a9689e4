import { openRaw, type RawRow, type RewriteDeps, zeroRaw } from './open-raw.ts'
import { parseRow, type RowWrap } from './parse-row.ts'
import type { Row } from './ports.ts'
import { type DueRow, renewRows } from './renew-rows.ts'
import { isDue, refuse, type RewrapOptions, rewrapped, rewrapRow, type Target, targetOf } from './rewrap-row.ts'
import type { RewrittenRow } from './rewritten.ts'
import type { RowId } from './row-id.ts'
import { createWrapFrames } from './wrap-frames.ts'

export interface RewrapRowsOptions extends RewrapOptions {
  /** Where each row stood when its values were bound to it; values that do not open where they stand are tried there. */
  readonly formerRowIds?: readonly (RowId | undefined)[]
}

/**
 * The DEKs of many rows wrapped anew, with one look-up of keys for all. What is wrapped as it would be now is not opened.
 * Without `bind` a rewrap keeps what it finds: tenant, keyspace, model, field and the binding to the row. Values are opened
 * only where a row is bound to another place, or a direct wrap, which nothing but its value confirms, becomes one by a KEK.
 */
export async function rewrapRows(
  rows: readonly Row<unknown>[],
  options: RewrapRowsOptions,
  deps: RewriteDeps,
): Promise<readonly RewrittenRow[]> {
  const targets = new Map<string, Promise<Target>>()
  const release: (() => void)[] = []
  const outcomes: RewrittenRow[] = rows.map(() => ({ cells: [] }))
  const toRenew: (DueRow & { readonly at: number })[] = []
  const toOpen: { readonly at: number; readonly raw: RawRow; readonly target: Target }[] = []
  const alone: number[] = []
  let last: { readonly row: Row<unknown>; readonly target: Target } | undefined
  try {
    for (const [at, row] of rows.entries()) {
      try {
        if (last === undefined || !isAlike(last.row, row))
          last = { row, target: await targetFor(row, targets, release, deps) }
        const { target } = last
        const parsed = parseRow(row, refuse)
        const formerRowId = options.formerRowIds?.[at]
        const due = placesOfDue(row, parsed.wraps, target, options)
        if (formerRowId === undefined && due.length === 0) continue
        if (!('kek' in target))
          alone.push(at) // one call to a KMS each
        else if (formerRowId !== undefined || options.bind === true || due.some((i) => isDirect(parsed.wraps[i])))
          toOpen.push({ at, raw: { row, parsed, formerRowId }, target })
        else toRenew.push({ at, row, parsed, due, kek: target.kek })
      } catch (error) {
        outcomes[at] = { error }
      }
    }
    for (const [i, renewed] of (await renewRows(toRenew, deps)).entries()) outcomes[toRenew[i]?.at ?? -1] = renewed
    const opened = await openRaw(
      toOpen.map(({ raw }) => raw),
      deps,
    )
    try {
      const frames = createWrapFrames()
      for (const [i, { at, raw, target }] of toOpen.entries()) {
        const outcome = opened[i]
        if (outcome === undefined) continue
        outcomes[at] =
          'error' in outcome ? outcome : { cells: await rewrapped(raw, outcome, target, frames, options, deps) }
      }
    } finally {
      zeroRaw(opened)
    }
    for (const at of alone)
      outcomes[at] = await rewrappedAlone(rows[at] as Row<unknown>, options.formerRowIds?.[at], options, deps)
    return outcomes
  } finally {
    for (const one of release) one()
  }
}

/** Whether one look-up does for both rows. */
function isAlike(a: Row<unknown>, b: Row<unknown>): boolean {
  return a.map === b.map && a.facts.tenant === b.facts.tenant && a.facts.keyspace === b.facts.keyspace
}

async function rewrappedAlone(
  row: Row<unknown>,
  formerRowId: RowId | undefined,
  { bind = false }: RewrapOptions,
  deps: RewriteDeps,
): Promise<RewrittenRow> {
  try {
    return { cells: await rewrapRow(row, deps, { bind, formerRowId }) }
  } catch (error) {
    return { error }
  }
}

/** One look-up per keyspace and mode, held until the batch is done. */
async function targetFor(
  row: Row<unknown>,
  targets: Map<string, Promise<Target>>,
  release: (() => void)[],
  deps: RewriteDeps,
): Promise<Target> {
  const name = `${row.facts.tenant}\0${row.facts.keyspace}\0${row.map.mode}`
  let target = targets.get(name)
  if (target === undefined) {
    target = targetOf(row, deps).then((found) => {
      if ('kek' in found) release.push(found.kek.hold())
      return found
    })
    targets.set(name, target)
  }
  return target
}

function isDirect(wrap: RowWrap | undefined): boolean {
  return wrap?.layout === 'direct'
}

function placesOfDue(
  row: Row<unknown>,
  wraps: readonly RowWrap[],
  target: Target,
  options: RewrapRowsOptions,
): readonly number[] {
  const due: number[] = []
  for (let i = 0; i < wraps.length; i++) if (isDue(row, wraps[i] as RowWrap, target, options)) due.push(i) // i < length
  return due
}
