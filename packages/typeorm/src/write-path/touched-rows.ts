import type { AdapterHost, OperationContext } from '@fieldseal/core/adapter'
import { InstanceChecker, type EntityMetadata, type EntityTarget, type ObjectLiteral } from 'typeorm'
import type { EntityModel } from '../entity-map/entity-model.ts'
import type { Installation } from '../install/installation.ts'
import { keyspacesOf } from './row-facts.ts'

type Touched = Map<EntityModel, ObjectLiteral[]>

/** The rows of encrypted models that `save(...args)` may write: those handed over, and those its cascades reach. */
export function touchedRows(installation: Installation, args: readonly unknown[]): Touched {
  const touched: Touched = new Map()
  if (installation.models().models.length === 0) return touched
  const [first, second] = args
  const named =
    args.length > 1 &&
    (typeof first === 'function' || typeof first === 'string' || InstanceChecker.isEntitySchema(first))
  const entities = named ? second : first
  const seen = new Set<object>()
  for (const entity of Array.isArray(entities) ? entities : [entities]) {
    const metadata = metadataOf(installation, named ? first : undefined, entity)
    if (metadata !== undefined) visit(installation, metadata, entity, touched, seen)
  }
  return touched
}

/**
 * Makes and loads the keys of the rows at hand: those of the caller's tenant, or in a system context of each row's own.
 *
 * @throws FieldsealError ERR_TENANT_MISMATCH for a row of another tenant, and what making keys throws
 */
export async function loadKeysFor(
  { host }: Installation,
  touched: Touched,
  context: OperationContext,
  via: unknown,
): Promise<void> {
  if (typeof context.tenant === 'string') return load(host, touched, context, via)
  for (const [tenant, own] of byTenant(touched)) await load(host, own, { ...context, tenant }, via)
}

async function load(host: AdapterHost, touched: Touched, context: OperationContext, via: unknown): Promise<void> {
  const keyspaces = [...touched].flatMap(([model, rows]) => keyspacesOf(model, rows, context))
  await host.load([...new Set([...touched.keys()].map(({ map }) => map))], context, { keyspaces, via })
}

/** Rows that do not name their tenant are left out: TypeORM may know it from the database. */
function byTenant(touched: Touched): Map<string, Touched> {
  const tenants = new Map<string, Touched>()
  for (const [model, rows] of touched) {
    for (const row of rows) {
      const tenant: unknown = model.tenant?.column.getEntityValue(row)
      if (typeof tenant !== 'string') continue
      const own = tenants.get(tenant) ?? new Map<EntityModel, ObjectLiteral[]>()
      tenants.set(tenant, own.set(model, (own.get(model) ?? []).concat(row)))
    }
  }
  return tenants
}

/** Whether updates of loaded rows must learn tenant or keyspace from what the save has read. */
export function needsRowsAtHand(touched: Touched, { tenant }: OperationContext): boolean {
  return typeof tenant !== 'string' || [...touched.keys()].some((model) => model.keyspace !== undefined)
}

function visit(
  installation: Installation,
  metadata: EntityMetadata,
  entity: unknown,
  touched: Touched,
  seen: Set<object>,
): void {
  if (typeof entity !== 'object' || entity === null || seen.has(entity)) return
  seen.add(entity)
  const model = installation.models().of(metadata)
  if (model !== undefined) {
    const rows = touched.get(model)
    if (rows === undefined) touched.set(model, [entity])
    else rows.push(entity)
  }
  for (const relation of metadata.relations) {
    if (!relation.isCascadeInsert && !relation.isCascadeUpdate) continue
    const related: unknown = relation.getEntityValue(entity)
    for (const one of Array.isArray(related) ? related : [related])
      visit(installation, relation.inverseEntityMetadata, one, touched, seen)
  }
}

/** Undefined for what TypeORM itself is about to refuse. */
function metadataOf({ dataSource }: Installation, target: unknown, entity: unknown): EntityMetadata | undefined {
  if (typeof entity !== 'object' || entity === null) return undefined
  const named = (target ?? entity.constructor) as EntityTarget<ObjectLiteral> // as TypeORM resolves it
  return dataSource.hasMetadata(named) ? dataSource.getMetadata(named).findInheritanceMetadata(entity) : undefined
}
