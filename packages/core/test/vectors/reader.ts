import { createSecretKey } from 'node:crypto'
import { nodeEngine } from '../../src/cipher/aead.ts'
import { expandKey, LABELS } from '../../src/cipher/hkdf.ts'
import { keyIdOf, parseEnvelope, type ParsedEnvelope } from '../../src/envelope/parse.ts'
import { envelopeFromText } from '../../src/envelope/text-form.ts'
import { FieldsealError } from '../../src/errors/fieldseal-error.ts'
import { createWrapFrame } from '../../src/field/dek-wrap.ts'
import { openDirect } from '../../src/field/direct-value.ts'
import type { FieldPolicy } from '../../src/field/field-policy.ts'
import { openValues } from '../../src/field/open-rows.ts'
import { built } from '../../src/record/blind-index-of-model.ts'
import { defineModel } from '../../src/record/define-model.ts'
import { parseRow } from '../../src/record/parse-row.ts'
import type { RecordMap, Row } from '../../src/record/ports.ts'
import type { RowId } from '../../src/record/row-id.ts'
import type { FieldSettings, Place } from './samples.ts'
import { CODECS } from './value-json.ts'
import { unhex } from './vector-file.ts'

export type Accepted = 'kek' | 'direct' | 'unbound'

/** What a reader knows of the place in which it finds an envelope. */
export interface Reader extends Place, FieldSettings {
  readonly type: string
  readonly accepts: readonly Accepted[]
  readonly rowId?: string
  /** Of the only key that this reader has. */
  readonly keyId: string
  readonly kek?: string
  readonly dek?: string
}

export function mapOf(reader: Pick<Reader, 'model' | 'field' | 'type' | 'accepts'> & FieldSettings): RecordMap {
  const { model, field, type, accepts, padToBytes, encryptNull, values, formerTypes, maxBytes } = reader
  const options = Object.entries({ padToBytes, encryptNull, values, formerTypes, maxBytes })
  return defineModel(
    {
      id: model,
      options: { tenantBy: 'tenant', bindRow: accepts.includes('unbound') ? 'when-known' : 'require' },
      fields: [{ path: field, type, options: Object.fromEntries(options.filter(([, value]) => value !== undefined)) }],
      rowKey: [{ path: 'row key', kind: 'uuid' }],
    },
    { tenancy: 'multi', codecs: new Map(CODECS.map((codec) => [codec.type, codec])), hasSharedKeys: false },
  )
}

export function policyOf(reader: Parameters<typeof mapOf>[0]): FieldPolicy {
  const [field] = mapOf(reader).fields
  if (field === undefined) throw new Error('a model without field')
  return built.field(field).policy
}

export function rowOf(reader: Reader, stored: string | Uint8Array | null): Row<unknown> {
  const map = mapOf(reader)
  const { tenant, keyspace, rowId, mapKeys } = reader
  return {
    map,
    facts: { tenant, keyspace, rowId: rowId === undefined ? undefined : (unhex(rowId) as Uint8Array as RowId) },
    cells: map.fields.map((field) => ({ field, value: stored, ...(mapKeys === undefined ? {} : { mapKeys }) })),
  }
}

/** Opens a stored cell as core does. @throws FieldsealError whatever core throws */
export function openStored(reader: Reader, stored: string | Uint8Array | null): { plaintext: Buffer; value: unknown } {
  const policy = policyOf(reader)
  const { parsed, plaintext } = reader.accepts.includes('direct')
    ? openDirectCell(reader, policy, stored)
    : openKekCell(reader, stored)
  if (plaintext === undefined) throw new FieldsealError('ERR_DECRYPT_FAILED')
  return { plaintext, value: policy.decode(parsed, plaintext) }
}

function openKekCell(reader: Reader, stored: string | Uint8Array | null) {
  const row = rowOf(reader, stored)
  const { cells } = parseRow(row, (_column, error) => {
    throw error
  })
  const [cell] = cells
  if (cell === undefined) throw new Error('a database NULL')
  const { parsed, aad } = cell
  const envelope = parsed.bytes
  if (keyIdOf(envelope) !== reader.keyId) throw new FieldsealError('ERR_KEY_NOT_FOUND')
  const salt = envelope.subarray(18, 24)
  const wrapKey = expandKey(createSecretKey(unhex(reader.kek ?? '')), LABELS.wrap, salt)
  const frame = createWrapFrame(wrapKey, envelope.subarray(0, 16), salt, reader)
  const rowId = parsed.rowBound ? row.facts.rowId : undefined
  const [plaintext] = openValues([{ parsed, wrap: 0, aad }], [{ envelope, frame, rowId }], nodeEngine)
  return { parsed, plaintext }
}

/** Core has no record cipher for this layout yet: its checks of a cell, in the order of the specification. */
function openDirectCell(
  reader: Reader,
  policy: FieldPolicy,
  stored: string | Uint8Array | null,
): { parsed: ParsedEnvelope; plaintext: Buffer } {
  if (stored === null) throw new Error('a database NULL')
  const parsed = parseEnvelope(typeof stored === 'string' ? envelopeFromText(stored) : stored)
  if (!reader.accepts.includes(parsed.layout)) throw new FieldsealError('ERR_LAYOUT_REFUSED')
  policy.assertReadable(parsed)
  if (keyIdOf(parsed.bytes) !== reader.keyId) throw new FieldsealError('ERR_KEY_NOT_FOUND')
  const aad = policy.aad(parsed.padded ? 1 : 0, parsed.typeTag, reader.mapKeys)
  return { parsed, plaintext: openDirect(parsed, createSecretKey(unhex(reader.dek ?? '')), aad, nodeEngine) }
}
