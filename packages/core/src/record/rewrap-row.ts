import { createSecretKey } from 'node:crypto'
import { nodeEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import { recordIdBytes } from '../context/record-id.ts'
import { AT, type Envelope, KEK_AT } from '../envelope/layout.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { directHead, openDirectValues } from '../field/direct-value.ts'
import { openDeks, openUnder, type WrapToOpen } from '../field/open-rows.ts'
import { sealWrap } from '../field/seal-rows.ts'
import type { DirectKey } from '../keyring/direct-keys.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { LiveKek } from '../keyring/live-kek.ts'
import { SecretKey } from '../keys/secret-key.ts'
import { createDirectLookup, type DirectDeps, rowContext, wrapIn } from './direct-lookup.ts'
import { compromisedIds, isOutdated, type Newest } from './newest.ts'
import { parseRow, type ParsedCell, type ParsedRow, type RowWrap } from './parse-row.ts'
import type { RewrittenCell, Row } from './ports.ts'
import { createWrapFrames, type WrapFrames } from './wrap-frames.ts'

export interface RewrapDeps extends DirectDeps {
  readonly keyrings: Keyrings
  readonly random: RandomSource
}

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
  deps: RewrapDeps,
  options: RewrapOptions = {},
): Promise<readonly RewrittenCell[]> {
  const target = await targetOf(row, deps)
  const parsed = parseRow(row, (_column, error) => {
    throw error
  })
  const frames = createWrapFrames()
  const deks = await openAll(row, parsed, frames, deps)
  try {
    const heads: (Buffer | undefined)[] = []
    for (const [i, wrap] of parsed.wraps.entries()) {
      const dek = deks[i]
      if (dek === undefined) throw failed(row)
      heads.push(
        isDue(row, wrap, target, options) ? await renewed(row, wrap, dek, target, frames, options, deps) : undefined,
      )
    }
    return parsed.cells.flatMap(({ cell, parsed: { bytes, valueAt }, wrap }) => {
      const head = heads[wrap]
      if (head === undefined) return []
      const { field, mapKeys } = cell
      const mapped = mapKeys === undefined ? {} : { mapKeys }
      return [{ field, ...mapped, before: asEnvelope(bytes), after: withHead(bytes, valueAt, head) }]
    })
  } finally {
    for (const dek of deks) dek?.fill(0)
  }
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
  { app, keyrings, directKeys }: RewrapDeps,
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

/** The DEKs of a row's wraps, which the caller zeroes. @throws FieldsealError ERR_DECRYPT_FAILED unless every value opens under its own */
async function openAll(
  row: Row<unknown>,
  { cells, wraps }: ParsedRow,
  frames: WrapFrames,
  deps: RewrapDeps,
): Promise<readonly (Buffer | undefined)[]> {
  const deks: (Buffer | undefined)[] = wraps.map(() => undefined)
  try {
    await openKekWraps(row, wraps, frames, deks, deps)
    await openDirectWraps(row, wraps, deks, deps)
    const inLayout = (layout: RowWrap['layout']) => cells.filter(({ wrap }) => wraps[wrap]?.layout === layout)
    const keys = wraps.map(({ layout }, i) => (layout === 'direct' && deks[i] ? createSecretKey(deks[i]) : undefined))
    const directs = inLayout('direct').map(({ parsed, wrap, aad }: ParsedCell) => {
      const dek = keys[wrap]
      if (dek === undefined) throw failed(row)
      return { parsed, dek, aad }
    })
    const opened = [...openUnder(deks, inLayout('kek'), nodeEngine), ...openDirectValues(directs, nodeEngine)]
    for (const plaintext of opened) plaintext?.fill(0)
    if (opened.includes(undefined)) throw failed(row)
    return deks
  } catch (error) {
    for (const dek of deks) dek?.fill(0)
    throw error
  }
}

async function openKekWraps(
  { map, facts }: Row<unknown>,
  wraps: readonly RowWrap[],
  frames: WrapFrames,
  deks: (Buffer | undefined)[],
  { app, keyrings }: RewrapDeps,
): Promise<void> {
  const { tenant, keyspace } = facts
  const inKek = wraps.filter(({ layout }) => layout === 'kek')
  if (inKek.length === 0) return
  const ids = inKek.map(({ kekId }) => kekId)
  const keks = await keyrings.toUnwrap({ app, tenant, keyspace }, ids, 'write')
  const toOpen = inKek.map(({ envelope, kekId, rowBound }): WrapToOpen => {
    const kek = keks.get(kekId)
    if (kek?.record.purpose !== 'wrap') throw new FieldsealError('ERR_KEY_NOT_FOUND', { tenant, kekId })
    const frame = frames.toOpen(kek, envelope, { tenant, keyspace, model: map.id })
    return { envelope, frame, rowId: rowBound ? facts.rowId : undefined }
  })
  for (const [i, dek] of openDeks(toOpen, nodeEngine).entries()) deks[wraps.indexOf(inKek[i] as RowWrap)] = dek
}

async function openDirectWraps(
  row: Row<unknown>,
  wraps: readonly RowWrap[],
  deks: (Buffer | undefined)[],
  deps: RewrapDeps,
): Promise<void> {
  const lookup = createDirectLookup(deps, { use: 'write', via: undefined, goOn: false })
  try {
    for (const wrap of wraps) if (wrap.layout === 'direct') lookup.want(row, wrap)
    await lookup.settle()
    for (const [i, wrap] of wraps.entries()) {
      if (wrap.layout !== 'direct') continue
      const found = lookup.found(wrap)
      if ('error' in found) throw found.error
      deks[i] = Buffer.from(found.dek.key.exposeBytes())
    }
  } finally {
    lookup.release()
  }
}

/** All that stands before the value part of an envelope, under the new wrap; value flags and type tag are the cell's own. */
async function renewed(
  row: Row<unknown>,
  wrap: RowWrap,
  dek: Buffer,
  target: Target,
  frames: WrapFrames,
  options: RewrapOptions,
  { directKeys, random }: RewrapDeps,
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
    const same = wrap.layout === 'direct' && wrap.kekId === direct.record.id
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

/** The new head, the cell's own value flags and type tag, and the value part as it was. */
export function withHead(envelope: Buffer, valueAt: number, head: Buffer): Envelope {
  const out = Buffer.concat([head, envelope.subarray(valueAt)])
  envelope.copy(out, AT.valueFlags, AT.valueFlags, KEK_AT.salt)
  return asEnvelope(out)
}

function failed({ map, facts }: Row<unknown>): FieldsealError {
  return new FieldsealError('ERR_DECRYPT_FAILED', { model: map.id, tenant: facts.tenant })
}

function asEnvelope(bytes: Buffer): Envelope {
  return bytes as Uint8Array as Envelope // parsed before
}
