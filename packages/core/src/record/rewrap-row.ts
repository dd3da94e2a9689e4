import { nodeEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import { AT, type Envelope, KEK_AT, WRAPPED_HEADER_BYTES } from '../envelope/layout.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { openDeks, openUnder, type WrapToOpen } from '../field/open-rows.ts'
import { sealWrap } from '../field/seal-rows.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import { parseRow } from './parse-row.ts'
import type { Row, RowPatch } from './ports.ts'
import { createWrapFrames } from './wrap-frames.ts'

export interface RewrapDeps {
  readonly app: string
  readonly keyrings: Keyrings
  readonly random: RandomSource
}

/**
 * The same DEKs wrapped anew under the newest KEK; values are copied byte by byte. Keeps what it finds: tenant,
 * keyspace, model, field and the binding to the row. Cells that shared a wrap share the new one.
 *
 * Every value is opened first, so that nothing that would not open where it stands gets a new wrap.
 *
 * @returns the cells to replace; none when all are under the newest KEK already
 * @throws FieldsealError ERR_DECRYPT_FAILED when a value does not open in this place, and what key look-ups throw
 */
export async function rewrapRow(row: Row<unknown>, deps: RewrapDeps): Promise<RowPatch['cells']> {
  const { map, facts } = row
  const place = { tenant: facts.tenant, keyspace: facts.keyspace, model: map.id }
  const ref = { app: deps.app, tenant: facts.tenant, keyspace: facts.keyspace }
  const newest = await deps.keyrings.toWrap(ref, 'wrap')
  const { cells, wraps } = parseRow(row, (_column, error) => {
    throw error
  })
  const keks = await deps.keyrings.toUnwrap(
    ref,
    wraps.map(({ kekId }) => kekId),
    'write',
  )
  const frames = createWrapFrames()
  const toOpen = wraps.map(({ envelope, kekId, rowBound }): WrapToOpen => {
    const kek = keks.get(kekId)
    if (kek?.record.purpose !== 'wrap') throw new FieldsealError('ERR_KEY_NOT_FOUND', { tenant: facts.tenant, kekId })
    return { envelope, frame: frames.toOpen(kek, envelope, place), rowId: rowBound ? facts.rowId : undefined }
  })
  const failed = () => new FieldsealError('ERR_DECRYPT_FAILED', { model: map.id, tenant: facts.tenant })
  const deks = openDeks(toOpen, nodeEngine)
  try {
    if (openUnder(deks, cells, nodeEngine).includes(undefined)) throw failed()
    const renewed = wraps.map(({ kekId, rowBound }, i) => {
      if (kekId === newest.record.id) return undefined
      const dek = deks[i]
      if (dek === undefined) throw failed()
      return sealWrap(dek, frames.toSeal(newest, rowBound, place), toOpen[i]?.rowId, nodeEngine, deps.random)
    })
    return cells.flatMap(({ cell, parsed, wrap }) => {
      const after = renewed[wrap]
      if (after === undefined) return []
      const { field, mapKeys } = cell
      const mapped = mapKeys === undefined ? {} : { mapKeys }
      return [{ field, ...mapped, before: asEnvelope(parsed.bytes), after: withWrap(parsed.bytes, after) }]
    })
  } finally {
    for (const dek of deks) dek?.fill(0)
  }
}

/** Replaces bytes 3–15 and 18–83; 16, 17 and the value stay. */
function withWrap(envelope: Buffer, wrap: Buffer): Envelope {
  const out = Buffer.from(envelope)
  wrap.copy(out, AT.keyId, AT.keyId, WRAPPED_HEADER_BYTES)
  wrap.copy(out, KEK_AT.salt, KEK_AT.salt, KEK_AT.value)
  return asEnvelope(out)
}

function asEnvelope(bytes: Buffer): Envelope {
  return bytes as Uint8Array as Envelope // parsed before
}
