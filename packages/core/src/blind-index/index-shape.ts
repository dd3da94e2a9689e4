import type { TokenPart } from './token.ts'

/** What the tokens of an index are made of. An annotation describes one shape, and with `next` the one that `reindex` moves to. */
export interface IndexShape {
  /** `id@version`, those of the components of a compound index joined by `+`. */
  readonly normalizer: string
  readonly bits: number
  /** Normalised components, one value per field; null when any value is null. @throws FieldsealError ERR_VALUE_INVALID */
  parts(values: readonly unknown[]): readonly TokenPart[] | null
}

/** A blind index as its annotation describes it. */
export interface IndexDescription {
  readonly model: string
  readonly index: string
  readonly acrossTenants: boolean
  /** The shape of now, and the one that `next` describes. */
  readonly shapes: readonly [IndexShape, next?: IndexShape]
}

/** The shape that first epochs are made in and `reindex` moves to. */
export function newestShape({ shapes: [now, next] }: IndexDescription): IndexShape {
  return next ?? now
}

/** The shape of a stored epoch, undefined where the annotation does not describe it. */
export function shapeOf(
  { shapes }: IndexDescription,
  { normalizer, bits }: Pick<IndexShape, 'normalizer' | 'bits'>,
): IndexShape | undefined {
  return shapes.find((shape) => shape?.normalizer === normalizer && shape.bits === bits)
}
