import { RelationQueryBuilder, type DataSource, type ObjectLiteral, type QueryBuilder, type QueryRunner } from 'typeorm'
import { stateFrom, type BuilderState } from '../query-rewrite/builder-state.ts'
import { equip } from '../query-rewrite/equip.ts'

/** Sets foreign keys, which are never encrypted; the statements it makes are ours. */
export class FieldsealRelationQueryBuilder<E extends ObjectLiteral> extends RelationQueryBuilder<E> {
  static {
    equip(this)
  }
  state: BuilderState

  constructor(source: DataSource | QueryBuilder<ObjectLiteral>, runner?: QueryRunner) {
    super(source as DataSource, runner) // TypeORM takes either
    this.state = stateFrom(source, this.dataSource)
  }
}
