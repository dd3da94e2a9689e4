import { createHash } from 'node:crypto'
import { inspect } from 'node:util'
import type { ErrorCode } from '../errors/codes.ts'

const brand: unique symbol = Symbol.for('@fieldseal/core:unreadable') as never

/**
 * Stands for a value that could not be opened, where the context says `onUnreadable: 'mark'`. It can never be written
 * back; assigning over it replaces the stored value without opening it.
 */
export class Unreadable {
  static {
    Object.defineProperty(this.prototype, brand, { value: true })
  }
  readonly code: ErrorCode
  readonly #digest: string

  constructor(code: ErrorCode, stored: Uint8Array | string) {
    this.code = code
    this.#digest = createHash('sha256').update(stored).digest('base64')
  }

  /** Equal for the same stored bytes, so that a loaded, unchanged row counts as unchanged. */
  compareKey(): string {
    return `unreadable:${this.#digest}`
  }

  toJSON(): string {
    return '[unreadable]'
  }

  /** As text it is `[object unreadable]`. A `toString` of its own would be taken for a value by Mongoose, which casts with it. */
  get [Symbol.toStringTag](): string {
    return 'unreadable'
  }

  [inspect.custom](): string {
    return `[unreadable: ${this.code}]`
  }
}

/** True for the sentinel of a value that could not be opened. */
export function isUnreadable(value: unknown): value is Unreadable {
  return typeof value === 'object' && value !== null && brand in value
}
