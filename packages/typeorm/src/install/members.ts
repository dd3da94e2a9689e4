import { FieldsealError } from '@fieldseal/core/adapter'
import {
  DeleteQueryBuilder,
  InsertQueryBuilder,
  QueryBuilder,
  RelationQueryBuilder,
  SelectQueryBuilder,
  UpdateQueryBuilder,
  type DataSource,
} from 'typeorm'
import { DriverUtils } from 'typeorm/driver/DriverUtils.js'
import { CheckMetadata } from 'typeorm/metadata/CheckMetadata.js'
import { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import { IndexMetadata } from 'typeorm/metadata/IndexMetadata.js'
import { SoftDeleteQueryBuilder } from 'typeorm/query-builder/SoftDeleteQueryBuilder.js'

/** Everything of TypeORM's that this package overrides or calls beyond what an application does, by owner. */
export function reliedOn(
  dataSource: DataSource,
): readonly { readonly owner: string; readonly of: object; readonly members: readonly string[] }[] {
  const runner = dataSource.driver.createQueryRunner('master') // takes no connection
  return [
    {
      owner: 'QueryBuilder',
      of: QueryBuilder.prototype,
      members: [
        'createQueryBuilder',
        'clone',
        'escape',
        'createParameter',
        'getWhereCondition',
        'getPredicates',
        'getExistsCondition',
        'createWhereExpression',
        'createCteExpression',
        'createReturningExpression',
        'getReturningColumns',
        'getQueryAndParameters',
        'getParameters',
        'getMainTableName',
        'getTableName',
        'select',
        'insert',
        'update',
        'delete',
        'softDelete',
        'restore',
        'relation',
        'obtainQueryRunner',
      ],
    },
    {
      owner: 'SelectQueryBuilder',
      of: SelectQueryBuilder.prototype,
      members: [
        'getQuery',
        'getOne',
        'stream',
        'buildWhere',
        'buildEscapedEntityColumnSelects',
        'executeEntitiesAndRawResults',
        'executeCountQuery',
        'executeExistsQuery',
        'loadRawResults',
      ],
    },
    {
      owner: 'InsertQueryBuilder',
      of: InsertQueryBuilder.prototype,
      members: [
        'orUpdate',
        'execute',
        'getQuery',
        'createInsertExpression',
        'createUpsertConditionExpression',
        'getInsertedColumns',
        'getValueSets',
        'createColumnValueExpression',
      ],
    },
    {
      owner: 'UpdateQueryBuilder',
      of: UpdateQueryBuilder.prototype,
      members: [
        'where',
        'andWhere',
        'orWhere',
        'whereInIds',
        'andWhereInIds',
        'orWhereInIds',
        'whereEntity',
        'execute',
        'createUpdateExpression',
        'getValueSet',
      ],
    },
    { owner: 'DeleteQueryBuilder', of: DeleteQueryBuilder.prototype, members: ['execute', 'createDeleteExpression'] },
    {
      owner: 'SoftDeleteQueryBuilder',
      of: SoftDeleteQueryBuilder.prototype,
      members: ['execute', 'createUpdateExpression'],
    },
    { owner: 'RelationQueryBuilder', of: RelationQueryBuilder.prototype, members: ['of', 'set', 'add', 'remove'] },
    {
      owner: 'Driver',
      of: dataSource.driver,
      members: [
        'normalizeType',
        'preparePersistentValue',
        'prepareHydratedValue',
        'createGeneratedMap',
        'createQueryRunner',
        'createSchemaBuilder',
        'escape',
      ],
    },
    {
      owner: 'DataSource',
      of: dataSource,
      members: [
        'initialize',
        'buildMetadatas',
        'synchronize',
        'createQueryBuilder',
        'createEntityManager',
        'createQueryRunner',
        'manager',
      ],
    },
    {
      owner: 'EntityManager',
      of: dataSource.manager,
      members: ['save', 'transaction', 'findOneOrFail', 'findOneByOrFail'],
    },
    {
      owner: 'QueryRunner',
      of: runner,
      members: [
        'query',
        'stream',
        'connect',
        'startTransaction',
        'commitTransaction',
        'rollbackTransaction',
        'release',
      ],
    },
    { owner: 'DriverUtils', of: DriverUtils, members: ['buildAlias'] },
    { owner: 'ColumnMetadata', of: ColumnMetadata.prototype, members: ['build', 'getEntityValue', 'setEntityValue'] },
    { owner: 'IndexMetadata', of: IndexMetadata.prototype, members: ['build'] },
    { owner: 'CheckMetadata', of: CheckMetadata.prototype, members: ['build'] },
  ]
}

/**
 * Refuses to start on a TypeORM that lacks a member this package relies on: a missing hook would let plaintext through.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID naming the member
 */
export function assertMembers(dataSource: DataSource): void {
  for (const { owner, of, members } of reliedOn(dataSource)) {
    const missing = members.find((member) => !(member in of))
    if (missing === undefined) continue
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      reason: `this version of TypeORM has no ${owner}.${missing}`,
      hint: 'use a version of typeorm that this version of @fieldseal/typeorm supports',
    })
  }
}
