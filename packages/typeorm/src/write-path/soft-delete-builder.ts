import type { DataSource, ObjectLiteral, QueryBuilder, QueryRunner, UpdateResult } from 'typeorm'
import { SoftDeleteQueryBuilder } from 'typeorm/query-builder/SoftDeleteQueryBuilder.js'
import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { stateFrom, type BuilderState } from '../query-rewrite/builder-state.ts'
import { equip } from '../query-rewrite/equip.ts'
import { confine, returnedBy, runRemoval } from './confine.ts'

/** Soft deletes and restores by criteria: conditions on tokens, confined to the caller's tenant. */
export class FieldsealSoftDeleteQueryBuilder<E extends ObjectLiteral> extends SoftDeleteQueryBuilder<E> {
  static {
    equip(this)
  }
  state: BuilderState

  constructor(source: DataSource | QueryBuilder<ObjectLiteral>, runner?: QueryRunner) {
    super(source as DataSource, runner) // TypeORM takes either
    this.state = stateFrom(source, this.dataSource)
  }

  override execute(): Promise<UpdateResult> {
    return runRemoval(this as unknown as OwnBuilder, () => super.execute())
  }

  protected override getReturningColumns(): ColumnMetadata[] {
    return returnedBy(this as unknown as OwnBuilder, super.getReturningColumns())
  }

  protected override createUpdateExpression(): string {
    confine(this as unknown as OwnBuilder)
    return super.createUpdateExpression()
  }
}
