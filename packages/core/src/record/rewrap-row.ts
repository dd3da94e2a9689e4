import { nodeEngine } from '../cipher/aead.ts'
import type { RandomSource } from '../cipher/random.ts'
import { AT, type Envelope, KEK_AT, WRAPPED_HEADER_BYTES } from '../envelope/layout.ts'
import { keyIdOf } from '../envelope/parse.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { openDeks, openValues, type ValueToOpen } from '../field/open-rows.ts'
import { sealWrap } from '../field/seal-rows.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import { parseCell, valueToOpen, type ParsedCell } from './open-batch.ts'
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
  const ref = { app: deps.app, tenant: facts.tenant, keyspace: facts.keyspace }
  const place = { tenant: facts.tenant, keyspace: facts.keyspace, model: map.id }
  const newest = await deps.keyrings.toWrap(ref, 'wrap')
  const cells: ParsedCell[] = []
  for (const [column, cell] of row.cells.entries()) {
    const parsed = parseCell(row, cell)
    const kekId = parsed === null ? undefined : keyIdOf(parsed.bytes)
    if (parsed !== null && kekId !== undefined && kekId !== newest.record.id)
      cells.push({ column, cell, parsed, kekId })
  }
  const old = await deps.keyrings.toUnwrap(
    ref,
    cells.map(({ kekId }) => kekId),
    'write',
  )
  const frames = createWrapFrames()
  const values = cells.map((cell): ValueToOpen => {
    const kek = old.get(cell.kekId)
    if (kek === undefined) throw new FieldsealError('ERR_KEY_NOT_FOUND', { tenant: facts.tenant, kekId: cell.kekId })
    return valueToOpen(row, cell, frames.toOpen(kek, cell.parsed.bytes, place))
  })
  if (openValues(values, nodeEngine).includes(undefined))
    throw new FieldsealError('ERR_DECRYPT_FAILED', { model: map.id, tenant: facts.tenant })
  const deks = openDeks(values, nodeEngine)
  try {
    const wraps = new Map<Buffer, Buffer>()
    return cells.map(({ cell, parsed }, i) => {
      const dek = deks[i]
      if (dek === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED', { model: map.id, tenant: facts.tenant })
      let wrap = wraps.get(dek)
      if (wrap === undefined) {
        const frame = frames.toSeal(newest, parsed.rowBound, place)
        wraps.set(
          dek,
          (wrap = sealWrap(dek, frame, parsed.rowBound ? facts.rowId : undefined, nodeEngine, deps.random)),
        )
      }
      const { field, mapKeys } = cell
      return {
        field,
        ...(mapKeys === undefined ? {} : { mapKeys }),
        before: asEnvelope(parsed.bytes),
        after: withWrap(parsed.bytes, wrap),
      }
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
