import type { OperationContext } from '@fieldseal/core/adapter'
import type { EntityModel } from '../entity-map/entity-model.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'

/**
 * Confines a statement to the rows of one tenant, whatever its criteria say: `(criteria) AND (tenant = …)`.
 *
 * @param known tenant of the one row to meet, in a system context
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED in a system context that does not know it
 */
export function restrictToTenant(
  builder: OwnBuilder,
  model: EntityModel,
  context: OperationContext,
  known?: string,
): void {
  const { tenant, map } = model
  if (tenant === undefined) return
  const predicates = known === undefined ? map.predicate(context) : [{ path: tenant.path, equals: known }]
  builder.expressionMap.extraAppendedAndWhereCondition = predicates
    .map(({ equals }) => `${builder.escape(tenant.column.databaseName)} = ${builder.createParameter(equals)}`)
    .join(' AND ')
}
