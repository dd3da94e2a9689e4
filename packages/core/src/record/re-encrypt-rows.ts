import { nodeEngine } from '../cipher/aead.ts'
import { VALUE_FLAG_PADDED } from '../envelope/layout.ts'
import type { KekId } from '../context/record-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { sealRows, type ValueToSeal } from '../field/seal-rows.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import { openRaw, type RawRow, type RewriteDeps, zeroRaw } from './open-raw.ts'
import { type ParsedCell, parseRow } from './parse-row.ts'
import type { Envelope, RewrittenCell, Row } from './ports.ts'
import { rewrittenCells, type RewrittenRow } from './rewritten.ts'
import { sealDirectRows } from './seal-direct.ts'
import { createWrapFrames, type WrapFrames } from './wrap-frames.ts'

/**
 * Encrypts the values of rows anew, under a new DEK per row: what a leaked key could open is then no longer stored. Values,
 * their padding and tokens stay what they are, and so does what is bound to its row and what is not.
 *
 * @param kekIds only values whose DEK one of these has wrapped; the others of the row are left alone
 */
export async function reEncryptRows(
  rows: readonly Row<unknown>[],
  kekIds: ReadonlySet<KekId>,
  deps: RewriteDeps,
): Promise<readonly RewrittenRow[]> {
  const outcomes: RewrittenRow[] = rows.map(() => ({ cells: [] }))
  const toOpen: { readonly at: number; readonly raw: RawRow }[] = []
  for (const [at, row] of rows.entries()) {
    try {
      const all = parseRow(row, (_column, error) => {
        throw error
      })
      const cells = all.cells.filter(({ wrap }) => kekIds.has(all.wraps[wrap]?.kekId as KekId)) // undefined is in no set
      if (cells.length > 0) toOpen.push({ at, raw: { row, parsed: onlyOf(cells, all.wraps) } })
    } catch (error) {
      outcomes[at] = { error }
    }
  }
  const opened = await openRaw(
    toOpen.map(({ raw }) => raw),
    deps,
  )
  const keks = new Map<string, Promise<LiveKek>>()
  const release: (() => void)[] = []
  try {
    const frames = createWrapFrames()
    for (const [i, { at, raw }] of toOpen.entries()) {
      const outcome = opened[i]
      if (outcome === undefined) continue
      try {
        if ('error' in outcome) throw outcome.error
        const kek = raw.row.map.mode === 'direct' ? undefined : await kekFor(raw.row, keks, release, deps)
        outcomes[at] = { cells: await sealedAnew(raw, outcome.plaintexts, kek, frames, deps) }
      } catch (error) {
        outcomes[at] = { error }
      }
    }
    return outcomes
  } finally {
    zeroRaw(opened)
    for (const one of release) one()
  }
}

function onlyOf(cells: readonly ParsedCell[], wraps: RawRow['parsed']['wraps']): RawRow['parsed'] {
  const used = [...new Set(cells.map(({ wrap }) => wrap))]
  return {
    cells: cells.map((cell) => ({ ...cell, wrap: used.indexOf(cell.wrap) })),
    wraps: used.flatMap((at) => wraps[at] ?? []),
  }
}

/** The values of a row under a new DEK, which this KEK wraps, or a CMK in mode `direct`. */
export async function sealedAnew(
  raw: RawRow,
  plaintexts: readonly (Buffer | undefined)[],
  kek: LiveKek | undefined,
  frames: WrapFrames,
  deps: Pick<RewriteDeps, 'app' | 'directKeys' | 'random'>,
): Promise<readonly RewrittenCell[]> {
  const { row, parsed } = raw
  const values = valuesOf(raw, plaintexts)
  const sealed =
    kek === undefined
      ? ((await sealDirectRows([{ row, values }], undefined, deps)).get(row)?.envelopes ?? [])
      : sealedUnderKek(raw, values, kek, frames, deps)
  return rewrittenCells(parsed.cells, (_, at) => sealed[at])
}

function valuesOf({ row, parsed }: RawRow, plaintexts: readonly (Buffer | undefined)[]): readonly ValueToSeal[] {
  return parsed.cells.map(({ parsed: { padded, typeTag }, aad }, i) => {
    const plaintext = plaintexts[i]
    if (plaintext === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED', { model: row.map.id })
    return { plaintext, aad, valueFlags: padded ? VALUE_FLAG_PADDED : 0, typeTag }
  })
}

async function kekFor(
  { facts }: Row<unknown>,
  keks: Map<string, Promise<LiveKek>>,
  release: (() => void)[],
  { app, keyrings }: RewriteDeps,
): Promise<LiveKek> {
  const { tenant, keyspace } = facts
  const name = `${tenant}\0${keyspace}`
  let kek = keks.get(name)
  if (kek === undefined) {
    kek = keyrings.toWrap({ app, tenant, keyspace }, 'wrap').then((found) => {
      release.push(found.hold())
      return found
    })
    keks.set(name, kek)
  }
  return kek
}

/** One new DEK for what is bound to the row, and one for what is not. */
function sealedUnderKek(
  { row: { map, facts }, parsed }: RawRow,
  values: readonly ValueToSeal[],
  kek: LiveKek,
  frames: WrapFrames,
  { random }: Pick<RewriteDeps, 'random'>,
): readonly Envelope[] {
  const place = { tenant: facts.tenant, keyspace: facts.keyspace, model: map.id }
  const out: Envelope[] = []
  for (const bound of [true, false]) {
    const at = parsed.cells.flatMap((cell, i) => (cell.parsed.rowBound === bound ? [i] : []))
    if (at.length === 0) continue
    const frame = frames.toSeal(kek, bound, place)
    const rowId = bound ? facts.rowId : undefined
    const ofRow = { frame, rowId, values: at.flatMap((i) => values[i] ?? []) }
    const [envelopes = []] = sealRows([ofRow], nodeEngine, random)
    for (const [i, place_] of at.entries()) out[place_] = envelopes[i] as Envelope // one for each value
  }
  return out
}
