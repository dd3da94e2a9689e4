import type { Brackets, DataSource, ObjectLiteral, QueryRunner } from 'typeorm'
import type { QueryExpressionMap } from 'typeorm/query-builder/QueryExpressionMap.js'
import type { BuilderState } from '../query-rewrite/builder-state.ts'

/** The members of TypeORM's query builders that all of ours override or call; some are protected there. */
export interface BuilderMembers {
  readonly dataSource: DataSource
  readonly expressionMap: QueryExpressionMap
  readonly queryRunner?: QueryRunner
  escape(name: string): string
  createParameter(value: unknown): string
  createQueryBuilder(runner?: QueryRunner): BuilderMembers
  getWhereCondition(where: unknown): unknown
  getExistsCondition(subQuery: unknown): [string, unknown]
  getPredicates(where: ObjectLiteral): Generator<unknown, void, unknown>
  createWhereExpression(): string
  createCteExpression(): string
  getQueryAndParameters(): [string, unknown[]]
  getParameters(): ObjectLiteral
  getQuery(): string
  select(...args: readonly unknown[]): unknown
  insert(): unknown
  update(...args: readonly unknown[]): unknown
  delete(): unknown
  softDelete(): unknown
  restore(): unknown
  relation(...args: readonly unknown[]): unknown
}

/** One of our builders, seen from inside. */
export interface OwnBuilder extends BuilderMembers {
  state: BuilderState
}

/** Condition of brackets, which TypeORM runs with a builder of its own. */
export type BracketsLike = Pick<Brackets, 'whereFactory'>

/** Protected members are there at run time; this is the one place where we look past their visibility. */
export function membersOf(builder: object): BuilderMembers {
  return builder as BuilderMembers
}
