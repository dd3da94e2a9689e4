import { FieldsealError, type OperationContext, type RowFacts } from '@fieldseal/core/adapter'
import { mongo } from 'mongoose'
import { isDoc, isOperators, plain, valueAt, type Doc } from '../bson/documents.ts'
import type { FactPath, StoredModel } from '../path-graph/stored-model.ts'
import { refuseQuery } from '../query-rewrite/refuse.ts'
import { canonical, stored } from '../read-path/collect-rows.ts'

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

/** How the criteria of a write meet documents. */
export interface Meeting {
  /** Text is compared under a collation. */
  readonly collation: boolean
  /** Values are sealed for the documents; if not, their keyspace need not be known. */
  readonly seals: boolean
}

/**
 * Criteria that meet documents of the caller's tenant only. In a system context they name a tenant themselves.
 *
 * @throws FieldsealError ERR_TENANT_MISMATCH when the criteria name another tenant, ERR_WRITE_UNSUPPORTED in a system
 * context when they name none, ERR_QUERY_UNSUPPORTED under a collation
 */
export function confineToTenant(
  filter: Doc,
  { map, tenant }: StoredModel,
  context: OperationContext,
  { collation }: Pick<Meeting, 'collation'>,
): Doc {
  if (tenant === undefined) return filter
  assertByBytes(tenant, map.id, collation)
  const named = canonical(pinned(filter, tenant.path), tenant)
  if (typeof context.tenant !== 'string' && named !== undefined) return filter
  const [predicate] = map.predicate(context) // throws in a system context
  if (predicate === undefined) throw new FieldsealError('ERR_TENANT_MISSING', { model: map.id })
  if (named === undefined) return and(filter, tenant.path, stored(predicate.equals, tenant))
  if (String(named) !== predicate.equals)
    throw new FieldsealError('ERR_TENANT_MISMATCH', { model: map.id, tenant: predicate.equals })
  return filter
}

/**
 * What criteria that are confined to one tenant pin of the documents that they meet.
 *
 * @throws FieldsealError ERR_WRITE_UNSUPPORTED when they do not name the keyspace
 */
export function factsPinned(filter: Doc, model: StoredModel, context: OperationContext, meeting: Meeting): RowFacts {
  const { map, keyspace, id } = model
  if (!meeting.seals) return NO_FACTS
  if (keyspace !== undefined) assertByBytes(keyspace, map.id, meeting.collation)
  const known: Record<string, unknown> = {}
  for (const fact of model.facts)
    if (fact !== id || isByBytes(id, meeting.collation)) known[fact.path] = canonical(pinned(filter, fact.path), fact)
  return map.facts(known, context)
}

/** Nothing is sealed with them. */
const NO_FACTS: RowFacts = Object.freeze({ tenant: '', keyspace: '', rowId: undefined })

/** Whether equality with a fact is equality of bytes: under a collation an equality of texts meets other ones too. */
export function isByBytes({ kind }: FactPath, collation: boolean): boolean {
  return !(collation && kind === 'string')
}

function assertByBytes(fact: FactPath, model: string, collation: boolean): void {
  if (!isByBytes(fact, collation))
    refuseQuery(model, fact.path, 'collation', 'under it other tenants or subjects may be equal: write without it')
}

/** Adds an equality that no top-level key of the filter repeats. */
export function and(filter: Doc, path: string, value: unknown): Doc {
  if (!Object.hasOwn(filter, path)) return { ...filter, [path]: value }
  const { $and = [] } = filter as { readonly $and?: readonly unknown[] }
  return { ...filter, $and: [...$and, { [path]: value }] }
}

/** The filter of exactly the document at hand, or of those with the same facts, beside what the caller asked for. */
export function pinTo(filter: Doc, document: Doc, model: StoredModel, facts = model.facts): Doc {
  let out = filter
  for (const fact of facts) {
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
