import { FieldsealError } from '@fieldseal/core/adapter'
import { InstanceChecker, type FindOperator } from 'typeorm'
import { SoughtTerm } from '../carrier/sought-term.ts'
import type { SealedColumn, TokenSlots } from '../entity-map/entity-model.ts'
import { startsLikeEnvelope } from '../entity-map/tripwire.ts'
import { marked } from '../guard/marks.ts'
import { assertValue } from '../write-path/comparable.ts'
import { compoundsWith, MAX_TUPLES } from './compound-terms.ts'
import { comparisons, nameOf, type ConditionPlace } from './condition-place.ts'

/** Results of a truncated index are filtered afterwards; that works for rows that must match, and for no others. */
const TRUNCATED_HINT =
  'the index is truncated: use one equality or In, without Not, Or, paging or counting, or an index of 128 bits'

/**
 * The SQL of a condition on an encrypted column, over its token columns.
 *
 * A value has a fixed number of parameters, whatever epochs are live: one for each slot, null where none is.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED for what equality of tokens cannot answer
 */
export function conditionSql(place: ConditionPlace, column: SealedColumn, value: unknown): string {
  return marked(new Condition(place, column).compile(value, false))
}

class Condition {
  readonly #place: ConditionPlace
  readonly #column: SealedColumn

  constructor(place: ConditionPlace, column: SealedColumn) {
    this.#place = place
    this.#column = column
  }

  compile(value: unknown, not: boolean): string {
    if (!InstanceChecker.isFindOperator(value)) return this.#equality([value], false, not)
    const operator = value as FindOperator<unknown>
    switch (operator.type) {
      case 'equal':
        return this.#equality([operator.value], false, not)
      case 'in':
        return this.#equality(operator.value as readonly unknown[], true, not)
      case 'not':
        return operator.child === undefined
          ? this.#equality([operator.value], false, !not)
          : this.compile(operator.child, !not)
      case 'isNull':
        return this.#isNull(not)
      case 'and':
      case 'or': {
        // De Morgan: a negation is pushed down to where it is exact.
        const alternatives = (operator.type === 'or') !== not
        const parts = (operator.value as readonly unknown[]).map((part) =>
          this.#within(alternatives, () => this.compile(part, not)),
        )
        return `(${parts.join(alternatives ? ' OR ' : ' AND ')})`
      }
      default:
        throw this.#refuse(
          kebabCase(operator.type),
          'encrypted values can be compared for equality only: Equal, In, Not, IsNull',
        )
    }
  }

  #equality(values: readonly unknown[], many: boolean, not: boolean): string {
    const { slots, field } = this.#column
    if (slots === undefined) throw this.#refuse('no-blind-index', this.#withoutIndexHint())
    for (const value of values) {
      if (value === null || value === undefined) throw this.#refuse('null-in-condition', 'use IsNull()')
      assertValue(field, value)
      field.compareKey(value) // refuses values of another type before any SQL
    }
    if (values.length === 0) return not ? '1=1' : '0=1' // as TypeORM renders In([])
    this.#assertTruncated(slots, not)
    return this.#match(slots, values, many, not)
  }

  #match(slots: TokenSlots, values: readonly unknown[], many: boolean, not: boolean): string {
    const { state, alias } = this.#place
    const tuples = values.map((value) => [value])
    const term = new SoughtTerm([this.#column], slots, tuples, many, state.requireContext(), alias)
    const [odd, even] = comparisons(this.#place, term)
    const plain = this.#plainMatch(values)
    if (!not && !state.negated) {
      const found = `(${odd} OR ${even})`
      return plain === undefined ? found : `((${found} AND ${plain.sealed}) OR ${plain.match})`
    }
    // A slot that holds nothing compares to null, which would swallow the whole negation.
    const byToken = `(COALESCE(${odd}, FALSE) OR COALESCE(${even}, FALSE))`
    const exact =
      plain === undefined
        ? byToken
        : `((${byToken} AND COALESCE(${plain.sealed}, FALSE)) OR COALESCE(${plain.match}, FALSE))`
    const present = this.#isStored(true)
    if (state.negated) return `CASE WHEN ${present} THEN ${not ? `NOT ${exact}` : exact} END`
    return `(${present} AND NOT ${exact})`
  }

  /**
   * While rows may hold plaintext, it is compared with the value itself, and where it stands it alone decides: a build
   * without Fieldseal leaves tokens behind that belong to older values, or to one that it took away.
   */
  #plainMatch(values: readonly unknown[]): { readonly sealed: string; readonly match: string } | undefined {
    const { field, plain, envelope, storage } = this.#column
    if (field.state === 'encrypted' || plain === undefined) return undefined
    const { conversions } = this.#place.state.installation
    const name = this.#name(plain)
    const stored = plain === envelope ? values : values.map((value) => conversions.persist(value, plain))
    const list = stored.map((value) => this.#place.createParameter(value)).join(', ')
    const isValue = `${name} IN (${list})`
    if (plain !== envelope)
      return { sealed: `(${name} IS NULL AND ${this.#name(envelope)} IS NOT NULL)`, match: isValue }
    const sealed = startsLikeEnvelope(name, storage)
    return { sealed, match: `(${isValue} AND NOT ${sealed})` }
  }

  #isStored(stored: boolean): string {
    const { envelope, plain, field } = this.#column
    const places = field.state === 'encrypted' || plain === undefined ? [envelope] : [...new Set([envelope, plain])]
    const tests = places.map((place) => `${this.#name(place)} IS ${stored ? 'NOT ' : ''}NULL`)
    return tests.length === 1 ? tests.join('') : `(${tests.join(stored ? ' OR ' : ' AND ')})`
  }

  #isNull(not: boolean): string {
    if (this.#column.field.encryptNull)
      throw this.#refuse('null-is-encrypted', 'nulls of this column are encrypted like other values')
    return this.#isStored(not)
  }

  #assertTruncated({ index }: TokenSlots, not: boolean): void {
    const { state, alias } = this.#place
    if (!index.truncated) return
    if (alias === undefined)
      throw this.#refuse(
        'truncated-index',
        'the index is truncated: find the rows, then update or delete them by their keys',
      )
    if (not || state.negated || state.alternatives > 0) throw this.#refuse('truncated-index', TRUNCATED_HINT)
  }

  #within<R>(alternatives: boolean, fn: () => R): R {
    const { state } = this.#place
    if (alternatives) state.alternatives++
    try {
      return fn()
    } finally {
      if (alternatives) state.alternatives--
    }
  }

  #name(column: { readonly databaseName: string }): string {
    return nameOf(this.#place, column)
  }

  #withoutIndexHint(): string {
    const ways = compoundsWith(this.#place.state, this.#column).map(
      ({ index, columns }) =>
        `, or ask for ${columns.map(({ column }) => column.propertyPath).join(', ')} together by equality or In, ${MAX_TUPLES} combinations at most: index ${index.id}`,
    )
    return `add a blindIndex to the column to find by it${ways.join('')}`
  }

  #refuse(reason: string, hint: string): FieldsealError {
    const { field } = this.#column
    return new FieldsealError('ERR_QUERY_UNSUPPORTED', { model: field.model, field: field.path, reason, hint })
  }
}

/** TypeORM's name of an operator as a reason: `moreThan` → `more-than`. */
function kebabCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}
