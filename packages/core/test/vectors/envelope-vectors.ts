import { createSecretKey } from 'node:crypto'
import { lp } from '../../src/bytes/lp.ts'
import { nodeEngine } from '../../src/cipher/aead.ts'
import { dekCommitment } from '../../src/cipher/commitment.ts'
import { expand, expandKey, LABELS } from '../../src/cipher/hkdf.ts'
import { contextBytes } from '../../src/context/encryption-context.ts'
import { envelopeToText } from '../../src/envelope/text-form.ts'
import { createWrapFrame, kekHeader, wrapAad } from '../../src/field/dek-wrap.ts'
import { sealDirect } from '../../src/field/direct-value.ts'
import type { EncodedValue } from '../../src/field/field-policy.ts'
import { sealRows } from '../../src/field/seal-rows.ts'
import { rowIdOf } from '../../src/record/row-id.ts'
import { APP, KEY_FILE, localUri, wrapLocally } from './key-material.ts'
import { kekOf } from './kek-record-vectors.ts'
import { type Accepted, policyOf } from './reader.ts'
import { type FieldSettings, type KeyColumn, type Place, PLACE, ROW, type Sample, SAMPLES } from './samples.ts'
import { namedBytes, type ScriptedRandom, scriptedRandom } from './scripted-random.ts'
import { CODECS, toJson } from './value-json.ts'
import { hex, unhex, type VectorFile, type VectorTest } from './vector-file.ts'

/** One value with all that it was made of. Bytes are hex. */
export interface EnvelopeVector extends VectorTest, Place, FieldSettings {
  readonly accepts: readonly Accepted[]
  readonly rowKey?: readonly KeyColumn[]
  readonly rowId?: string
  readonly type: string
  readonly typeTag: number
  readonly valueFlags: number
  readonly value: unknown
  readonly plaintext: string
  readonly valueFacts: string
  readonly valueAAD: string
  readonly valueNonce: string
  readonly keyId: string
  readonly header: string
  readonly dek: string
  readonly kek?: string
  readonly salt?: string
  readonly wrapKeyInfo?: string
  readonly wrapKey?: string
  readonly wrapAAD?: string
  readonly wrapNonce?: string
  readonly label?: string
  readonly blob?: string
  readonly context?: Readonly<Record<string, string>>
  readonly envelope: string
  readonly text: string
}

export const DIRECT_ID = namedBytes('direct record id', 12)
type Mode = 'bound' | 'unbound' | 'direct'
const ACCEPTS: Readonly<Record<Mode, readonly Accepted[]>> = {
  bound: ['kek'],
  unbound: ['kek', 'unbound'],
  direct: ['direct'],
}

export function validEnvelopes(): VectorFile {
  const shared: Sample = { type: 'string', value: 'first of two', comment: 'first value of one row write' }
  const second: Sample = { type: 'day', value: '1852-11-27', comment: 'second value of the same write: the same wrap' }
  return {
    algorithm: 'FIELDSEAL-ENVELOPE',
    header: [
      'Envelopes with all inputs and intermediate values; bytes are hex. Each stands as bytes (envelope) and as text form (text).',
      'A decoder opens both forms to `value`; an encoder with the given dek, salt and nonces makes the same bytes.',
      '`accepts`: the layouts that the model accepts, and whether it accepts unbound values. `value`: JSON; {"$bigint"}, {"$date"} (milliseconds), {"$bytes"} (hex) and {"$number"} stand for what JSON has no form for.',
      'In layout direct the blob is one of kms-local, under the CMK `cmk` of `keyFile`, where `cmk` is given; otherwise it is opaque and only the dek counts.',
    ],
    notes: {
      Padded: 'The padded flag is set: u32 true length, bytes, zeros.',
      EncryptedNull: 'True length 0xFFFFFFFF; readable only where the field encrypts nulls.',
      Long: 'More than one block.',
      MapKeys: 'The path crosses Maps: their keys stand in the AAD, outermost first.',
      StringKey: 'A key of kind string; never in layout direct, because the key appears in the KMS log.',
      SharedWrap: 'Bytes 2 to 15 and 18 to 83 are those of another value of the same row write.',
      Hint: 'Label and blob of an unusual length; the label is authenticated by nothing.',
      FormerType: 'The tag is that of a type which the field had before.',
    },
    testGroups: [
      {
        type: 'kek, bound to the row',
        tests: [...SAMPLES.map((sample) => kekVector(sample, 'bound')), ...oneWrite([shared, second]), formerType()],
      },
      { type: 'kek, bound to no row', tests: SAMPLES.map((sample) => kekVector(sample, 'unbound')) },
      {
        type: 'direct',
        keyFile: KEY_FILE,
        tests: [...SAMPLES.filter(mayBeDirect).map((sample) => directVector(sample)), ...unusualBlobs()],
      } as VectorFile['testGroups'][number],
    ],
  }
}

