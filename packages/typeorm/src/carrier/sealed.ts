import { randomUUID } from 'node:crypto'
import { inspect } from 'node:util'
import { FieldsealError, type BlindIndex, type TokenSlot } from '@fieldseal/core/adapter'
import type { SoughtTerm } from './sought-term.ts'
import type { WrittenRow } from './written-row.ts'

/** What a carrier stands for, until the statement runs. */
export type Part =
  | { readonly kind: 'value'; readonly row: WrittenRow; readonly cell: number }
  | { readonly kind: 'token'; readonly row: WrittenRow; readonly index: BlindIndex; readonly slot: TokenSlot }
  | { readonly kind: 'sought'; readonly term: SoughtTerm; readonly slot: TokenSlot }
  /** For TypeORM's dirty check alone; may never be part of a statement. */
  | { readonly kind: 'compared'; readonly key: string | null }

/**
 * The only thing that an encrypted column puts into a statement: opaque, replaced by ciphertext or a token in
 * `QueryRunner.query`. Whatever else gets hold of it learns nothing, and every driver that is handed one throws.
 */
export class Sealed {
  readonly #part: Part
  #label: string | undefined

  constructor(part: Part) {
    this.#part = part
  }

  static isSealed(value: unknown): value is Sealed {
    return typeof value === 'object' && value !== null && #part in value
  }

  static partOf(sealed: Sealed): Part {
    return sealed.#part
  }

  toPostgres(): never {
    throw blocked()
  }

  toSqlString(): never {
    throw blocked()
  }

  toString(): never {
    throw blocked()
  }

  valueOf(): never {
    throw blocked()
  }

  [Symbol.toPrimitive](): never {
    throw blocked()
  }

  /** Two carriers never print alike: a cache keyed by what is printed must not mistake one for another. */
  toJSON(): string {
    return (this.#label ??= `[sealed ${randomUUID()}]`)
  }

  [inspect.custom](): string {
    return '[sealed]'
  }
}

/** What happens to a carrier outside of the ways that this package knows. */
export function blocked(): FieldsealError {
  return new FieldsealError('ERR_PLAINTEXT_BLOCKED', {
    reason: 'an encrypted value was about to reach the driver as it is',
    hint: 'run the statement through the query builder or a QueryRunner of the DataSource',
  })
}
