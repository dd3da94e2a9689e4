import { nodeEngine } from '../cipher/aead.ts'
import { VALUE_FLAG_PADDED } from '../envelope/layout.ts'
import type { KekId } from '../context/record-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { sealRows, type ValueToSeal } from '../field/seal-rows.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import { type OpenedRaw, openRaw, type RawRow, zeroRaw } from './open-raw.ts'
import { type ParsedCell, parseRow } from './parse-row.ts'
import type { Envelope, RewrittenCell, Row } from './ports.ts'
import type { RewrapDeps } from './rewrap-row.ts'
import type { RewrittenRow } from './renew-rows.ts'
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
  deps: RewrapDeps,
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
        outcomes[at] = { cells: await reEncrypted(raw, outcome, keks, release, frames, deps) }
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

async function reEncrypted(
  raw: RawRow,
  { plaintexts }: OpenedRaw,
  keks: Map<string, Promise<LiveKek>>,
  release: (() => void)[],
  frames: WrapFrames,
  deps: RewrapDeps,
): Promise<readonly RewrittenCell[]> {
  const { row } = raw
  if (row.map.mode !== 'direct')
    return sealedAnew(raw, plaintexts, await kekFor(row, keks, release, deps), frames, deps)
  const values = valuesOf(raw, plaintexts)
  return replaced(raw, (await sealDirectRows([{ row, values }], undefined, deps)).get(row)?.envelopes ?? [])
}

/** Values of a row under a new DEK, which a KEK wraps. */
export function sealedAnew(
  raw: RawRow,
  plaintexts: readonly (Buffer | undefined)[],
  kek: LiveKek,
  frames: WrapFrames,
  deps: Pick<RewrapDeps, 'random'>,
): readonly RewrittenCell[] {
  return replaced(raw, sealedUnderKek(raw, valuesOf(raw, plaintexts), kek, frames, deps))
}

function valuesOf({ row, parsed }: RawRow, plaintexts: readonly (Buffer | undefined)[]): readonly ValueToSeal[] {
  return parsed.cells.map(({ parsed: { padded, typeTag }, aad }, i) => {
    const plaintext = plaintexts[i]
    if (plaintext === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED', { model: row.map.id })
    return { plaintext, aad, valueFlags: padded ? VALUE_FLAG_PADDED : 0, typeTag }
  })
}

function replaced({ parsed }: RawRow, sealed: readonly Envelope[]): readonly RewrittenCell[] {
  return parsed.cells.map(({ cell: { field, mapKeys }, parsed: { bytes } }, i) => {
    const before = bytes as Uint8Array as Envelope // parsed before
    const mapped = mapKeys === undefined ? {} : { mapKeys }
    return { field, ...mapped, before, after: sealed[i] as Envelope } // one for each value
  })
}

async function kekFor(
  { facts }: Row<unknown>,
  keks: Map<string, Promise<LiveKek>>,
  release: (() => void)[],
  { app, keyrings }: RewrapDeps,
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
  { random }: Pick<RewrapDeps, 'random'>,
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
