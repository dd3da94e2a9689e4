import {
  type BuiltField,
  type BuiltIndex,
  createBlindIndex,
  type ShapeOptions,
  whyNoTokens,
} from './blind-index-of-model.ts'
import { assertBoolean, assertKnown, isRecord, orRefused, type Refuse } from './option-checks.ts'
import type { BlindIndexOptions, IndexShapeOptions } from './options.ts'
import type { FieldDeclaration } from './ports.ts'
import { uniqueness } from './uniqueness.ts'

export interface IndexSettings {
  readonly tenancy: 'single' | 'multi'
  /** False when an index across tenants has no CMKs to stand under. */
  readonly hasSharedKeys: boolean
}

const INDEX_OPTIONS: readonly (keyof BlindIndexOptions)[] = [
  'normalize',
  'unique',
  'bits',
  'acrossTenants',
  'acceptLeak',
  'next',
]
const SHAPE_OPTIONS: readonly (keyof IndexShapeOptions)[] = ['normalize', 'bits']
const DEFAULT_BITS = 128

/** The blind index of one field; undefined where it has none. */
export function defineIndex(
  field: BuiltField,
  { options }: FieldDeclaration,
  fields: readonly BuiltField[],
  { tenancy, hasSharedKeys }: IndexSettings,
  refuse: Refuse,
): BuiltIndex | undefined {
  const given = options.blindIndex
  if (given === undefined || given === false) return undefined
  if (given !== true && !isRecord(given)) refuse(field.id, 'blindIndex', 'true or { normalize, unique, … }')
  const index: BlindIndexOptions = given === true ? {} : given
  const no = (option: string, reason: string) => refuse(field.id, `blindIndex.${option}`, reason)
  assertKnown(index, INDEX_OPTIONS, no)
  const { next } = index
  if (next !== undefined && (typeof next !== 'object' || next === null)) no('next', '{ normalize, bits }')
  if (next !== undefined) assertKnown(next, SHAPE_OPTIONS, (option, reason) => no(`next.${option}`, reason))
  if (next !== undefined && field.state !== 'encrypted')
    no('next', "one change at a time: the field must be in state 'encrypted'")
  const { unique, where } = uniqueness(index.unique, fields, (reason) => no('unique', reason))
  assertBoolean(index.acrossTenants, () => no('acrossTenants', 'true or false'))
  const why = whyNoTokens(field)
  if (why !== undefined) no('blindIndex', why)
  const fewValues = field.type === 'boolean' || options.values !== undefined
  if (fewValues && index.acceptLeak !== 'few-values')
    no('acceptLeak', "so few values that equal tokens tell them; say acceptLeak: 'few-values' to index them anyway")
  if (index.acrossTenants === true && tenancy === 'single') no('acrossTenants', "tenancy is 'single'")
  if (index.acrossTenants === true && !hasSharedKeys)
    no('acrossTenants', 'needs sharedKeys: { cmks } beside a registry')
  const shapeOf = (of: IndexShapeOptions, prefix: string): ShapeOptions => {
    const bits = of.bits ?? DEFAULT_BITS
    if (!Number.isSafeInteger(bits) || bits % 8 !== 0 || bits < 16 || bits > 256)
      no(`${prefix}bits`, 'a multiple of 8 from 16 to 256')
    if (unique && bits < DEFAULT_BITS) no('unique', 'needs at least 128 bits: fewer would refuse different values')
    if (field.type !== 'string' && of.normalize !== undefined && of.normalize !== 'none')
      no(`${prefix}normalize`, 'only for strings')
    return { bits, normalize: [of.normalize] }
  }
  const now = shapeOf(index, '')
  const shapes = { now, next: next && shapeOf(next, 'next.') }
  const { acrossTenants = false } = index
  const built = { ...shapes, unique, uniqueWhere: where, acrossTenants }
  const made = orRefused(
    () => createBlindIndex(field.model, field.id, [field], built),
    (reason) => no('normalize', reason),
  )
  const [{ normalizer, bits }, later] = made.description.shapes
  if (later?.normalizer === normalizer && later.bits === bits) no('next', 'the index is so already')
  return made
}
