import { tokenSlot, type TokenSlot } from '../blind-index/token.ts'
import { shapeOfToken } from '../blind-index/live-tokens.ts'
import { isFieldsealError } from '../errors/fieldseal-error.ts'
import { matchKeyOf } from './blind-index-of-model.ts'
import type { BlindIndex, IndexToken } from './ports.ts'

/** Values that make one token, as the shape of the token compares them. */
interface Sought {
  readonly keyOf: (values: readonly unknown[]) => string | null
  readonly keys: Set<string | null>
}

/** What one query looks for in one blind index, to compare with what it finds: tokens are bound to no row. */
export class SoughtTokens {
  readonly index: BlindIndex
  readonly #sought = new Map<string, Sought>()

  constructor(index: BlindIndex) {
    this.index = index
  }

  /** Where the tokens stand that it looks for; undefined as long as there are none. */
  get slot(): TokenSlot | undefined {
    const [first] = this.#sought.keys()
    return first === undefined ? undefined : tokenSlot(Uint8Array.of(first.charCodeAt(0)))
  }

  /** Takes the tokens of one value (one per field of the index), as `RecordCipher.tokens` gave them. */
  add(values: readonly unknown[], tokens: readonly IndexToken[]): void {
    for (const token of tokens) {
      const sought = this.#sought.get(name(token)) ?? { keyOf: this.#keyOf(token), keys: new Set() }
      sought.keys.add(sought.keyOf(values))
      this.#sought.set(name(token), sought)
    }
  }

  /**
   * Compares a row that may have been found: `hit` when one of its tokens was sought and its value is one of those that
   * make that token; `foreign` when its token was sought and its value is another.
   */
  verdict(stored: readonly (Uint8Array | null | undefined)[], values: readonly unknown[]): 'hit' | 'foreign' | 'other' {
    let found = false
    for (const token of stored) {
      const sought = token ? this.#sought.get(name(token)) : undefined
      if (sought === undefined) continue
      if (!holds(sought, values)) return 'foreign'
      found = true
    }
    return found ? 'hit' : 'other'
  }

  /** Values are equal as the epoch of the token holds them equal. */
  #keyOf(token: IndexToken): Sought['keyOf'] {
    const shape = shapeOfToken(token)
    return (values) => (shape === undefined ? this.index.matchKey(values) : matchKeyOf(shape, values))
  }
}

function holds({ keyOf, keys }: Sought, values: readonly unknown[]): boolean {
  try {
    return keys.has(keyOf(values))
  } catch (error) {
    // No token of this shape was ever made of such a value.
    if (isFieldsealError(error) && error.code === 'ERR_VALUE_INVALID') return false
    throw error
  }
}

function name(token: Uint8Array): string {
  return Buffer.from(token.buffer, token.byteOffset, token.byteLength).toString('latin1')
}
