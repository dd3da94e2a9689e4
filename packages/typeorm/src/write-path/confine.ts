import type { ColumnMetadata } from 'typeorm/metadata/ColumnMetadata.js'
import { resolveTerms } from '../carrier/resolve.ts'
import type { EntityModel } from '../entity-map/entity-model.ts'
import { viaOf } from '../install/installation.ts'
import type { OwnBuilder } from '../install/typeorm-internals.ts'
import { type Returned, returnedColumns } from '../read-path/returning.ts'
import { restrictToTenant } from './tenant-predicate.ts'
import { runReturning } from './undoable.ts'

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

/** Runs a removal by criteria, and opens what its RETURNING brought. */
export async function runRemoval<R extends Returned>(builder: OwnBuilder, run: () => Promise<R>): Promise<R> {
  await prepareCriteria(builder)
  const model = modelOf(builder)
  return model === undefined ? run() : runReturning(builder, model, run)
}

/** The columns that a removal returns: with an encrypted one come those that tell whose row it is. */
export function returnedBy(builder: OwnBuilder, columns: ColumnMetadata[]): ColumnMetadata[] {
  const model = modelOf(builder)
  return model === undefined ? columns : returnedColumns(model, columns)
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
