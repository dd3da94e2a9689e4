import { inspect } from 'node:util'
import {
  FieldsealError,
  SoughtTokens,
  tokenSlot,
  type BlindIndex,
  type IndexToken,
  type OperationContext,
  type TokenSlot,
  type TokenTerm,
} from '@fieldseal/core/adapter'
import type { SealedColumn, TokenSlots } from '../entity-map/entity-model.ts'

/** A builder that is kept and run again asks for its tokens again: the index may have moved since. Milliseconds. */
const TOKENS_FRESH_MS = 1_000

/** What one condition looks for in one blind index. Printed, it shows neither values nor tokens. */
export class SoughtTerm {
  /** Alias in whose rows it looks; undefined in statements that name no alias. */
  readonly alias: string | undefined
  /** In the order of the index's fields. */
  readonly columns: readonly SealedColumn[]
  readonly slots: TokenSlots
  readonly context: OperationContext
  /** True for `In`: the parameter is an array of tokens. */
  readonly many: boolean
  readonly #values: readonly (readonly unknown[])[]
  #tokens: readonly (readonly IndexToken[])[] | undefined
  #resolvedAt = 0
  #sought: SoughtTokens | undefined

  /** @param values what is looked for, each with one value per column */
  constructor(
    columns: readonly SealedColumn[],
    slots: TokenSlots,
    values: readonly (readonly unknown[])[],
    many: boolean,
    context: OperationContext,
    alias?: string,
  ) {
    this.columns = columns
    this.slots = slots
    this.context = context
    this.many = many
    this.alias = alias
    this.#values = values
  }

  get index(): BlindIndex {
    return this.slots.index
  }

  get resolved(): boolean {
    return this.#tokens !== undefined
  }

  /** Whether its tokens need not be asked for again. */
  get fresh(): boolean {
    return this.resolved && performance.now() - this.#resolvedAt < TOKENS_FRESH_MS
  }

  /** What core computes tokens of, one for each value. */
  toTerms(): TokenTerm[] {
    return this.#values.map((values) => ({ index: this.index, values }))
  }

  /** Takes the tokens of `toTerms()`, in its order. */
  resolve(tokens: readonly (readonly IndexToken[])[]): void {
    for (const ofValue of tokens) {
      for (const slot of ['odd', 'even'] as const) {
        // Live epochs of one parity would need two columns where there is one.
        if (ofValue.filter((token) => tokenSlot(token) === slot).length > 1) {
          throw new FieldsealError('ERR_INDEX_UNKNOWN', {
            model: this.index.model,
            field: this.index.id,
            reason: 'two live epochs share a slot',
          })
        }
      }
    }
    this.#tokens = tokens
    this.#resolvedAt = performance.now()
    if (this.#sought !== undefined) this.#compare(this.#sought, tokens) // a run under way may still compare with earlier ones
  }

  /** The parameter for one slot: a token, for `many` an array of tokens; null where no epoch of the slot is live. */
  parameter(slot: TokenSlot): Buffer | Buffer[] | null {
    const tokens = (this.#tokens ?? [])
      .flatMap((ofValue) => ofValue.filter((token) => tokenSlot(token) === slot))
      .map(toBuffer)
    return this.many ? tokens : (tokens[0] ?? null)
  }

  /**
   * Compares a row that may have been found by this term: `hit` when one of its tokens was sought and its value has one
   * of the values that make that token; `foreign` when its token was sought and its value is another.
   */
  verdict(tokens: readonly (Uint8Array | null | undefined)[], values: readonly unknown[]): 'hit' | 'foreign' | 'other' {
    this.#sought ??= this.#compare(new SoughtTokens(this.index), this.#tokens ?? [])
    return this.#sought.verdict(tokens, values)
  }

  #compare(sought: SoughtTokens, tokens: readonly (readonly IndexToken[])[]): SoughtTokens {
    this.#values.forEach((values, at) => sought.add(values, tokens[at] ?? []))
    return sought
  }

  toJSON(): string {
    return '[term redacted]'
  }

  [inspect.custom](): string {
    return '[term redacted]'
  }
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
