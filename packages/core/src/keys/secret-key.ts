import { createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto'
import { inspect } from 'node:util'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'

/** Bytes of a KEK or DEK; AES-256. */
export const KEY_LENGTH = 32

/**
 * A KEK or DEK in memory. Prints as `[SecretKey redacted]`; zeroed when disposed, and unusable from then on.
 *
 * `keyObject` is the same key as node:crypto wants it: Node 24.18–24.21 re-import a byte key on every call.
 */
export class SecretKey implements Disposable {
  readonly #bytes: Uint8Array
  #keyObject: KeyObject | undefined
  #disposed = false

  /**
   * Takes ownership of `bytes` (32); the caller must drop its reference.
   * @throws FieldsealError ERR_ARGUMENT_INVALID on another length
   */
  constructor(bytes: Uint8Array) {
    if (bytes.length !== KEY_LENGTH) {
      throw new FieldsealError('ERR_ARGUMENT_INVALID', {
        reason: `key must be ${KEY_LENGTH} bytes, got ${bytes.length}`,
      })
    }
    this.#bytes = bytes
  }

  get disposed(): boolean {
    return this.#disposed
  }

  /** Lends the key bytes. Named so that every use can be found with grep. @throws FieldsealError ERR_CLOSED when disposed */
  exposeBytes(): Uint8Array {
    this.#assertAlive()
    return this.#bytes
  }

  /** Lends the key to node:crypto. @throws FieldsealError ERR_CLOSED when disposed */
  exposeKeyObject(): KeyObject {
    this.#assertAlive()
    return (this.#keyObject ??= createSecretKey(this.#bytes))
  }

  /** Compares in constant time. */
  equals(other: SecretKey): boolean {
    return timingSafeEqual(this.exposeBytes(), other.exposeBytes())
  }

  /** A copy with a life of its own. */
  clone(): SecretKey {
    return new SecretKey(Uint8Array.from(this.exposeBytes()))
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#bytes.fill(0)
    this.#keyObject = undefined
  }

  toJSON(): string {
    return '[SecretKey redacted]'
  }

  toString(): string {
    return '[SecretKey redacted]'
  }

  [inspect.custom](): string {
    return '[SecretKey redacted]'
  }

  #assertAlive(): void {
    if (this.#disposed) throw new FieldsealError('ERR_CLOSED', { reason: ZEROED })
  }
}

const ZEROED = 'the key was zeroed'

/** True for the error of a key that was used after its disposal. */
export function isZeroedKey(error: unknown): boolean {
  return isFieldsealError(error) && error.code === 'ERR_CLOSED' && error.details.reason === ZEROED
}
