import { nodeEngine } from '../cipher/aead.ts'
import type { RecordId } from '../context/record-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { sealWrap } from '../field/seal-rows.ts'
import { type OpenedRaw, openRaw, type RawRow, zeroRaw } from './open-raw.ts'
import { parseRow, type RowWrap } from './parse-row.ts'
import type { Envelope, RewrittenCell, Row } from './ports.ts'
import { sealedAnew } from './re-encrypt-rows.ts'
import {
  canBind,
  isDue,
  type RewrapDeps,
  type RewrapOptions,
  rewrapRow,
  type Target,
  targetOf,
  withHead,
} from './rewrap-row.ts'
import { type DueRow, renewRows, type RewrittenRow } from './renew-rows.ts'
import type { RowId } from './row-id.ts'
import { createWrapFrames, type WrapFrames } from './wrap-frames.ts'

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
  deps: RewrapDeps,
): Promise<readonly RewrittenRow[]> {
  const targets = new Map<string, Promise<Target>>()
  const release: (() => void)[] = []
  const outcomes: RewrittenRow[] = rows.map(() => ({ cells: [] }))
  const toRenew: (DueRow & { readonly at: number })[] = []
  const toOpen: { readonly at: number; readonly raw: RawRow; readonly target: KekTarget }[] = []
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
        outcomes[at] = 'error' in outcome ? outcome : { cells: rewrapped(raw, outcome, target, frames, options, deps) }
      }
    } finally {
      zeroRaw(opened)
    }
    for (const at of alone) outcomes[at] = await rewrappedAlone(rows[at] as Row<unknown>, options, deps)
    return outcomes
  } finally {
    for (const one of release) one()
  }
}

function refuse(_column: number, error: unknown): never {
  throw error
}

/** Whether one look-up does for both rows. */
function isAlike(a: Row<unknown>, b: Row<unknown>): boolean {
  return a.map === b.map && a.facts.tenant === b.facts.tenant && a.facts.keyspace === b.facts.keyspace
}

async function rewrappedAlone(row: Row<unknown>, options: RewrapRowsOptions, deps: RewrapDeps): Promise<RewrittenRow> {
  try {
    return { cells: await rewrapRow(row, deps, options) }
  } catch (error) {
    return { error }
  }
}

/** One look-up per keyspace and mode, held until the batch is done. */
async function targetFor(
  row: Row<unknown>,
  targets: Map<string, Promise<Target>>,
  release: (() => void)[],
  deps: RewrapDeps,
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

type KekTarget = Extract<Target, { readonly kek: unknown }>

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

function rewrapped(
  { row, parsed }: RawRow,
  { deks, plaintexts, moved }: OpenedRaw,
  target: KekTarget,
  frames: WrapFrames,
  options: RewrapRowsOptions,
  deps: RewrapDeps,
): readonly RewrittenCell[] {
  const { map, facts } = row
  const place = { tenant: facts.tenant, keyspace: facts.keyspace, model: map.id }
  // They must be bound anew, but a DEK that a compromised key has wrapped may not hide under another.
  const leaked = new Set([...moved].filter((i) => target.newest.compromised.has(parsed.wraps[i]?.kekId as RecordId)))
  const heads = parsed.wraps.map((wrap, i) => {
    const dek = deks[i]
    if (dek === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED', { model: map.id, tenant: facts.tenant })
    if (leaked.has(i) || (!moved.has(i) && !isDue(row, wrap, target, options))) return undefined
    const bound = wrap.rowBound || (options.bind === true && canBind(row))
    const frame = frames.toSeal(target.kek, bound, place)
    return sealWrap(dek, frame, bound ? facts.rowId : undefined, nodeEngine, deps.random)
  })
  const copied = parsed.cells.flatMap(({ cell, parsed: { bytes, valueAt }, wrap }) => {
    const head = heads[wrap]
    if (head === undefined) return []
    const { field, mapKeys } = cell
    const mapped = mapKeys === undefined ? {} : { mapKeys }
    const before = bytes as Uint8Array as Envelope // parsed before
    return [{ field, ...mapped, before, after: withHead(bytes, valueAt, head) }]
  })
  if (leaked.size === 0) return copied
  const isLeaked = (_: unknown, column: number) => leaked.has(parsed.cells[column]?.wrap ?? -1)
  const raw = { row, parsed: { cells: parsed.cells.filter(isLeaked), wraps: parsed.wraps } }
  return [...copied, ...sealedAnew(raw, plaintexts.filter(isLeaked), target.kek, frames, deps)]
}
