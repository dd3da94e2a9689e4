import { createHmac, createSecretKey, type KeyObject } from 'node:crypto'
import { lp } from '../bytes/lp.ts'

/** Every label of format v1. Constants of the format: they stay `/1/` in later versions. */
export const LABELS = {
  wrap: 'fieldseal/1/wrap',
  wrapAad: 'fieldseal/1/wrap-aad',
  value: 'fieldseal/1/value',
  commitKey: 'fieldseal/1/commit-key',
  dekCommit: 'fieldseal/1/dek-commit',
  record: 'fieldseal/1/record',
  index: 'fieldseal/1/index',
  indexRecord: 'fieldseal/1/index-record',
  kekWrap: 'fieldseal/1/kek-wrap',
  kekWrapAad: 'fieldseal/1/kek-wrap-aad',
} as const

const FIRST_BLOCK = Uint8Array.of(1)

/** HKDF-Expand-SHA-256 (RFC 5869 §2.3) to exactly one block: HMAC-SHA-256(key, info ‖ 0x01), 32 bytes owned by the caller. */
export function expandBlock(key: KeyObject, info: Uint8Array): Buffer {
  return createHmac('sha256', key).update(info).update(FIRST_BLOCK).digest()
}

/** `expandBlock` with info = LP(…), the only form in which format v1 derives keys. */
export function expand(key: KeyObject, ...info: readonly (string | Uint8Array)[]): Buffer {
  return expandBlock(key, lp(...info))
}

/** `expand` as a key for node:crypto; the bytes are zeroed. */
export function expandKey(key: KeyObject, ...info: readonly (string | Uint8Array)[]): KeyObject {
  const bytes = expand(key, ...info)
  try {
    return createSecretKey(bytes)
  } finally {
    bytes.fill(0)
  }
}

/** HMAC-SHA-256 (RFC 2104), 32 bytes. */
export function hmac(key: KeyObject, message: Uint8Array): Buffer {
  return createHmac('sha256', key).update(message).digest()
}
