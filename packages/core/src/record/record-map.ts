import { checkedTenant } from '../context/tenant-id.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { CLASS_PREFIX, DEFAULT_KEYSPACE, MAX_SUBJECT_BYTES, SUBJECT_PREFIX } from '../context/keyspace.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import type { BlindIndex, Field, FieldPath, ModelDeclaration, RecordMap } from './ports.ts'
import { canonicalText, rowIdOf } from './row-id.ts'

/** The rules of one model for tenants, keyspaces and row ids. */
export function createRecordMap(
  id: string,
  { options, rowKey, factKinds = {} }: ModelDeclaration,
  fields: readonly Field[],
  indexes: readonly BlindIndex[],
): RecordMap {
  const { mode = 'kek', accepts = [] } = options
  const bindRow = mode === 'direct' ? 'require' : (options.bindRow ?? 'when-known')
  const byPath = new Map(fields.map((field) => [field.path, field]))
  const tenantPath = options.tenantBy === undefined || options.tenantBy === 'none' ? undefined : options.tenantBy
  const keyspacePath = typeof options.keyspace === 'object' ? options.keyspace.per : undefined
  const fixedKeyspace = typeof options.keyspace === 'string' ? `${CLASS_PREFIX}${options.keyspace}` : DEFAULT_KEYSPACE
  const keyColumns = [...rowKey].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)))

  const idOf = (row: Readonly<Record<FieldPath, unknown>>) =>
    rowIdOf(keyColumns.map(({ path, kind }) => ({ kind, value: row[path] })))

  function refuse(reason: string, hint: string): never {
    throw new FieldsealError('ERR_WRITE_UNSUPPORTED', { model: id, reason, hint })
  }

  function tenantOf(row: Readonly<Record<FieldPath, unknown>>, context: OperationContext): string {
    if (tenantPath === undefined) {
      if (typeof context.tenant === 'string') return context.tenant
      throw new FieldsealError('ERR_TENANT_MISSING', {
        model: id,
        hint: "a model with tenantBy: 'none' needs runAs({ tenant }) inside runAsSystem",
      })
    }
    const stored = canonicalText(row[tenantPath], factKinds.tenant)
    if (stored === undefined)
      return refuse('tenant-unknown', `set ${tenantPath}: it names the tenant whose key protects the row`)
    if (typeof context.tenant !== 'string') return checkedTenant(stored)
    if (stored !== context.tenant)
      throw new FieldsealError('ERR_TENANT_MISMATCH', { model: id, tenant: context.tenant })
    return stored
  }

  function keyspaceOf(row: Readonly<Record<FieldPath, unknown>>): string {
    if (keyspacePath === undefined || typeof options.keyspace !== 'object') return fixedKeyspace
    const subject = canonicalText(row[keyspacePath], factKinds.keyspace)
    if (subject === undefined || Buffer.byteLength(subject) > MAX_SUBJECT_BYTES) {
      return refuse('keyspace-unknown', `set ${keyspacePath}: it names the data subject whose key protects the row`)
    }
    return `${SUBJECT_PREFIX}${options.keyspace.of}:${subject}`
  }

  return {
    id,
    fields,
    indexes,
    tenantPath,
    keyspacePath,
    keyspace: keyspacePath === undefined ? fixedKeyspace : undefined,
    rowKey,
    bindRow,
    mode,
    layouts: new Set([mode, ...accepts.filter((layout) => layout !== 'unbound')]),
    acceptsUnbound: bindRow !== 'require' || accepts.includes('unbound'),
    at(path) {
      const field = byPath.get(path)
      if (field !== undefined) return { relation: 'field', field }
      for (const candidate of fields) {
        if (path.startsWith(`${candidate.path}.`)) return { relation: 'inside', field: candidate }
        if (candidate.path.startsWith(`${path}.`)) return { relation: 'parent', field: candidate }
      }
      return { relation: 'none' }
    },
    facts(row, context) {
      return {
        tenant: tenantOf(row, context),
        keyspace: keyspaceOf(row),
        rowId: idOf(row),
      }
    },
    rowId: idOf,
    predicate(context) {
      if (tenantPath === undefined) return []
      if (typeof context.tenant === 'string') return [{ path: tenantPath, equals: context.tenant }]
      return refuse(
        'system-context',
        'updates by criteria and upserts need one tenant: runAs({ tenant }) inside runAsSystem',
      )
    },
  }
}
