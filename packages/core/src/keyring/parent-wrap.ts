import { lp } from '../bytes/lp.ts'
import { NONCE_BYTES, nodeEngine, TAG_BYTES } from '../cipher/aead.ts'
import { expandKey, LABELS } from '../cipher/hkdf.ts'
import type { RandomSource } from '../cipher/random.ts'
import { recordIdBytes, type KekId } from '../context/record-id.ts'
import { SALT_BYTES } from '../envelope/layout.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { KeyspaceRef } from '../keys/key-store.ts'
import { u32 } from '../keys/record-mac.ts'
import type { KekPurpose } from '../keys/records.ts'
import { KEY_LENGTH, SecretKey } from '../keys/secret-key.ts'
import type { LiveKek } from './live-kek.ts'

/** Provider name of a wrap by the tenant's own KEK. */
export const PARENT_PROVIDER = 'kek'
const BLOB_BYTES = SALT_BYTES + NONCE_BYTES + KEY_LENGTH + TAG_BYTES

/** Facts of a data subject's KEK that its wrap by the parent authenticates. */
export interface ChildFacts extends KeyspaceRef {
  readonly id: KekId
  readonly purpose: KekPurpose
  readonly version: number
}

/** salt 6 ‖ nonce 12 ‖ key 32 ‖ tag 16 under Expand(parent, LP("fieldseal/1/kek-wrap", salt), 32). */
export function wrapUnderParent(parent: LiveKek, child: ChildFacts, key: SecretKey, random: RandomSource): Uint8Array {
  const blob = Buffer.allocUnsafeSlow(BLOB_BYTES)
  random.fill(blob, 0, SALT_BYTES + NONCE_BYTES)
  const wrapKey = expandKey(parent.key.exposeKeyObject(), LABELS.kekWrap, blob.subarray(0, SALT_BYTES))
  nodeEngine.sealMany([
    { key: wrapKey, aad: childAad(parent, child), plaintext: key.exposeBytes(), out: blob, at: SALT_BYTES },
  ])
  return blob
}

/** @throws FieldsealError ERR_KEY_RECORD_INVALID when the blob was altered or belongs to other facts */
export function unwrapUnderParent(parent: LiveKek, child: ChildFacts, blob: Uint8Array): SecretKey {
  if (blob.length === BLOB_BYTES) {
    const wrapKey = expandKey(parent.key.exposeKeyObject(), LABELS.kekWrap, blob.subarray(0, SALT_BYTES))
    const job = { key: wrapKey, aad: childAad(parent, child), sealed: blob, start: SALT_BYTES, end: BLOB_BYTES }
    const [bytes] = nodeEngine.openMany([job])
    if (bytes !== undefined) return new SecretKey(bytes)
  }
  throw new FieldsealError('ERR_KEY_RECORD_INVALID', { tenant: child.tenant, kekId: child.id })
}

function childAad(parent: LiveKek, child: ChildFacts): Uint8Array {
  return lp(
    LABELS.kekWrapAad,
    recordIdBytes(child.id),
    parent.idBytes,
    child.app,
    child.tenant,
    child.keyspace,
    child.purpose,
    u32(child.version),
  )
}
