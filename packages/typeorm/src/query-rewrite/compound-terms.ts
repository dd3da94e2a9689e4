import { InstanceChecker, Raw, type EntityMetadata, type FindOperator } from 'typeorm'
import { SoughtTerm } from '../carrier/sought-term.ts'
import type { CompoundIndex, SealedColumn } from '../entity-map/entity-model.ts'
import { marked } from '../guard/marks.ts'
import { assertValue } from '../write-path/comparable.ts'
import type { BuilderState } from './builder-state.ts'
import { comparisons, placeIn, type ConditionBuilder } from './condition-place.ts'

/** Most combinations of values that one condition looks for. */
export const MAX_TUPLES = 1_000

/** A compound index that criteria can be asked of, and the values of each column. */
interface Match {
  readonly compound: CompoundIndex
  readonly values: readonly (readonly unknown[])[]
}

/**
 * Conditions of one object that indexes over several columns answer together, by property: the first stands for all of its
 * index, the others are true. What is left is for the indexes of single columns.
 *
 * Under a negation there are none: a token that is missing does not tell which of the values is null.
 */
export function compoundConditions(
  builder: ConditionBuilder,
  metadata: EntityMetadata,
  where: object,
): ReadonlyMap<string, FindOperator<unknown>> {
  const conditions = new Map<string, FindOperator<unknown>>()
  const { state } = builder
  const compounds = state.installation.models().of(metadata)?.compounds ?? []
  if (compounds.length === 0 || state.negated) return conditions
  const given = new Map<string, unknown>(Object.entries(where))
  const widest = compounds.toSorted((a, b) => b.columns.length - a.columns.length)
  for (const compound of widest) {
    const properties = compound.columns.map(({ column }) => column.propertyPath)
    const match = matchOf(
      compound,
      properties.map((property) => given.get(property)),
    )
    if (match === undefined || properties.every((property) => conditions.has(property))) continue
    const [first = '', ...others] = properties.filter((property) => !conditions.has(property))
    conditions.set(
      first,
      Raw((aliasPath) => compoundSql(builder, aliasPath, first, match)),
    )
    for (const other of others)
      conditions.set(
        other,
        Raw(() => marked('1=1')),
      )
  }
  return conditions
}

/** The indexes over several columns that a column is a part of. */
export function compoundsWith(state: BuilderState, sealed: SealedColumn): readonly CompoundIndex[] {
  const model = state.installation.models().of(sealed.column.entityMetadata)
  return (model?.compounds ?? []).filter(({ columns }) => columns.includes(sealed))
}

function compoundSql(builder: ConditionBuilder, aliasPath: string, path: string, { compound, values }: Match): string {
  const place = placeIn(builder, aliasPath, path)
  const tuples = tuplesOf(values)
  if (tuples.length === 0) return marked('0=1') // as TypeORM renders In([])
  for (const [at, { field }] of compound.columns.entries())
    for (const value of values[at] ?? []) {
      assertValue(field, value)
      field.compareKey(value) // refuses values of another type before any SQL
    }
  const many = tuples.length > 1
  const context = place.state.requireContext()
  const term = new SoughtTerm(compound.columns, compound, tuples, many, context, place.alias)
  return marked(`(${comparisons(place, term).join(' OR ')})`)
}

function matchOf(compound: CompoundIndex, given: readonly unknown[]): Match | undefined {
  const values = given.map(soughtValues)
  const sought = values.filter((list) => list !== undefined)
  if (sought.length < values.length) return undefined
  const tuples = sought.reduce((product, list) => product * list.length, 1)
  return tuples > MAX_TUPLES ? undefined : { compound, values: sought }
}

/** The values that a condition is an equality with; undefined for any other. */
function soughtValues(condition: unknown): readonly unknown[] | undefined {
  if (!InstanceChecker.isFindOperator(condition)) return isMissing(condition) ? undefined : [condition]
  const { type, value } = condition as FindOperator<unknown>
  if (type === 'equal') return soughtValues(value)
  if (type !== 'in' || !Array.isArray(value) || value.some(isMissing)) return undefined
  return value.some((one) => InstanceChecker.isFindOperator(one)) ? undefined : (value as unknown[])
}

function isMissing(value: unknown): boolean {
  return value === null || value === undefined
}

function tuplesOf(values: readonly (readonly unknown[])[]): readonly (readonly unknown[])[] {
  return values.reduce<readonly (readonly unknown[])[]>(
    (tuples, list) => tuples.flatMap((tuple) => list.map((value) => [...tuple, value])),
    [[]],
  )
}
