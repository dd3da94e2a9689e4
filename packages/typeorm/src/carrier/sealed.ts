import { inspect } from 'node:util'
import { FieldsealError } from '@fieldseal/core/adapter'
import type { SoughtTerm } from './sought-term.ts'
import type { WrittenRow } from './written-row.ts'

/** Which token column a token belongs to: odd or even epochs. */
export type Slot = 'odd' | 'even'

/** What a carrier stands for, until the statement runs. */
export type Part =
  | { readonly kind: 'value'; readonly row: WrittenRow; readonly cell: number }
  | { readonly kind: 'token'; readonly row: WrittenRow; readonly cell: number; readonly slot: Slot }
  | { readonly kind: 'sought'; readonly term: SoughtTerm; readonly slot: Slot }

let serial = 0

/**
 * The only thing that an encrypted column puts into a statement: opaque, replaced by ciphertext or a token in
 * `QueryRunner.query`. Whatever else gets hold of it learns nothing, and every driver that is handed one throws.
 */
export class Sealed {
  readonly #part: Part
  readonly #label: string

  constructor(part: Part) {
    this.#part = part
    // Numbered, so that two carriers never print alike: a cache keyed by them must not mistake one for another.
    this.#label = `[sealed #${++serial}]`
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

  toJSON(): string {
    return this.#label
  }

  [inspect.custom](): string {
    return this.#label
  }
}

function blocked(): FieldsealError {
  return new FieldsealError('ERR_PLAINTEXT_BLOCKED', {
    reason: 'an encrypted value was about to reach the driver as it is',
    hint: 'run the statement through the query builder or a QueryRunner of the DataSource',
  })
}
