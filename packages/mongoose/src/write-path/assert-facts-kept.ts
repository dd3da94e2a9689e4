import { FieldsealError } from '@fieldseal/core/adapter'
import { isDoc, valueAt, type Doc } from '../bson/documents.ts'
import type { FactPath, StoredModel } from '../path-graph/stored-model.ts'
import { refuseWrite } from '../query-rewrite/refuse.ts'
import { canonical } from '../read-path/collect-rows.ts'
import { pinned } from './update-facts.ts'

/**
 * An update may set the tenant and the keyspace of a document to what they are; a change would leave its encrypted values
 * under keys that nobody looks for.
 *
 * @throws FieldsealError ERR_TENANT_MISMATCH, ERR_WRITE_UNSUPPORTED
 */
export function assertFactsKept(update: Doc | readonly unknown[], filter: Doc, model: StoredModel): void {
  if (Array.isArray(update)) return // pipelines that name them were refused
  for (const fact of [model.tenant, model.keyspace]) {
    if (fact === undefined) continue
    const now = canonical(pinned(filter, fact.path), fact)
    for (const [operator, operands] of Object.entries(update))
      for (const [path, operand] of Object.entries(isDoc(operands) ? operands : {}))
        if (concerns(fact, operator, path, operand)) assertSame(fact, operator, path, operand, now, model)
  }
}

function concerns({ path: fact }: FactPath, operator: string, path: string, operand: unknown): boolean {
  const target = operator === '$rename' ? String(operand) : path
  return [path, target].some((each) => each === fact || fact.startsWith(`${each}.`) || each.startsWith(`${fact}.`))
}

function assertSame(
  fact: FactPath,
  operator: string,
  path: string,
  operand: unknown,
  now: ReturnType<typeof canonical>,
  { map, tenant }: StoredModel,
): void {
  const isSetting = operator === '$set' || operator === '$setOnInsert'
  const next = isSetting
    ? canonical(path === fact.path ? operand : valueAt(operand, fact.path.slice(path.length + 1)), fact)
    : undefined
  if (next !== undefined && now !== undefined && String(next) === String(now)) return
  if (fact === tenant && typeof now === 'string')
    throw new FieldsealError('ERR_TENANT_MISMATCH', { model: map.id, tenant: now })
  refuseWrite(map.id, fact.path, 'key-change', 'it says whose key protects the document: replace the whole document')
}
