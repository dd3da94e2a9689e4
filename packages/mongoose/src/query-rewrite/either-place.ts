import { refuseQuery } from './refuse.ts'
import { isDoc, isOperators, type Doc } from '../bson/documents.ts'

/** A condition on a path whose value stands in one of two places: sealed at its own path, or as plaintext beside it. */
export interface EitherPlace {
  readonly model: string
  readonly path: string
  readonly plainPath: string
  /** Tokens stand beside the envelope, and may be left without it: by a build that took the plaintext away. */
  readonly isLeaf: boolean
  /** The path crosses an array, so that a condition may be met by several elements together. */
  readonly spread: boolean
  /** The condition on tokens that meets one of some values. @throws FieldsealError where the path cannot be searched */
  readonly sealed: (values: readonly unknown[], negated: boolean) => Doc
}

const LISTS: readonly string[] = ['$in', '$nin']

/**
 * Equality is (token or old plaintext), and a negation negates all of it. Where plaintext stands it alone decides: a build
 * without Fieldseal leaves tokens behind that belong to older values.
 *
 * @returns conditions that all have to be met
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED
 */
export function eitherPlace(value: unknown, at: EitherPlace, negated = false): Doc[] {
  if (!isOperators(value)) return [equal([value], at, negated)]
  return Object.entries(value).map(([operator, operand]): Doc => {
    if (operator === '$eq') return equal([operand], at, negated)
    if (operator === '$ne') return { $nor: [equal([operand], at, true)] }
    if (LISTS.includes(operator)) {
      const values = Array.isArray(operand) ? (operand as unknown[]) : [operand]
      const isNegated = operator === '$nin'
      const found = equal(values, at, negated || isNegated)
      return isNegated ? { $nor: [found] } : found
    }
    if (operator === '$all' && Array.isArray(operand) && operand.length > 0)
      return { $and: operand.map((each) => equal([each], at, true)) }
    if (operator === '$exists') {
      const exists = { $or: [...sealedThere(at), { [at.plainPath]: { $exists: true } }] }
      return operand ? exists : { $nor: [exists] }
    }
    if (operator === '$not' && isDoc(operand)) return { $nor: [{ $and: eitherPlace(operand, at, true) }] }
    return refuseQuery(
      at.model,
      at.path,
      'range-on-encrypted',
      `${operator} needs the plaintext: only equality is answered`,
    )
  })
}

function equal(values: readonly unknown[], at: EitherPlace, negated: boolean): Doc {
  const { model, path, plainPath } = at
  const missing = values.filter((value) => value === null || value === undefined)
  if (missing.length === 0)
    return {
      $or: [
        { ...at.sealed(values, negated), [`${path}.c`]: { $exists: true }, [plainPath]: null },
        { [plainPath]: { $in: values } },
      ],
    }
  if (values.length > 1)
    return refuseQuery(model, path, 'unsupported-filter', 'null in a list of values: say it with $or')
  if (at.spread)
    return refuseQuery(model, path, 'unsupported-filter', 'null in elements while they are migrating: use $elemMatch')
  return { $and: [at.isLeaf ? { $nor: sealedThere(at) } : { [path]: null }, { [plainPath]: null }] }
}

/** What is met where something sealed stands: with tokens, or from before the path had an index. */
function sealedThere({ path, isLeaf }: EitherPlace): Doc[] {
  return isLeaf
    ? [{ [`${path}.c`]: { $exists: true } }, { [path]: { $type: 'binData' } }]
    : [{ [path]: { $exists: true } }]
}
