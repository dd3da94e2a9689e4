import type { BlindIndex, IndexToken } from './ports.ts'

/** What one query looks for in one blind index, to compare with what it finds: tokens are bound to no row. */
export class SoughtTokens {
  readonly index: BlindIndex
  readonly #keys = new Map<string, Set<string | null>>()

  constructor(index: BlindIndex) {
    this.index = index
  }

  /** Takes the tokens of one value (one per field of the index), as `RecordCipher.tokens` gave them. */
  add(values: readonly unknown[], tokens: readonly IndexToken[]): void {
    for (const token of tokens) {
      const known = this.#keys.get(name(token)) ?? new Set()
      this.#keys.set(name(token), known.add(this.index.matchKey(values)))
    }
  }

  /**
   * Compares a row that may have been found: `hit` when one of its tokens was sought and its value is one of those that
   * make that token; `foreign` when its token was sought and its value is another.
   */
  verdict(stored: readonly (Uint8Array | null | undefined)[], values: readonly unknown[]): 'hit' | 'foreign' | 'other' {
    let found = false
    for (const token of stored) {
      const sought = token ? this.#keys.get(name(token)) : undefined
      if (sought === undefined) continue
      if (!sought.has(this.index.matchKey(values))) return 'foreign'
      found = true
    }
    return found ? 'hit' : 'other'
  }
}

function name(token: Uint8Array): string {
  return Buffer.from(token.buffer, token.byteOffset, token.byteLength).toString('latin1')
}