/** No keyspace per subject, and only row ids that may stand in a log. */
function mayBeDirect({ place, row = ROW }: Sample): boolean {
  return place?.keyspace?.startsWith('subject:') !== true && row.every(({ kind }) => kind !== 'string')
}

export function kekVector(sample: Sample, mode: 'bound' | 'unbound'): EnvelopeVector {
  const [vector] = kekVectors([sample], mode, `${sample.type} ${sample.comment}, ${mode}`)
  if (vector === undefined) throw new Error('nothing was sealed')
  return vector
}

/** Two values of one row that are written together share DEK and wrap. */
function oneWrite(samples: readonly Sample[]): readonly EnvelopeVector[] {
  return kekVectors(
    samples.map((sample, i) => ({ ...sample, flags: ['SharedWrap'], place: { field: `field-${i + 1}` } })),
    'bound',
    'one write',
  )
}

function formerType(): EnvelopeVector {
  const vector = kekVector(
    { type: 'string', value: '37', comment: 'a string, before its field became a bigint' },
    'bound',
  )
  return { ...vector, type: 'bigint', formerTypes: ['string'], flags: ['FormerType'] }
}

function kekVectors(samples: readonly Sample[], mode: 'bound' | 'unbound', seed: string): readonly EnvelopeVector[] {
  const random = scriptedRandom(seed)
  const described = samples.map((sample) => describe(sample, mode))
  const [first] = described
  if (first === undefined) return []
  const { tenant, keyspace, model } = first.common
  const { record, kek: kekBytes } = keyOf(tenant, keyspace)
  const keyId = unhex(record.id)
  const kek = createSecretKey(kekBytes)
  const salt = random.bytes(6)
  const header = kekHeader(keyId, mode === 'bound')
  const frame = createWrapFrame(expandKey(kek, LABELS.wrap, salt), header, salt, { tenant, keyspace, model })
  const rowId = mode === 'bound' ? first.rowId : undefined
  const values = described.map(({ encoded, aad }) => ({ ...encoded, aad }))
  const [envelopes = []] = sealRows([{ frame, rowId, values }], nodeEngine, random)
  const [, dek, wrapNonce, ...valueNonces] = random.drawn
  return described.map(({ common, encoded }, i) => {
    const envelope = envelopes[i]
    const valueNonce = valueNonces[i]
    if (dek === undefined || wrapNonce === undefined || valueNonce === undefined || envelope === undefined)
      throw new Error('nothing was sealed')
    return {
      ...common,
      keyId: record.id,
      kek: hex(kekBytes),
      header: hex(header),
      salt: hex(salt),
      wrapKeyInfo: hex(lp(LABELS.wrap, salt)),
      wrapKey: hex(expand(kek, LABELS.wrap, salt)),
      wrapAAD: hex(wrapAad(frame, rowId)),
      wrapNonce: hex(wrapNonce),
      dek: hex(dek),
      valueNonce: hex(valueNonce),
      plaintext: hex(encoded.plaintext),
      envelope: hex(envelope),
      text: envelopeToText(envelope),
      result: 'valid',
    }
  })
}

/** The KEK of a keyspace; that of the tenant's default keyspace stands in kek-records.json. */
function keyOf(tenant: string, keyspace: string) {
  const isFirst = tenant === PLACE.tenant && keyspace === PLACE.keyspace
  return kekOf(isFirst ? 'first' : `${tenant} ${keyspace}`, { tenant, keyspace })
}

interface DirectChoice {
  readonly label?: string
  readonly blob?: Uint8Array
}

