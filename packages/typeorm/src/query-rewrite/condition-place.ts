import { Sealed } from '../carrier/sealed.ts'
import type { SoughtTerm } from '../carrier/sought-term.ts'
import type { BuilderState } from './builder-state.ts'

/** A builder as the conditions need it. */
export interface ConditionBuilder {
  readonly state: BuilderState
  /** False where statements name columns without their alias. */
  readonly namesAlias: boolean
  escape(name: string): string
  parameter(value: unknown): string
}

/** What a condition needs of the builder it stands in. */
export interface ConditionPlace {
  readonly state: BuilderState
  /** Undefined in statements that name no alias. */
  readonly alias: string | undefined
  escape(name: string): string
  createParameter(value: unknown): string
}

/** Notes what a query looks for. @returns SQL that compares the tokens of each slot, null where it holds none */
export function comparisons(place: ConditionPlace, term: SoughtTerm): readonly [odd: string, even: string] {
  place.state.terms.push(term)
  const compare = (slot: 'odd' | 'even') => {
    const parameter = place.createParameter(new Sealed({ kind: 'sought', term, slot }))
    return `${nameOf(place, term.slots[slot])} = ${term.many ? `ANY(${parameter})` : parameter}`
  }
  return [compare('odd'), compare('even')]
}

/** SQL of a column. */
export function nameOf(place: ConditionPlace, { databaseName }: { readonly databaseName: string }): string {
  const name = place.escape(databaseName)
  return place.alias === undefined ? name : `${place.escape(place.alias)}.${name}`
}

/** @param path of the property that TypeORM renders as `aliasPath` */
export function placeIn(builder: ConditionBuilder, aliasPath: string, path: string): ConditionPlace {
  return {
    state: builder.state,
    alias: builder.namesAlias ? aliasPath.slice(0, -path.length - 1) : undefined,
    escape: (name) => builder.escape(name),
    createParameter: (parameter) => builder.parameter(parameter),
  }
}
