import { createSecretKey } from 'node:crypto'
import { nodeEngine } from '../../src/cipher/aead.ts'
import { expand, expandKey, LABELS } from '../../src/cipher/hkdf.ts'
import { contextBytes } from '../../src/context/encryption-context.ts'
import { envelopeToText } from '../../src/envelope/text-form.ts'
import { BUILT_IN_CODECS } from '../../src/field/built-in-codecs.ts'
import type { ValueCodec } from '../../src/field/codec.ts'
import { createWrapFrame, kekHeader, wrapAad } from '../../src/field/dek-wrap.ts'
import { sealDirect } from '../../src/field/direct-value.ts'
import { createFieldPolicy } from '../../src/field/field-policy.ts'
import { sealRows } from '../../src/field/seal-rows.ts'
import { rowIdOf } from '../../src/record/row-id.ts'
import { scriptedRandom } from './scripted-random.ts'

export const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Tag 8 as raw bytes: the codec comes with the Mongoose adapter. */
export const RAW_BSON: ValueCodec = {
  type: 'bson',
  tag: 8,
  encode: (value) => Buffer.from(String(value), 'hex'),
  decode: hex,
  compareKey: String,
}
export const CODECS = [...BUILT_IN_CODECS, RAW_BSON]

/** A value as JSON: `$bigint`, `$date`, `$bytes` and `$number` name what JSON cannot. */
export const SAMPLES: readonly {
  readonly type: string
  readonly value: unknown
  readonly json: unknown
  readonly note?: string
}[] = [
  { type: 'string', value: 'Ada Lovelace', json: 'Ada Lovelace' },
  { type: 'string', value: '', json: '', note: 'empty' },
  { type: 'string', value: 'Zoë 🏥 fs.AAAA', json: 'Zoë 🏥 fs.AAAA', note: 'not ASCII, looks like an envelope' },
  { type: 'number', value: -0, json: { $number: '-0' } },
  { type: 'number', value: 1e21, json: 1e21 },
  { type: 'number', value: Number.NaN, json: { $number: 'NaN' } },
  { type: 'boolean', value: true, json: true },
  { type: 'boolean', value: false, json: false },
  { type: 'bigint', value: 0n, json: { $bigint: '0' } },
  { type: 'bigint', value: -129n, json: { $bigint: '-129' } },
  { type: 'bigint', value: 2n ** 64n, json: { $bigint: '18446744073709551616' } },
  { type: 'date', value: new Date(0), json: { $date: 0 } },
  { type: 'date', value: new Date(-8.64e15), json: { $date: -8.64e15 } },
  { type: 'bytes', value: Buffer.from('00ff10', 'hex'), json: { $bytes: '00ff10' } },
  {
    type: 'json',
    value: { b: [1, null, 'é'], a: { 10: true, 2: false } },
    json: { b: [1, null, 'é'], a: { 10: true, 2: false } },
  },
  { type: 'bson', value: '0c0000001076000100000000', json: { $bytes: '0c0000001076000100000000' } },
  { type: 'day', value: '1815-12-10', json: '1815-12-10' },
]

const PLACE = { tenant: 'clinic-7', keyspace: 'default', model: 'patients' }
const KEK_ID = Buffer.from('00112233445566778899aabb', 'hex')
const ROW = { kind: 'uuid', value: 'b5a1f6de-3f7c-4ac3-9a2e-4f0a8b0b5f01' } as const

export function policyOf(
  type: string,
  { padToBytes, encryptNull = false }: { padToBytes?: number | undefined; encryptNull?: boolean } = {},
) {
  const codec = CODECS.find((candidate) => candidate.type === type)
  if (codec === undefined) throw new Error(`no codec ${type}`)
  return createFieldPolicy({
    model: PLACE.model,
    id: 'secret',
    codec,
    formerCodecs: [],
    values: undefined,
    padToBytes,
    maxBytes: undefined,
    encryptNull,
  })
}

