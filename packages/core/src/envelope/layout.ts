declare const envelope: unique symbol
/** Stored bytes of one encrypted value: header, wrapped DEK, nonce, ciphertext, tag. */
export type Envelope = Uint8Array & { readonly [envelope]: true }

/** Never the first byte of UTF-8 text. */
export const MAGIC = 0xf8
export const VERSION = 0x01
/** High nibble: key layout (0 kek, 1 direct, 2–3 reserved). Low nibble: AEAD of wrap and value (1 = AES-256-GCM). */
export const SUITE_KEK = 0x01
export const SUITE_DIRECT = 0x11
export const AEAD_AES_256_GCM = 0x01

export const WRAP_FLAG_ROW_BOUND = 0x01
export const VALUE_FLAG_PADDED = 0x01
export const MAX_TYPE_TAG = 9

/** Offsets of both layouts. `[a..b)` is half-open. */
export const AT = { magic: 0, version: 1, suite: 2, keyId: 3, wrapFlags: 15, valueFlags: 16, typeTag: 17 } as const
export const KEY_ID_BYTES = 12
/** Bytes 0–15: what a wrap and a commitment authenticate of the header. */
export const WRAPPED_HEADER_BYTES = 16
/** Layout `kek`: salt, nonce, wrapped DEK, tag; then the value. */
export const KEK_AT = { salt: 18, nonce: 24, wrapped: 36, tag: 68, value: 84 } as const
export const SALT_BYTES = 6
/** Layout `direct`: commitment, lengths of label and KMS blob, both of them; then the value. */
export const DIRECT_AT = { commitment: 18, labelLength: 50, blobLength: 51, label: 53 } as const
export const MAX_LABEL_BYTES = 64
export const MAX_BLOB_BYTES = 6_144
/** Nonce and tag of the value: the last 28 + n bytes of every envelope are the value part. */
export const VALUE_OVERHEAD = 28
/** An envelope of layout `kek` is 112 + n bytes long. */
export const KEK_OVERHEAD = KEK_AT.value + VALUE_OVERHEAD

/** u32 true length before padded bytes; the mark of an encrypted null. */
export const PAD_HEADER_BYTES = 4
export const NULL_LENGTH = 0xffff_ffff
export const MAX_PAD_BYTES = 65_536
