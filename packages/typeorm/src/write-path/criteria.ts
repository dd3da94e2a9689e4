import { InstanceChecker, type EntityMetadata, type ObjectLiteral } from 'typeorm'
import type { EntityModel } from '../entity-map/entity-model.ts'

type Equalities = ReadonlyMap<string, unknown>

/**
 * What the conditions of an update say for certain about the rows they meet: equalities of key, tenant and keyspace
 * columns, as far as they hold for every row.
 */
export class Criteria {
  #clauses: { readonly joinedBy: 'and' | 'or'; equalities: Equalities }[] = []

  reset(equalities: Equalities): void {
    this.#clauses = [{ joinedBy: 'and', equalities }]
  }

  and(equalities: Equalities): void {
    this.#clauses.push({ joinedBy: 'and', equalities })
  }

  or(equalities: Equalities): void {
    this.#clauses.push({ joinedBy: 'or', equalities })
  }

  /** Replaces what the last clause is known to say. */
  refine(equalities: Equalities): void {
    const last = this.#clauses.at(-1)
    if (last !== undefined) last.equalities = equalities
  }

  clone(): Criteria {
    const copy = new Criteria()
    copy.#clauses = this.#clauses.map((clause) => ({ ...clause }))
    return copy
  }

  /** @param rendered number of clauses that TypeORM renders: when somebody else added some, nothing is certain */
  certain(rendered: number): Equalities {
    const alternatives = this.#clauses.some(({ joinedBy }, index) => index > 0 && joinedBy === 'or')
    if (alternatives || rendered !== this.#clauses.length) return new Map()
    return new Map(this.#clauses.flatMap(({ equalities }) => [...equalities]))
  }
}

/** Equalities that object criteria state for the columns that tell whose row it is, by stored path. */
export function equalitiesOf(model: EntityModel | undefined, where: unknown): Equalities {
  const criteria: unknown = Array.isArray(where) && where.length === 1 ? where[0] : where
  if (model === undefined || typeof criteria !== 'object' || criteria === null) return new Map()
  if (Array.isArray(criteria) || InstanceChecker.isBrackets(criteria)) return new Map()
  return new Map(
    model.facts.flatMap(({ path, column }) => {
      const value = plainValue(column.getEntityValue(criteria as ObjectLiteral))
      return value === undefined ? [] : [[path, value] as const]
    }),
  )
}

/** The same for `whereInIds`, whose composite keys TypeORM hides in brackets. */
export function equalitiesOfIds(
  model: EntityModel | undefined,
  metadata: EntityMetadata | undefined,
  ids: unknown,
): Equalities {
  const list: readonly unknown[] = Array.isArray(ids) ? ids : [ids]
  if (model === undefined || metadata === undefined || list.length !== 1) return new Map()
  return equalitiesOf(model, metadata.ensureEntityIdMap(list[0]))
}

function plainValue(value: unknown): unknown {
  if (value === null || value === undefined || typeof value === 'function') return undefined
  if (!InstanceChecker.isFindOperator(value)) return value
  return value.type === 'equal' ? plainValue(value.value) : undefined
}
