import type {
  DataSource,
  ObjectLiteral,
  QueryBuilder,
  QueryRunner,
  SelectQueryBuilder,
  InsertQueryBuilder,
  UpdateQueryBuilder,
  DeleteQueryBuilder,
  RelationQueryBuilder,
} from 'typeorm'
import type { SoftDeleteQueryBuilder } from 'typeorm/query-builder/SoftDeleteQueryBuilder.js'

type AnyBuilder = QueryBuilder<ObjectLiteral>

/**
 * Makes our builder of each kind from any builder. Builders reach one another through this table only: their files
 * would import each other in a circle otherwise.
 */
export interface Builders {
  create(dataSource: DataSource, runner?: QueryRunner): SelectQueryBuilder<ObjectLiteral>
  select(source: AnyBuilder): SelectQueryBuilder<ObjectLiteral>
  insert(source: AnyBuilder): InsertQueryBuilder<ObjectLiteral>
  update(source: AnyBuilder): UpdateQueryBuilder<ObjectLiteral>
  delete(source: AnyBuilder): DeleteQueryBuilder<ObjectLiteral>
  softDelete(source: AnyBuilder): SoftDeleteQueryBuilder<ObjectLiteral>
  relation(source: AnyBuilder): RelationQueryBuilder<ObjectLiteral>
}
