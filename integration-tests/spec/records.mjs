// "KEK records", "Direct records", "Key store table" and index records of docs/spec/envelope-v1.md.
import { readRecord } from './record-json.mjs'
import { unwrapLocalBlob } from './local-kms.mjs'
import {
  expand,
  fromBase64url,
  fromHexId,
  hmac,
  i64,
  lp,
  openGcm,
  refuse,
  same,
  u16,
  u32,
  u64,
  u8,
} from './primitives.mjs'

const NONE = Buffer.alloc(0)
const INVALID = 'ERR_KEY_RECORD_INVALID'

/** LP(facts); app, tenant and keyspace are what the reader expects, not what the record says. */
export function kekFacts(record, expected) {
  const instant = (value) => (value === undefined ? NONE : i64(value))
  return lp(
    fromHexId(record.id),
    'kek',
    expected.app,
    expected.tenant,
    expected.keyspace,
    record.purpose,
    u32(record.version),
    u64(record.revision),
    record.state,
    instant(record.createdAt),
    instant(record.notAfter),
    instant(record.destroyAt),
    record.parent === undefined ? NONE : fromHexId(record.parent),
    u8(record.compromised ? 1 : 0),
  )
}

export function kekRecordMac(kek, record, expected) {
  return hmac(expand(kek, lp('fieldseal/1/record')), kekFacts(record, expected))
}

export function kekContext({ app, tenant, keyspace }, purpose, id) {
  return { app, fieldseal: '1', tenant, keyspace, purpose, kek: id }
}

/**
 * "Reading a KEK", steps 1 to 7. `texts`: records of the key store; `reader`: { keyFile, cmks } and, for a look at what is
 * stored, anyState. `purpose`: the only one that will do, if given.
 */
export function readKek(texts, id, expected, reader, { purpose } = {}) {
  const records = texts.map(readRecord)
  const { app, tenant, keyspace } = expected
  const record = records.find(
    (one) =>
      one.kind === 'kek' && one.id === id && one.app === app && one.tenant === tenant && one.keyspace === keyspace,
  )
  if (record === undefined || (purpose !== undefined && record.purpose !== purpose)) refuse('key', `no KEK ${id}`)
  if (!reader.anyState) checkState(record)
  if ((record.parent === undefined) === keyspace.startsWith('subject:')) refuse(INVALID, 'parent and keyspace')
  const kek =
    record.parent === undefined
      ? unwrapByCmk(record, expected, reader)
      : unwrapByParent(
          record,
          expected,
          readKek(texts, record.parent, { app, tenant, keyspace: 'default' }, reader, { purpose: 'wrap' }),
        )
  if (!same(kekRecordMac(kek, record, expected), fromBase64url(record.mac))) refuse(INVALID, 'another MAC')
  return { kek, record }
}

function checkState({ state, denial }) {
  const words = [state, denial]
  if (words.includes('destroyed') || words.includes('pending-destruction')) refuse('ERR_KEY_ERASED', state)
  if (state === 'retired' || denial !== undefined) refuse('ERR_KEY_RETIRED', state)
}

function unwrapByCmk(record, expected, { keyFile, cmks, anyState = false }) {
  for (const uri of cmks) {
    const wrap = record.wraps.find((one) => one.provider === 'local' && one.uri === uri)
    if (wrap === undefined) continue
    const context = kekContext(expected, record.purpose, record.id)
    return unwrapLocalBlob(keyFile, uri, fromBase64url(wrap.blob), context, { anyState })
  }
  return refuse('ERR_KMS_CONFIG', `no configured CMK has wrapped ${record.id}`)
}

export function subjectAad(record, { app, tenant, keyspace }) {
  const ids = [fromHexId(record.id), fromHexId(record.parent)]
  return lp('fieldseal/1/kek-wrap-aad', ...ids, app, tenant, keyspace, record.purpose, u32(record.version))
}

function unwrapByParent(record, expected, { kek: parent }) {
  const wrap = record.wraps.find((one) => one.provider === 'kek' && one.uri === record.parent)
  const blob = wrap === undefined ? NONE : fromBase64url(wrap.blob)
  if (blob.length !== 66) refuse(INVALID, 'no wrap by the parent')
  const wrapKey = expand(parent, lp('fieldseal/1/kek-wrap', blob.subarray(0, 6)))
  return openGcm(wrapKey, blob.subarray(6, 18), subjectAad(record, expected), blob.subarray(18), INVALID)
}

/** LP(all fields but the MAC), of what the reader expects where it expects something. */
export function indexFacts(record, expected) {
  return lp(
    expected.tenant,
    expected.model,
    expected.index,
    u8(record.epoch),
    fromHexId(record.kekId),
    record.normalizer,
    u16(record.bits),
    record.role,
    fromHexId(record.id),
    'index',
    expected.app,
    u64(record.revision),
  )
}

export function indexRecordMac(indexKek, record, expected) {
  return hmac(expand(indexKek, lp('fieldseal/1/index-record')), indexFacts(record, expected))
}

/** Steps 1 to 4 of an index record. `described`: { model, index, normaliser, bits }, as the annotation says. */
export function readIndexRecord(text, described, { app, tenant }, texts, reader) {
  const record = readRecord(text)
  const { model, index, normaliser, bits } = described
  const isIts = record.kind === 'index' && record.app === app && record.tenant === tenant
  if (!isIts || record.model !== model || record.index !== index) refuse('key', 'a record of something else')
  if (record.normalizer !== normaliser || record.bits !== bits) refuse('ERR_INDEX_UNKNOWN', 'not as described')
  const { kek, record: kekRecord } = readKek(texts, record.kekId, { app, tenant, keyspace: 'default' }, reader)
  if (kekRecord.purpose !== 'index') refuse(INVALID, 'not an index KEK')
  const mac = indexRecordMac(kek, record, { app, tenant, model, index })
  if (!same(mac, fromBase64url(record.mac))) refuse(INVALID, 'another MAC')
  if (record.role === 'old') refuse('ERR_INDEX_UNKNOWN', 'an epoch that is not live')
  return { kek, record }
}

/** The columns beside `record`. */
export function columnsOf(record) {
  const { id, kind, app, tenant, rowVersion } = record
  const place = {
    kek: () => [record.keyspace, record.purpose, record.version],
    index: () => [record.model, record.index, record.epoch],
    direct: () => [record.keyspace, record.provider, record.uri],
  }[kind]()
  const keyspace = kind === 'index' ? 'default' : record.keyspace
  return {
    id,
    slot: JSON.stringify([kind, app, tenant, ...place]),
    kind,
    app,
    tenant,
    keyspace,
    row_version: rowVersion,
  }
}
