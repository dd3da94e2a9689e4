import { FieldsealSelectQueryBuilder } from '../read-path/select-builder.ts'
import { FieldsealDeleteQueryBuilder } from '../write-path/delete-builder.ts'
import { FieldsealInsertQueryBuilder } from '../write-path/insert-builder.ts'
import { FieldsealRelationQueryBuilder } from '../write-path/relation-builder.ts'
import { FieldsealSoftDeleteQueryBuilder } from '../write-path/soft-delete-builder.ts'
import { FieldsealUpdateQueryBuilder } from '../write-path/update-builder.ts'
import type { Builders } from './builders.ts'

export function createBuilders(): Builders {
  return {
    create: (dataSource, runner) => new FieldsealSelectQueryBuilder(dataSource, runner),
    select: (source) => new FieldsealSelectQueryBuilder(source),
    insert: (source) => new FieldsealInsertQueryBuilder(source),
    update: (source) => new FieldsealUpdateQueryBuilder(source),
    delete: (source) => new FieldsealDeleteQueryBuilder(source),
    softDelete: (source) => new FieldsealSoftDeleteQueryBuilder(source),
    relation: (source) => new FieldsealRelationQueryBuilder(source),
  }
}
