import { type BuiltField, type BuiltIndex, createBlindIndex, whyNoTokens } from './blind-index-of-model.ts'
import { assertId, assertKnown, isRecord, orRefused, type Refuse } from './option-checks.ts'
import type { CompoundIndexOptions } from './options.ts'
import type { FieldDeclaration } from './ports.ts'
import { uniqueness } from './uniqueness.ts'

const OPTIONS: readonly (keyof CompoundIndexOptions)[] = ['of', 'unique', 'normalize']
/** Never truncated: whoever searches for several values together wants one row. */
const BITS = 128

/** The fields of a model, and how they were declared, in the same order. */
export interface DeclaredFields {
  readonly model: string
  readonly fields: readonly BuiltField[]
  readonly declared: readonly FieldDeclaration[]
}

/** The indexes over several fields that a model declares. */
export function defineCompoundIndexes(given: unknown, declared: DeclaredFields, refuse: Refuse): readonly BuiltIndex[] {
  if (given === undefined) return []
  if (!isRecord(given)) return refuse(undefined, 'compoundIndexes', '{ id: { of: [property, …], unique } }')
  return Object.entries(given).map(([id, options]: [string, unknown]) => defineCompound(id, options, declared, refuse))
}

function defineCompound(
  id: string,
  given: unknown,
  { model, fields, declared }: DeclaredFields,
  refuse: Refuse,
): BuiltIndex {
  const no = (option: string, reason: string) => refuse(id, `compoundIndexes.${option}`, reason)
  if (!isRecord(given)) return refuse(id, 'compoundIndexes', '{ of: [property, …], unique }')
  assertKnown(given, OPTIONS, no)
  assertId(id, (reason) => no('id', reason))
  if (fields.some((field) => field.id === id))
    no('id', 'a field has this id, and the tokens of both would have one key')
  const { of, unique: givenUnique, normalize = {} } = given as CompoundIndexOptions // checked below
  if (!Array.isArray(of) || of.length < 2 || new Set(of).size !== of.length)
    return no('of', 'two or more different properties')
  const components = of.map((path: unknown) => {
    const at = fields.findIndex((field) => field.path === path)
    const [field, options] = [fields[at], declared[at]?.options]
    if (field === undefined || options === undefined) return no('of', 'names a property that is not encrypted')
    const why = unfit(field)
    if (why !== undefined) no('of', `${field.path}: ${why}`)
    return { field, fewValues: field.type === 'boolean' || options.values !== undefined }
  })
  if (components.every(({ fewValues }) => fewValues)) no('of', 'all have so few values that equal tokens tell them')
  if (!isRecord(normalize)) no('normalize', '{ property: normaliser }')
  for (const [path, choice] of Object.entries(normalize)) {
    const component = components.find(({ field }) => field.path === path)
    if (component === undefined) return no('normalize', `${path} is not among its properties`)
    if (component.field.type !== 'string' && choice !== 'none') no('normalize', `${path} is no string`)
  }
  const { unique, where } = uniqueness(givenUnique, fields, (reason) => no('unique', reason))
  const indexed = components.map(({ field }) => field)
  const now = { bits: BITS, normalize: indexed.map(({ path }) => normalize[path]) }
  const options = { now, unique, uniqueWhere: where, acrossTenants: false }
  return orRefused(
    () => createBlindIndex(model, id, indexed, options),
    (reason) => no('normalize', reason),
  )
}

/** Why a field cannot be a component. */
function unfit(field: BuiltField): string | undefined {
  // Beside plaintext nobody but the database knows what is stored: tokens could not follow it.
  const moving =
    field.state === 'encrypted' ? undefined : "one change at a time: the field must be in state 'encrypted'"
  return whyNoTokens(field) ?? moving
}