export function directVector(sample: Sample, { label = '2', blob }: DirectChoice = {}): EnvelopeVector {
  const { common, encoded, aad } = describe(sample, 'direct')
  const random: ScriptedRandom = scriptedRandom(common.comment)
  const dek = random.bytes(32)
  const context = {
    app: APP,
    fieldseal: '1',
    tenant: common.tenant,
    keyspace: common.keyspace,
    purpose: 'direct',
    kek: hex(DIRECT_ID),
    model: common.model,
    row: kmsRow(common.rowKey ?? []),
  }
  const wrapped = blob ?? wrapLocally('clinic-7', context, dek, common.comment)
  const key = createSecretKey(dek)
  const value = { ...encoded, aad }
  const envelope = sealDirect({ key, recordId: DIRECT_ID, label, blob: wrapped }, value, nodeEngine, random)
  const header = envelope.subarray(0, 16)
  return {
    ...common,
    keyId: hex(DIRECT_ID),
    header: hex(header),
    dek: hex(dek),
    commitKey: hex(expand(key, LABELS.commitKey)),
    commitmentFacts: hex(lp(LABELS.dekCommit, header)),
    commitment: hex(dekCommitment(key, header)),
    ...(blob === undefined ? { cmk: localUri('clinic-7') } : {}),
    label,
    blob: hex(wrapped),
    context,
    contextBytes: hex(contextBytes(context)),
    valueNonce: hex(random.drawn[1] ?? Buffer.alloc(0)),
    plaintext: hex(encoded.plaintext),
    envelope: hex(envelope),
    text: envelopeToText(envelope),
    result: 'valid',
  } as EnvelopeVector
}

function unusualBlobs(): readonly EnvelopeVector[] {
  const sample = (comment: string): Sample => ({ type: 'string', value: 'ok', comment, flags: ['Hint'] })
  return [
    directVector(sample('no label, a blob of one byte'), { label: '', blob: Buffer.of(7) }),
    directVector(sample('a label of 64 bytes'), { label: 'projects/p/keys/'.repeat(4) }),
    directVector(sample('the longest blob'), { blob: namedBytes('the longest blob', 6_144) }),
  ]
}

/** A row id as a KMS context tells it. */
export function kmsRow(columns: readonly KeyColumn[]): string {
  const prefix = { integer: 'int', uuid: 'uuid', objectid: 'oid', string: '' } as const
  return columns.map(({ kind, value }) => `${prefix[kind]}:${String(value).toLowerCase()}`).join(',')
}

function bytewise(a: KeyColumn, b: KeyColumn): number {
  return Buffer.compare(Buffer.from(a.field), Buffer.from(b.field))
}

function describe(sample: Sample, mode: Mode) {
  const { type, value, flags = [], place, row = ROW, settings = {} } = sample
  const at = { ...PLACE, ...place }
  const accepts = ACCEPTS[mode]
  const policy = policyOf({ ...at, type, accepts, ...settings })
  const encoded = sample.unpadded ? unpadded(type, value) : policy.encode(value)
  if (encoded === null) throw new Error('a sample is not encrypted')
  const aad = policy.aad(encoded.valueFlags, encoded.typeTag, at.mapKeys)
  const { valueFlags, typeTag } = encoded
  const facts = lp(
    LABELS.value,
    Uint8Array.of(1),
    Uint8Array.of(valueFlags),
    Uint8Array.of(typeTag),
    at.model,
    at.field,
    ...(at.mapKeys ?? []),
  )
  const rowKey = [...row].sort(bytewise)
  const rowId = rowIdOf(rowKey)
  if (rowId === undefined) throw new Error('a key without canonical form')
  const common = {
    comment: `${type}, ${mode}: ${sample.comment}`,
    flags,
    accepts,
    ...at,
    ...(mode === 'unbound' ? {} : { rowKey, rowId: hex(rowId) }),
    type,
    ...settings,
    typeTag,
    valueFlags,
    value: toJson(type, value),
    valueFacts: hex(facts),
    valueAAD: hex(aad),
  }
  return { common, encoded, aad, rowId }
}

function unpadded(type: string, value: unknown): EncodedValue {
  const codec = CODECS.find((candidate) => candidate.type === type)
  if (codec === undefined) throw new Error(`no codec ${type}`)
  return { plaintext: codec.encode(value), valueFlags: 0, typeTag: codec.tag }
}
