import { nodeEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { renewWraps, type WrapToRenew } from '../field/renew-wraps.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import { createKeyLookup, type KeyLookup } from './key-lookup.ts'
import type { ParsedRow, RowWrap } from './parse-row.ts'
import type { Row } from './ports.ts'
import { rewrittenCells, type RewrittenRow, withHead } from './rewritten.ts'
import { createWrapFrames, type WrapFrames } from './wrap-frames.ts'

/** A row some of whose wraps, all under KEKs, are to be made anew by another KEK. */
export interface DueRow {
  readonly row: Row<unknown>
  readonly parsed: ParsedRow
  /** Places in the row's wraps. */
  readonly due: readonly number[]
  readonly kek: LiveKek
}

export interface RenewDeps {
  readonly app: string
  readonly keyrings: Keyrings
  readonly random: RandomSource
}

/**
 * Wraps the DEKs of many rows anew and copies their values as they are, unopened: field and Map keys are authenticated
 * with the value, under whatever wrap, so a value that does not open where it stands is as unreadable after this as before.
 * A wrap that does not open there (another tenant, keyspace, model or row) is refused, and its row left alone.
 */
export async function renewRows(rows: readonly DueRow[], deps: RenewDeps): Promise<readonly RewrittenRow[]> {
  const keks = createKeyLookup(deps.app, deps.keyrings, 'write', undefined)
  try {
    for (const { row, parsed, due } of rows) for (const at of due) keks.want(row.facts, wrapAt(parsed, at).kekId)
    await keks.settle()
    const frames = createWrapFrames()
    const wraps: WrapToRenew[] = []
    const begun = rows.map((row): { readonly from: number } | { readonly error: unknown } => {
      const from = wraps.length
      try {
        for (const at of row.due) wraps.push(toRenew(row, wrapAt(row.parsed, at), keks, frames))
        return { from }
      } catch (error) {
        wraps.length = from
        return { error }
      }
    })
    const heads = renewWraps(wraps, nodeEngine, deps.random)
    return begun.map((found, i) => {
      const row = rows[i] as DueRow // one for each
      return 'error' in found ? found : renewed(row, heads.slice(found.from, found.from + row.due.length))
    })
  } finally {
    keks.release()
  }
}

function wrapAt({ wraps }: ParsedRow, at: number): RowWrap {
  return wraps[at] as RowWrap // a place among them
}

function toRenew(
  { row: { map, facts }, kek }: DueRow,
  { envelope, kekId, rowBound }: RowWrap,
  keks: KeyLookup,
  frames: WrapFrames,
): WrapToRenew {
  const found = keks.found(facts, kekId)
  if ('error' in found) throw found.error
  const place = { tenant: facts.tenant, keyspace: facts.keyspace, model: map.id }
  return {
    envelope,
    rowId: rowBound ? facts.rowId : undefined,
    frame: frames.toOpen(found.kek, envelope, place),
    to: frames.toSeal(kek, rowBound, place),
  }
}

function renewed({ row, parsed, due }: DueRow, heads: readonly (Buffer | undefined)[]): RewrittenRow {
  if (heads.includes(undefined))
    return { error: new FieldsealError('ERR_DECRYPT_FAILED', { model: row.map.id, tenant: row.facts.tenant }) }
  return { cells: rewrittenCells(parsed.cells, (cell) => withHead(cell, heads[due.indexOf(cell.wrap)])) }
}
