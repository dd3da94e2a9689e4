import type { KeyObject } from 'node:crypto'
import { lp } from '../bytes/lp.ts'
import { expandKey, hmac, LABELS } from '../cipher/hkdf.ts'
import { u16 } from '../keys/record-mac.ts'

declare const token: unique symbol
/** Blind-index token: its first byte is the epoch, which names the slot: odd in the first column, even in the next. */
export type IndexToken = Uint8Array & { readonly [token]: true }

/** What an index key is derived for. `normalizer` is `id@version`, joined by `+` for a compound index. */
export interface IndexKeyFacts {
  readonly model: string
  readonly index: string
  readonly epoch: number
  readonly normalizer: string
  readonly bits: number
}

/** One component of a token: a type tag and normalised bytes. */
export interface TokenPart {
  readonly tag: number
  readonly bytes: Uint8Array
}

/** Expand(index KEK, LP("fieldseal/1/index", modelId, indexId, u8 epoch, "normaliser@version", u16 bits), 32). */
export function indexKey(kek: KeyObject, { model, index, epoch, normalizer, bits }: IndexKeyFacts): KeyObject {
  return expandKey(kek, LABELS.index, model, index, Uint8Array.of(epoch), normalizer, u16(bits))
}

/** u8 epoch ‖ leftmost bits/8 bytes of HMAC-SHA-256(indexKey, LP(LP(u8 tag, normalised bytes), …)). */
export function indexToken(key: KeyObject, epoch: number, bits: number, parts: readonly TokenPart[]): IndexToken {
  const message = lp(...parts.map(({ tag, bytes }) => lp(Uint8Array.of(tag), bytes)))
  const out = Buffer.allocUnsafeSlow(1 + bits / 8)
  out[0] = epoch
  hmac(key, message).copy(out, 1, 0, bits / 8)
  return out as Uint8Array as IndexToken // the only maker of tokens
}

/** Where a stored token stands: an epoch keeps its slot, odd epochs the first, even ones the second. */
export type TokenSlot = 'odd' | 'even'

/** The slot of a stored token, from its leading epoch byte. */
export function tokenSlot(token: Uint8Array): TokenSlot {
  return (token[0] ?? 0) % 2 === 1 ? 'odd' : 'even'
}
