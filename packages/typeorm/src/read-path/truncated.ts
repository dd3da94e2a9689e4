import { FieldsealError } from '@fieldseal/core/adapter'
import type { WhereClause, WhereClauseCondition } from 'typeorm/query-builder/WhereClause.js'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import type { BuilderState } from '../query-rewrite/builder-state.ts'

/** True when a condition may find rows in vain: their values share a token without being equal. */
export function hasTruncated(state: BuilderState): boolean {
  return state.terms.some(({ index }) => index.truncated)
}

/**
 * Rows found in vain are dropped after decryption. That is right only where every row must match, and where nobody has
 * counted before.
 *
 * @throws FieldsealError ERR_QUERY_UNSUPPORTED
 */
export function assertTruncatedAnswerable({ state, expressionMap }: OwnBuilder): void {
  if (!hasTruncated(state)) return
  const { skip, take, limit, offset, wheres } = expressionMap
  const paged = [skip, take, limit, offset].some((value) => value !== undefined && value !== null)
  if (paged || !isConjunction(wheres)) throw refuseTruncated(state)
}

export function refuseTruncated(state: BuilderState): FieldsealError {
  const index = state.terms.find((term) => term.index.truncated)?.index
  return new FieldsealError('ERR_QUERY_UNSUPPORTED', {
    ...(index === undefined ? {} : { model: index.model, field: index.id }),
    reason: 'truncated-index',
    hint: 'the index is truncated: read the rows without paging, alternatives or negation and count them, or use an index of 128 bits',
  })
}

function isConjunction(clauses: readonly WhereClause[]): boolean {
  return clauses.every((clause, index) => (index === 0 || clause.type !== 'or') && isConjunctive(clause.condition))
}

function isConjunctive(condition: WhereClauseCondition): boolean {
  if (typeof condition === 'string') return true
  if (Array.isArray(condition)) return isConjunction(condition)
  if ('condition' in condition) return condition.operator === 'brackets' && isConjunctive(condition.condition)
  return condition.operator !== 'or'
}
