import {
  DeleteQueryBuilder,
  type DataSource,
  type DeleteResult,
  type ObjectLiteral,
  type QueryBuilder,
  type QueryRunner,
} from 'typeorm'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { stateFrom, type BuilderState } from '../query-rewrite/builder-state.ts'
import { equip } from '../query-rewrite/equip.ts'
import { confine, returnedBy, runRemoval } from './confine.ts'

/** Deletes by criteria: conditions on tokens, confined to the caller's tenant. */
export class FieldsealDeleteQueryBuilder<E extends ObjectLiteral> extends DeleteQueryBuilder<E> {
  static {
    equip(this)
  }
  state: BuilderState

  constructor(source: DataSource | QueryBuilder<ObjectLiteral>, runner?: QueryRunner) {
    super(source as DataSource, runner) // TypeORM takes either
    this.state = stateFrom(source, this.dataSource)
  }

  override execute(): Promise<DeleteResult> {
    return runRemoval(this as unknown as OwnBuilder, () => super.execute())
  }

  protected override getReturningColumns(): ColumnMetadata[] {
    return returnedBy(this as unknown as OwnBuilder, super.getReturningColumns())
  }

  protected override createDeleteExpression(): string {
    confine(this as unknown as OwnBuilder)
    return super.createDeleteExpression()
  }
}
