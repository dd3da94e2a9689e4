import { FieldsealError } from '../errors/fieldseal-error.ts'
import { type LiveIndexKey, soughtEpoch } from './index-keys.ts'
import type { IndexDescription, IndexShape } from './index-shape.ts'
import { indexToken, type IndexToken, type TokenPart } from './token.ts'

export type PartsOf = (shape: IndexShape, values: readonly unknown[]) => readonly TokenPart[] | null

/** One token for every live epoch, each of its own shape; none for null. @throws FieldsealError ERR_VALUE_INVALID */
export function liveTokens(
  live: readonly LiveIndexKey[],
  values: readonly unknown[],
  partsOf: PartsOf = (shape, of) => shape.parts(of),
): IndexToken[] {
  const tokens: IndexToken[] = []
  let last: { readonly shape: IndexShape; readonly parts: readonly TokenPart[] | null } | undefined
  for (const { key, epoch, shape } of live) {
    if (last?.shape !== shape) last = { shape, parts: partsOf(shape, values) }
    if (last.parts !== null) tokens.push(indexToken(key, epoch, shape.bits, last.parts))
  }
  return tokens
}

// Symbol.for: an adapter may bring the other module system's copy of core.
const SHAPE: unique symbol = Symbol.for('@fieldseal/core:shape-of-token') as never

/**
 * The token to look for: of one epoch alone, whatever others are filled meanwhile.
 * @throws FieldsealError ERR_INDEX_UNKNOWN when no epoch is looked up
 */
export function soughtToken(
  live: readonly LiveIndexKey[],
  values: readonly unknown[],
  { model, index }: IndexDescription,
): IndexToken | undefined {
  const sought = soughtEpoch(live)
  if (sought === undefined)
    throw new FieldsealError('ERR_INDEX_UNKNOWN', { model, field: index, reason: 'no epoch is current' })
  const [token] = liveTokens([sought], values)
  return token && Object.defineProperty(token, SHAPE, { value: sought.shape })
}

/** The shape of a token that `soughtToken` made: what tells which values are equal to it. */
export function shapeOfToken(token: IndexToken): IndexShape | undefined {
  return Reflect.get(token, SHAPE) as IndexShape | undefined // set above only
}
