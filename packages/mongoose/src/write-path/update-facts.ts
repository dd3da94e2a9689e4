import { FieldsealError, type OperationContext, type RowFacts } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { isDoc, isOperators, plain, valueAt, type Doc } from '../bson/documents.ts'
import type { FactPath, StoredModel } from '../path-graph/stored-model.ts'
import { canonical, stored } from '../read-path/collect-rows.ts'

/** Whose rows an update by criteria meets, and the filter that makes sure of it. */
export interface ConfinedFilter {
  readonly filter: Doc
  readonly facts: RowFacts
}

/** The value that a filter pins a path to by equality, at its top level or in `$and`; undefined when it pins none. */
export function pinned(filter: unknown, path: string): unknown {
  const given = plain(filter)
  if (!isDoc(given)) return undefined
  if (Object.hasOwn(given, path)) {
    const value = equality(given[path])
    if (value !== undefined) return value
  }
  const { $and } = given as { readonly $and?: unknown }
  if (!Array.isArray($and)) return undefined
  for (const each of $and as unknown[]) {
    const value = pinned(each, path)
    if (value !== undefined) return value
  }
  return undefined
}

function equality(value: unknown): unknown {
  if (value instanceof RegExp || value instanceof mongo.BSONRegExp || value === null) return undefined
  if (!isOperators(value)) return value
  const keys = Object.keys(value)
  return keys.length === 1 && keys[0] === '$eq' ? value['$eq'] : undefined
}

/** Whether a filter says everything that sealing for its rows needs to know. */
export function isSufficient(filter: Doc, model: StoredModel, context: OperationContext): boolean {
  const tenantKnown = model.tenant === undefined || typeof context.tenant === 'string' || knows(filter, model.tenant)
  return tenantKnown && (model.keyspace === undefined || knows(filter, model.keyspace))
}

function knows(filter: Doc, fact: FactPath): boolean {
  return canonical(pinned(filter, fact.path), fact) !== undefined
}

/**
 * Confines criteria to one tenant and tells what they pin of the row.
 *
 * @param seals whether values are sealed for the rows; if not, the keyspace need not be known
 * @throws FieldsealError ERR_TENANT_MISMATCH when the criteria name another tenant, ERR_WRITE_UNSUPPORTED when they do not
 * name what they must
 */
export function confine(
  filter: Doc,
  model: StoredModel,
  context: OperationContext,
  { collation, seals }: { readonly collation: boolean; readonly seals: boolean },
): ConfinedFilter {
  const { map, tenant, keyspace, id } = model
  const known: Record<string, unknown> = {}
  let confined = filter
  if (tenant !== undefined) {
    const own = canonical(pinned(filter, tenant.path), tenant)
    if (typeof context.tenant === 'string' || own === undefined) {
      const [predicate] = map.predicate(context) // throws in a system context that names no tenant
      if (predicate === undefined) throw new FieldsealError('ERR_TENANT_MISSING', { model: map.id })
      if (own === undefined) confined = and(filter, tenant.path, stored(predicate.equals, tenant))
      else if (String(own) !== predicate.equals)
        throw new FieldsealError('ERR_TENANT_MISMATCH', { model: map.id, tenant: predicate.equals })
      known[tenant.path] = predicate.equals
    } else known[tenant.path] = own
  }
  if (keyspace !== undefined) known[keyspace.path] = canonical(pinned(filter, keyspace.path), keyspace)
  // Under a collation an equality of texts meets rows with other bytes.
  if (!(collation && id.kind === 'string')) known[id.path] = canonical(pinned(filter, id.path), id)
  if (!seals && keyspace !== undefined && known[keyspace.path] === undefined)
    return { filter: confined, facts: { tenant: '', keyspace: '', rowId: undefined } }
  return { filter: confined, facts: map.facts(known, context) }
}

/** Adds an equality that no top-level key of the filter repeats. */
export function and(filter: Doc, path: string, value: unknown): Doc {
  if (!Object.hasOwn(filter, path)) return { ...filter, [path]: value }
  const { $and = [] } = filter as { readonly $and?: readonly unknown[] }
  return { ...filter, $and: [...$and, { [path]: value }] }
}

/** The filter of exactly the document at hand, beside what the caller asked for. */
export function pinTo(filter: Doc, document: Doc, model: StoredModel): Doc {
  let out = filter
  for (const fact of model.facts) {
    if (pinned(out, fact.path) !== undefined) continue
    out = and(out, fact.path, valueAt(document, fact.path))
  }
  return out
}

/** The value that a filter pins a fact to, as the database stores it; undefined when it is not of the declared type. */
export function canonicalPin(filter: Doc, fact: FactPath): unknown {
  const value = pinned(filter, fact.path)
  return canonical(value, fact) === undefined ? undefined : value
}
