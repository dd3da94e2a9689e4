import { createSecretKey } from 'node:crypto'
import { nodeEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import { openDirectValues } from '../field/direct-value.ts'
import { openDeks, openUnder, type WrapToOpen } from '../field/open-rows.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import { createDirectLookup, type DirectDeps, type FoundDek } from './direct-lookup.ts'
import { createKeyLookup } from './key-lookup.ts'
import type { ParsedRow, RowWrap } from './parse-row.ts'
import type { Row } from './ports.ts'
import type { RowId } from './row-id.ts'
import { createWrapFrames } from './wrap-frames.ts'

/** A row to be written anew, parsed. */
export interface RawRow {
  readonly row: Row<unknown>
  readonly parsed: ParsedRow
  /** Where the row stood when its values were bound to it, if it was renumbered since. */
  readonly formerRowId?: RowId | undefined
}

/** DEKs and encoded values of one row, in the order of its wraps and parsed cells; whoever asked zeroes them. */
export interface OpenedRaw {
  readonly deks: readonly Buffer[]
  readonly plaintexts: readonly Buffer[]
  /** Wraps that opened only where the row stood before. */
  readonly moved: ReadonlySet<number>
}

/** What a rewrite of stored rows needs. */
export interface RewriteDeps extends DirectDeps {
  readonly keyrings: Keyrings
  readonly random: RandomSource
}

interface WrapAt {
  readonly at: number
  readonly wrap: RowWrap
}

/**
 * Opens wraps and values of rows for a rewrite: all keys are looked for at once. The outcome of each row is its own: a row
 * that does not open where it stands is an error beside rows that do.
 */
export async function openRaw(
  rows: readonly RawRow[],
  deps: Omit<RewriteDeps, 'random'>,
): Promise<readonly (OpenedRaw | { readonly error: unknown })[]> {
  const keks = createKeyLookup(deps.app, deps.keyrings, 'write', undefined)
  const directs = createDirectLookup(deps, { use: 'write', via: undefined, goOn: true })
  const formers = createDirectLookup(deps, { use: 'write', via: undefined, goOn: true })
  try {
    for (const { row, parsed } of rows)
      for (const wrap of parsed.wraps)
        if (wrap.layout === 'kek') keks.want(row.facts, wrap.kekId)
        else directs.want(row, wrap)
    await keks.settle()
    await directs.settle()
    for (const { row, parsed, formerRowId } of rows) {
      if (formerRowId === undefined) continue
      const former = { ...row, facts: { ...row.facts, rowId: formerRowId } }
      for (const wrap of parsed.wraps)
        if (wrap.layout === 'direct' && isElsewhere(directs.found(wrap))) formers.want(former, wrap)
    }
    await formers.settle()
    await directs.settle()
    await keks.settle() // what was purged while a KMS was asked
    const frames = createWrapFrames()
    return rows.map((raw) => {
      const deks: (Buffer | undefined)[] = raw.parsed.wraps.map(() => undefined)
      const moved = new Set<number>()
      try {
        openKekWraps(raw, deks, keks, frames, raw.row.facts.rowId)
        if (raw.formerRowId !== undefined) {
          for (const [i, wrap] of raw.parsed.wraps.entries())
            if (wrap.layout === 'kek' && deks[i] === undefined) moved.add(i)
          if (moved.size > 0) openKekWraps(raw, deks, keks, frames, raw.formerRowId)
        }
        for (const [i, wrap] of raw.parsed.wraps.entries()) {
          if (wrap.layout !== 'direct') continue
          let found = directs.found(wrap)
          if (raw.formerRowId !== undefined && isElsewhere(found)) {
            moved.add(i)
            found = formers.found(wrap)
          }
          if ('error' in found) throw found.error
          deks[i] = Buffer.from(found.dek.key.exposeBytes())
        }
        return { ...opened(raw, deks), moved }
      } catch (error) {
        for (const dek of deks) dek?.fill(0)
        return { error }
      }
    })
  } finally {
    keks.release()
    directs.release()
    formers.release()
  }
}

/** A wrap that the KMS does not open in this place. */
function isElsewhere(found: FoundDek): boolean {
  return 'error' in found && isFieldsealError(found.error) && found.error.kind === 'corrupt'
}

/** Zeroes what `openRaw` gave. */
export function zeroRaw(outcomes: readonly (OpenedRaw | { readonly error: unknown })[]): void {
  for (const outcome of outcomes)
    if (!('error' in outcome)) for (const bytes of [...outcome.deks, ...outcome.plaintexts]) bytes.fill(0)
}

function openKekWraps(
  { row: { map, facts }, parsed }: RawRow,
  deks: (Buffer | undefined)[],
  keks: ReturnType<typeof createKeyLookup>,
  frames: ReturnType<typeof createWrapFrames>,
  rowId: RowId | undefined,
): void {
  const missing = parsed.wraps.flatMap((wrap, at): WrapAt[] =>
    wrap.layout === 'kek' && deks[at] === undefined ? [{ at, wrap }] : [],
  )
  const place = { tenant: facts.tenant, keyspace: facts.keyspace, model: map.id }
  const toOpen = missing.map(({ wrap: { envelope, kekId, rowBound } }): WrapToOpen => {
    const found = keks.found(facts, kekId)
    if ('error' in found) throw found.error
    return { envelope, frame: frames.toOpen(found.kek, envelope, place), rowId: rowBound ? rowId : undefined }
  })
  for (const [i, dek] of openDeks(toOpen, nodeEngine).entries()) deks[missing[i]?.at ?? -1] = dek
}

/** @throws FieldsealError ERR_DECRYPT_FAILED unless every value opens under its own DEK */
function opened({ row, parsed }: RawRow, deks: readonly (Buffer | undefined)[]): Omit<OpenedRaw, 'moved'> {
  const { cells, wraps } = parsed
  if (!wraps.some(({ layout }) => layout === 'direct')) {
    const values = cells.map(({ parsed: value, wrap, aad }) => ({ parsed: value, wrap, aad }))
    return whole(row, deks, openUnder(deks, values, nodeEngine))
  }
  const plaintexts: (Buffer | undefined)[] = cells.map(() => undefined)
  const inLayout = (layout: RowWrap['layout']) =>
    cells.flatMap((cell, at) => (wraps[cell.wrap]?.layout === layout ? [{ cell, at }] : []))
  const plain = inLayout('kek')
  const values = plain.map(({ cell: { parsed: value, wrap, aad } }) => ({ parsed: value, wrap, aad }))
  for (const [i, bytes] of openUnder(deks, values, nodeEngine).entries()) plaintexts[plain[i]?.at ?? -1] = bytes
  const direct = inLayout('direct')
  const keys = wraps.map(({ layout }, i) => (layout === 'direct' && deks[i] ? createSecretKey(deks[i]) : undefined))
  const sealed = direct.map(({ cell: { parsed: value, wrap, aad } }) => {
    const dek = keys[wrap]
    if (dek === undefined) throw failed(row)
    return { parsed: value, dek, aad }
  })
  for (const [i, bytes] of openDirectValues(sealed, nodeEngine).entries()) plaintexts[direct[i]?.at ?? -1] = bytes
  return whole(row, deks, plaintexts)
}

function whole(
  row: Row<unknown>,
  deks: readonly (Buffer | undefined)[],
  plaintexts: readonly (Buffer | undefined)[],
): Omit<OpenedRaw, 'moved'> {
  const all = plaintexts.filter((bytes) => bytes !== undefined)
  const keys = deks.filter((dek) => dek !== undefined)
  if (all.length === plaintexts.length && keys.length === deks.length) return { deks: keys, plaintexts: all }
  for (const bytes of all) bytes.fill(0)
  throw failed(row)
}

function failed({ map, facts }: Row<unknown>): FieldsealError {
  return new FieldsealError('ERR_DECRYPT_FAILED', { model: map.id, tenant: facts.tenant })
}
