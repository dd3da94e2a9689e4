import { randomBytes } from 'node:crypto'
import {
  SoughtTokens,
  tokenSlot,
  type AdapterHost,
  type BlindIndex,
  type IndexToken,
  type OperationContext,
} from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'

/** Where the leaf of a searchable path keeps its tokens: `{ c: ciphertext, b: odd epochs, n: even epochs }`. */
export const SLOT_NAMES = { odd: 'b', even: 'n' } as const
export type SlotName = (typeof SLOT_NAMES)[keyof typeof SLOT_NAMES]

/** A token to look for, and the name under which leaves hold it. */
export interface FoundToken {
  readonly slot: SlotName
  readonly token: mongo.Binary
}

interface Term {
  readonly index: BlindIndex
  /** One for each of its fields. */
  readonly values: readonly unknown[]
}

/**
 * The tokens that a rewriting needs. Tokens take a key, which may have to be loaded, and rewriting is synchronous: it
 * runs once to learn what is asked for, and once more with the answers.
 */
export class TokenTerms {
  readonly #terms: Term[] = []
  readonly #context: OperationContext | undefined
  readonly #answers: readonly (readonly IndexToken[])[] | undefined
  #next = 0

  private constructor(context: OperationContext | undefined, answers?: readonly (readonly IndexToken[])[]) {
    this.#context = context
    this.#answers = answers
  }

  /** Whether an index can be asked in the caller's context: the keys of most belong to one tenant. */
  reaches({ acrossTenants }: BlindIndex): boolean {
    return this.#context !== undefined && (acrossTenants || typeof this.#context.tenant === 'string')
  }

  /** The token of values, one for each field of the index. @throws FieldsealError ERR_VALUE_INVALID when one does not fit */
  find(index: BlindIndex, values: readonly unknown[]): FoundToken {
    if (this.#answers === undefined) {
      index.matchKey(values) // a value that does not fit is an error before any key is asked for
      this.#terms.push({ index, values })
      return { slot: 'b', token: new mongo.Binary(new Uint8Array()) }
    }
    const [token] = this.#answers[this.#next++] ?? []
    // No token was ever stored. Nobody can have put there what nobody can guess.
    if (token === undefined) return { slot: 'b', token: new mongo.Binary(randomBytes(32)) }
    return { slot: SLOT_NAMES[tokenSlot(token)], token: new mongo.Binary(token, mongo.Binary.SUBTYPE_USER_DEFINED) }
  }

  /** Runs a rewriting. It is called once or twice and must do the same each time. */
  static async rewrite<R>(
    host: AdapterHost,
    given: OperationContext | undefined,
    run: (terms: TokenTerms) => R,
  ): Promise<{ readonly result: R; readonly sought: ReadonlyMap<BlindIndex, SoughtTokens> }> {
    const context = given ?? host.captureIfAny()
    const asked = new TokenTerms(context)
    const first = run(asked)
    if (asked.#terms.length === 0) return { result: first, sought: new Map() }
    const terms = asked.#terms
    const answers = await host.cipher.tokens(terms, context ?? host.capture())
    const sought = new Map<BlindIndex, SoughtTokens>()
    terms.forEach(({ index, values }, at) => {
      const ofIndex = sought.get(index) ?? new SoughtTokens(index)
      ofIndex.add(values, answers[at] ?? [])
      sought.set(index, ofIndex)
    })
    return { result: run(new TokenTerms(context, answers)), sought }
  }
}
