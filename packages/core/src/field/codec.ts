/**
 * JS value ⇄ bytes of one type. Synchronous.
 *
 * `encode` throws a FieldsealError ERR_VALUE_INVALID without the value; `decode` gets authenticated bytes and throws
 * ERR_DECRYPT_FAILED for any that `encode` would not have made.
 */
export interface ValueCodec {
  /** Name by which a field declares it. */
  readonly type: string
  /** Type tag in the envelope: 1 string · 2 number · 3 boolean · 4 bigint · 5 date · 6 bytes · 7 json · 8 bson · 9 day. */
  readonly tag: number
  encode(value: unknown): Uint8Array
  decode(bytes: Uint8Array): unknown
  /** A text equal exactly when `encode` gives equal bytes. */
  compareKey(value: unknown): string
}
