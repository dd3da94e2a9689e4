import type {
  BaseEntity,
  DataSource,
  DeleteQueryBuilder,
  EntityManager,
  InsertQueryBuilder,
  QueryBuilder,
  QueryRunner,
  RelationQueryBuilder,
  Repository,
  SelectQueryBuilder,
  TreeRepository,
  UpdateQueryBuilder,
} from 'typeorm'
import type { SoftDeleteQueryBuilder } from 'typeorm/query-builder/SoftDeleteQueryBuilder.js'
import type { MethodsOf, Patient } from './ward.ts'

/** The public methods of a class, by whether they can bring a value to the database or from it. */
export interface Methods {
  readonly of: string
  /** They stand in the table. */
  readonly told: readonly string[]
  /** They look at an entity or a builder in memory, are about the schema or the connection, or only other databases have them. */
  readonly aside: readonly string[]
}

/** Does not compile while a public method of `C`, which `Base` does not have, is missing: the error names it. */
function methods<C, Base = object>(of: string) {
  return <const L extends Own<C, Base>>(
    told: readonly L[],
    aside: readonly L[],
    ..._complete: [Exclude<Own<C, Base>, L>] extends [never] ? [] : [missing: Exclude<Own<C, Base>, L>]
  ): Methods => ({ of, told, aside })
}

type Own<C, Base> = Exclude<MethodsOf<C>, MethodsOf<Base>>
type Builder = QueryBuilder<Patient>

