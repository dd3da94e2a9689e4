declare const recordId: unique symbol
/** Id of a key-store record: 12 random bytes as 24 lower-case hex digits. */
export type RecordId = string & { readonly [recordId]: true }
/** A `RecordId` that names a KEK record, as it stands at bytes 3–14 of an envelope. */
export type KekId = RecordId

export const RECORD_ID_BYTES = 12

/** The id of 12 bytes. */
export function recordIdFrom(bytes: Uint8Array): RecordId {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex') as RecordId // the only maker besides isRecordId
}

export function isRecordId(text: unknown): text is RecordId {
  return typeof text === 'string' && /^[0-9a-f]{24}$/.test(text)
}

/** The 12 bytes of an id. */
export function recordIdBytes(id: RecordId): Buffer {
  return Buffer.from(id, 'hex')
}
