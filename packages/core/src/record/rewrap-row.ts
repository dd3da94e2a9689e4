import { nodeEngine } from '../cipher/aead.ts'
import { recordIdBytes, type RecordId } from '../context/record-id.ts'
import { directHead } from '../field/direct-value.ts'
import { sealWrap } from '../field/seal-rows.ts'
import type { DirectKey } from '../keyring/direct-keys.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import { SecretKey } from '../keys/secret-key.ts'
import { rowContext, wrapIn } from './direct-lookup.ts'
import { compromisedIds, isOutdated, type Newest } from './newest.ts'
import { type OpenedRaw, openRaw, type RawRow, type RewriteDeps, zeroRaw } from './open-raw.ts'
import { parseRow, type RowWrap } from './parse-row.ts'
import type { RewrittenCell, Row } from './ports.ts'
import { sealedAnew } from './re-encrypt-rows.ts'
import { rewrittenCells, withHead } from './rewritten.ts'
import type { RowId } from './row-id.ts'
import { createWrapFrames, type WrapFrames } from './wrap-frames.ts'

/** What wraps the DEKs of a row from now on. */
export type Target =
  | { readonly newest: Newest; readonly kek: LiveKek }
  | { readonly newest: Newest; readonly direct: DirectKey }

export interface RewrapOptions {
  /** Binds values to the row where they stand now: that certifies the place they were found in. @defaultValue false */
  readonly bind?: boolean
}

/**
 * The same DEKs wrapped anew by what the model wraps with now: its newest KEK, or in mode `direct` its CMK. Values are
 * copied byte by byte. Keeps what it finds: tenant, keyspace, model, field and, without `bind`, the binding to the row.
 * Cells that shared a wrap share the new one.
 *
 * Every value is opened first, so that nothing that would not open where it stands gets a new wrap.
 *
 * @returns the cells to replace; none when all are wrapped so already
 * @throws FieldsealError ERR_DECRYPT_FAILED when a value does not open in this place, and what key look-ups throw
 */
export async function rewrapRow(
  row: Row<unknown>,
  deps: RewriteDeps,
  options: RewrapOptions & { readonly formerRowId?: RowId | undefined } = {},
): Promise<readonly RewrittenCell[]> {
  const target = await targetOf(row, deps)
  const raw = { row, parsed: parseRow(row, refuse), formerRowId: options.formerRowId }
  const opened = await openRaw([raw], deps)
  try {
    const [outcome] = opened
    if (outcome === undefined) return []
    if ('error' in outcome) throw outcome.error
    return await rewrapped(raw, outcome, target, createWrapFrames(), options, deps)
  } finally {
    zeroRaw(opened)
  }
}

export function refuse(_column: number, error: unknown): never {
  throw error
}

export function isDue(row: Row<unknown>, wrap: RowWrap, { newest }: Target, { bind = false }: RewrapOptions): boolean {
  if (isOutdated(wrap, newest)) return true
  return bind && !wrap.rowBound && canBind(row) && !newest.compromised.has(wrap.kekId)
}

export function canBind({ map, facts }: Row<unknown>): boolean {
  return facts.rowId !== undefined && map.bindRow !== 'never'
}

export async function targetOf(
  { map, facts }: Row<unknown>,
  { app, keyrings, directKeys }: RewriteDeps,
): Promise<Target> {
  const ref = { app, tenant: facts.tenant, keyspace: facts.keyspace }
  if (map.mode === 'direct') {
    const direct = await directKeys.toWrap(ref)
    const { id } = direct.record
    const compromised = await compromisedIds(ref, undefined, keyrings)
    return { direct, newest: { layout: 'direct', id, version: directKeys.versionOf(id), compromised } }
  }
  const kek = await keyrings.toWrap(ref, 'wrap')
  const compromised = await compromisedIds(ref, undefined, keyrings)
  return { kek, newest: { layout: 'kek', id: kek.record.id, compromised } }
}

/** The cells of a row whose values were opened, under the wraps that are due. */
export async function rewrapped(
  raw: RawRow,
  { deks, plaintexts, moved }: OpenedRaw,
  target: Target,
  frames: WrapFrames,
  options: RewrapOptions,
  deps: RewriteDeps,
): Promise<readonly RewrittenCell[]> {
  const { row, parsed } = raw
  // They must be bound anew, but a DEK that a compromised key has wrapped may not hide under another.
  const leaked = new Set([...moved].filter((i) => target.newest.compromised.has(parsed.wraps[i]?.kekId as RecordId)))
  if (leaked.size === 0) for (const plaintext of plaintexts) plaintext.fill(0) // they have opened: no more is needed of them
  const heads: (Buffer | undefined)[] = []
  for (const [i, wrap] of parsed.wraps.entries()) {
    const isMoved = moved.has(i)
    const due = !leaked.has(i) && (isMoved || isDue(row, wrap, target, options))
    const opened = { ...wrap, dek: deks[i] as Buffer, isMoved } // one DEK for each
    heads.push(due ? await newHead(row, opened, target, frames, options, deps) : undefined)
  }
  const copied = rewrittenCells(parsed.cells, (cell) => withHead(cell, heads[cell.wrap]))
  if (leaked.size === 0) return copied
  const isLeaked = (_: unknown, column: number) => leaked.has(parsed.cells[column]?.wrap ?? -1)
  const anew = { row, parsed: { cells: parsed.cells.filter(isLeaked), wraps: parsed.wraps } }
  const kek = 'kek' in target ? target.kek : undefined
  return [...copied, ...(await sealedAnew(anew, plaintexts.filter(isLeaked), kek, frames, deps))]
}

/** All that stands before the value part of an envelope, under the new wrap; value flags and type tag are the cell's own. */
async function newHead(
  row: Row<unknown>,
  { dek, isMoved, ...wrap }: RowWrap & { readonly dek: Buffer; readonly isMoved: boolean },
  target: Target,
  frames: WrapFrames,
  options: RewrapOptions,
  { directKeys, random }: RewriteDeps,
): Promise<Buffer> {
  const { map, facts } = row
  if ('kek' in target) {
    const bound = wrap.rowBound || (options.bind === true && canBind(row))
    const frame = frames.toSeal(target.kek, bound, {
      tenant: facts.tenant,
      keyspace: facts.keyspace,
      model: map.id,
    })
    return sealWrap(dek, frame, bound ? facts.rowId : undefined, nodeEngine, random)
  }
  const { direct } = target
  const key = new SecretKey(Uint8Array.from(dek))
  try {
    const same = !isMoved && wrap.layout === 'direct' && wrap.kekId === direct.record.id // for this row by this CMK
    const made = await directKeys.renew(direct, key, rowContext(direct, row), same ? wrapIn(wrap.envelope) : undefined)
    return directHead({
      key: key.exposeKeyObject(),
      recordId: recordIdBytes(direct.record.id),
      label: made.keyVersion ?? '',
      blob: made.blob,
    })
  } finally {
    key[Symbol.dispose]()
  }
}