// biome-ignore format: lists
export const CLASSES: readonly Methods[] = [
  methods<Repository<Patient>>('Repository')(
    ['average', 'clear', 'count', 'countBy', 'createQueryBuilder', 'decrement', 'delete', 'deleteAll', 'exists', 'existsBy', 'extend', 'find',
      'findAndCount', 'findAndCountBy', 'findBy', 'findOne', 'findOneBy', 'findOneByOrFail', 'findOneOrFail', 'increment', 'insert', 'maximum',
      'minimum', 'preload', 'query', 'recover', 'remove', 'restore', 'save', 'softDelete', 'softRemove', 'sql', 'sum', 'update', 'updateAll', 'upsert'],
    ['create', 'getId', 'hasId', 'merge'],
  ),
  methods<EntityManager>('EntityManager')(
    ['average', 'clear', 'count', 'countBy', 'createQueryBuilder', 'decrement', 'delete', 'deleteAll', 'exists', 'existsBy', 'find', 'findAndCount',
      'findAndCountBy', 'findBy', 'findOne', 'findOneBy', 'findOneByOrFail', 'findOneOrFail', 'getRepository', 'increment', 'insert', 'maximum',
      'minimum', 'preload', 'query', 'recover', 'remove', 'restore', 'save', 'softDelete', 'softRemove', 'sql', 'sum', 'transaction', 'update',
      'updateAll', 'upsert', 'withRepository'],
    ['create', 'getId', 'getMongoRepository', 'getTreeRepository', 'hasId', 'merge', 'release'],
  ),
  methods<typeof BaseEntity>('BaseEntity')(
    ['average', 'clear', 'count', 'countBy', 'createQueryBuilder', 'delete', 'exists', 'existsBy', 'find', 'findAndCount', 'findAndCountBy',
      'findBy', 'findOne', 'findOneBy', 'findOneByOrFail', 'findOneOrFail', 'insert', 'maximum', 'minimum', 'preload', 'query', 'remove', 'save',
      'softRemove', 'sum', 'update', 'upsert'],
    ['create', 'getId', 'getRepository', 'hasId', 'merge', 'useDataSource'],
  ),
  methods<BaseEntity>('BaseEntity')(['recover', 'reload', 'remove', 'save', 'softRemove'], ['hasId']),
  methods<TreeRepository<Patient>, Repository<Patient>>('TreeRepository')(
    ['countAncestors', 'countDescendants', 'createAncestorsQueryBuilder', 'createDescendantsQueryBuilder', 'findAncestors', 'findAncestorsTree',
      'findDescendants', 'findDescendantsTree', 'findRoots', 'findTrees'],
    [],
  ),
  methods<Builder>('SelectQueryBuilder')(
    ['addCommonTableExpression', 'callListeners', 'clone', 'comment', 'execute', 'getParameters', 'getQuery', 'getQueryAndParameters', 'getSql',
      'select', 'setParameter', 'setParameters', 'setQueryRunner', 'useTransaction'],
    ['createQueryBuilder', 'delete', 'disableEscaping', 'escape', 'hasParameter', 'hasRelation', 'insert', 'relation', 'restore', 'softDelete', 'update'],
  ),
  methods<SelectQueryBuilder<Patient>, Builder>('SelectQueryBuilder')(
    ['addFrom', 'addGroupBy', 'addOrderBy', 'addSelect', 'andHaving', 'andWhere', 'andWhereExists', 'andWhereInIds', 'cache', 'distinct', 'distinctOn',
      'from', 'getCount', 'getExists', 'getMany', 'getManyAndCount', 'getOne', 'getOneOrFail', 'getRawAndEntities', 'getRawMany', 'getRawOne',
      'groupBy', 'having', 'innerJoin', 'innerJoinAndMapMany', 'innerJoinAndMapOne', 'innerJoinAndSelect', 'leftJoin', 'leftJoinAndMapMany',
      'leftJoinAndMapOne', 'leftJoinAndSelect', 'limit', 'loadAllRelationIds', 'loadRelationIdAndMap', 'maxExecutionTime', 'offset', 'orHaving',
      'orWhere', 'orWhereExists', 'orWhereInIds', 'orderBy', 'setFindOptions', 'setLock', 'setOnLocked', 'setOption', 'skip', 'stream', 'subQuery',
      'take', 'where', 'whereExists', 'whereInIds', 'withDeleted'],
    ['concatRelationMetadata', 'fromDummy', 'timeTravelQuery', 'useIndex'],
  ),
  methods<InsertQueryBuilder<Patient>, Builder>('InsertQueryBuilder')(
    ['into', 'orIgnore', 'orUpdate', 'output', 'returning', 'updateEntity', 'values', 'valuesFromSelect'],
    [],
  ),
  methods<UpdateQueryBuilder<Patient>, Builder>('UpdateQueryBuilder')(
    ['andWhere', 'andWhereInIds', 'orWhere', 'orWhereInIds', 'output', 'returning', 'set', 'updateEntity', 'where', 'whereEntity', 'whereInIds'],
    ['addOrderBy', 'limit', 'orderBy'],
  ),
  methods<DeleteQueryBuilder<Patient>, Builder>('DeleteQueryBuilder')(
    ['andWhere', 'andWhereInIds', 'from', 'orWhere', 'orWhereInIds', 'output', 'returning', 'where', 'whereInIds'],
    [],
  ),
  methods<SoftDeleteQueryBuilder<Patient>, Builder>('SoftDeleteQueryBuilder')(
    ['andWhere', 'andWhereInIds', 'from', 'orWhere', 'orWhereInIds', 'output', 'returning', 'updateEntity', 'where', 'whereEntity', 'whereInIds'],
    ['addOrderBy', 'limit', 'orderBy'],
  ),
  methods<RelationQueryBuilder<Patient>, Builder>('RelationQueryBuilder')(
    ['add', 'addAndRemove', 'loadMany', 'loadOne', 'remove', 'set'],
    ['of'],
  ),
  methods<DataSource>('DataSource')(
    ['createQueryBuilder', 'query', 'sql', 'transaction'],
    ['createEntityManager', 'createQueryRunner', 'defaultReplicationModeForReads', 'destroy', 'dropDatabase', 'getManyToManyMetadata', 'getMetadata', 'getMongoRepository',
      'getRepository', 'getTreeRepository', 'hasMetadata', 'initialize', 'runMigrations', 'setOptions', 'showMigrations', 'synchronize',
      'undoLastMigration'],
  ),
  methods<QueryRunner>('QueryRunner')(
    ['commitTransaction', 'query', 'rollbackTransaction', 'sql', 'startTransaction', 'stream'],
    ['addColumn', 'addColumns', 'afterMigration', 'beforeMigration', 'changeColumn', 'changeColumns', 'changeTableComment', 'clearDatabase',
      'clearSqlMemory', 'clearTable', 'connect', 'createCheckConstraint', 'createCheckConstraints', 'createDatabase', 'createExclusionConstraint',
      'createExclusionConstraints', 'createForeignKey', 'createForeignKeys', 'createIndex', 'createIndices', 'createPrimaryKey', 'createSchema',
      'createTable', 'createUniqueConstraint', 'createUniqueConstraints', 'createView', 'disableSqlMemory', 'dropCheckConstraint',
      'dropCheckConstraints', 'dropColumn', 'dropColumns', 'dropDatabase', 'dropExclusionConstraint', 'dropExclusionConstraints', 'dropForeignKey',
      'dropForeignKeys', 'dropIndex', 'dropIndices', 'dropPrimaryKey', 'dropSchema', 'dropTable', 'dropUniqueConstraint', 'dropUniqueConstraints',
      'dropView', 'enableSqlMemory', 'executeMemoryDownSql', 'executeMemoryUpSql', 'getCurrentDatabase', 'getCurrentSchema', 'getDatabases',
      'getMemorySql', 'getReplicationMode', 'getSchemas', 'getTable', 'getTables', 'getView', 'getViews', 'hasColumn', 'hasDatabase', 'hasSchema',
      'hasTable', 'release', 'renameColumn', 'renameTable', 'updatePrimaryKeys'],
  ),
]
