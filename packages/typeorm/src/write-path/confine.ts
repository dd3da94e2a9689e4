import { resolveTerms } from '../carrier/resolve.ts'
import type { EntityModel } from '../entity-map/entity-model.ts'
import { viaOf } from '../install/installation.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { restrictToTenant } from './tenant-predicate.ts'

/** Computes the tokens that the criteria look for before a connection is taken. @throws FieldsealError ERR_TENANT_MISSING */
export async function prepareCriteria(builder: OwnBuilder): Promise<void> {
  if (modelOf(builder) !== undefined) builder.state.requireContext()
  const { installation } = builder.state
  await resolveTerms(
    installation,
    Object.values(builder.expressionMap.parameters),
    viaOf(installation, builder.queryRunner),
  )
}

/** Work across tenants removes rows by their criteria alone; everybody else removes those of the own tenant. */
export function confine(builder: OwnBuilder): void {
  const model = modelOf(builder)
  if (model === undefined) return
  const context = builder.state.requireContext()
  if (typeof context.tenant === 'string') restrictToTenant(builder, model, context)
}

function modelOf({ expressionMap, state }: OwnBuilder): EntityModel | undefined {
  const alias = expressionMap.mainAlias
  return alias?.hasMetadata ? state.installation.models().of(alias.metadata) : undefined
}