/** Every type in mode `kek`, bound and unbound, and in mode `direct`; with all inputs and intermediates. */
export function validEnvelopes(): readonly object[] {
  const samples = [
    ...SAMPLES.map((sample) => ({ ...sample, options: {} })),
    { type: 'string', value: 'padded', json: 'padded', note: 'padded to 32', options: { padToBytes: 32 } },
    { type: 'string', value: null, json: null, note: 'an encrypted null', options: { encryptNull: true } },
    { type: 'string', value: 'in a Map', json: 'in a Map', note: 'two map keys', options: {}, mapKeys: ['home', 'ü'] },
  ]
  return samples.flatMap((sample) => (['bound', 'unbound', 'direct'] as const).map((mode) => vector(sample, mode)))
}

interface Sample {
  readonly type: string
  readonly value: unknown
  readonly json: unknown
  readonly note?: string
  readonly options: { readonly padToBytes?: number; readonly encryptNull?: boolean }
  readonly mapKeys?: readonly string[]
}

function vector(sample: Sample, mode: 'bound' | 'unbound' | 'direct'): object {
  const id = [sample.type, JSON.stringify(sample.json), sample.note, mode].filter(Boolean).join(' ')
  const random = scriptedRandom(id)
  const policy = policyOf(sample.type, sample.options)
  const encoded = policy.encode(sample.value)
  if (encoded === null) throw new Error('a sample is not encrypted')
  const aad = policy.aad(encoded.valueFlags, encoded.typeTag, sample.mapKeys)
  const rowId = mode === 'unbound' ? undefined : rowIdOf([ROW])
  const common = {
    id,
    result: 'valid',
    ...(sample.note === undefined ? {} : { comment: sample.note }),
    mode,
    ...PLACE,
    field: 'secret',
    ...(sample.mapKeys === undefined ? {} : { mapKeys: sample.mapKeys }),
    ...(mode === 'unbound' ? {} : { rowKey: [ROW], rowId: hex(rowId ?? new Uint8Array(0)) }),
    type: sample.type,
    typeTag: encoded.typeTag,
    valueFlags: encoded.valueFlags,
    value: sample.json,
    plaintext: hex(encoded.plaintext),
    valueAAD: hex(aad),
  }
  if (mode === 'direct') {
    const dek = random.bytes(32)
    const blob = random.bytes(65)
    const envelope = sealDirect(
      { key: createSecretKey(dek), recordId: KEK_ID, label: '1', blob },
      { ...encoded, aad },
      nodeEngine,
      random,
    )
    const context = {
      app: 'clinic',
      fieldseal: '1',
      tenant: PLACE.tenant,
      keyspace: PLACE.keyspace,
      purpose: 'direct',
      kek: hex(KEK_ID),
      model: PLACE.model,
      row: `uuid:${ROW.value}`,
    }
    return {
      ...common,
      dek: hex(dek),
      blob: hex(blob),
      label: '1',
      context,
      contextBytes: hex(contextBytes(context)),
      envelope: hex(envelope),
      text: envelopeToText(envelope),
    }
  }
  const kekBytes = random.bytes(32)
  const kek = createSecretKey(kekBytes)
  const salt = random.bytes(6)
  const frame = createWrapFrame(expandKey(kek, LABELS.wrap, salt), kekHeader(KEK_ID, mode === 'bound'), salt, PLACE)
  const dek: number[] = []
  const recording = {
    ...random,
    fill: (target: Uint8Array, offset: number, length: number) => {
      random.fill(target, offset, length)
      if (dek.length === 0) dek.push(...target.subarray(offset, offset + length)) // the first draw is the DEK
    },
  }
  const [[envelope] = []] = sealRows([{ frame, rowId, values: [{ ...encoded, aad }] }], nodeEngine, recording)
  if (envelope === undefined) throw new Error('nothing was sealed')
  return {
    ...common,
    kekId: hex(KEK_ID),
    kek: hex(kekBytes),
    salt: hex(salt),
    wrapKey: hex(expand(kek, LABELS.wrap, salt)),
    wrapAAD: hex(wrapAad(frame, rowId)),
    dek: hex(Uint8Array.from(dek)),
    envelope: hex(envelope),
    text: envelopeToText(envelope),
  }
}
