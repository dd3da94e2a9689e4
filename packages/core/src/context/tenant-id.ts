import { FieldsealError } from '../errors/fieldseal-error.ts'

/** Tenant of tenancy `single`. */
export const SINGLE_TENANT = '$single'
/** Tenant of index keys across tenants. */
export const SHARED_TENANT = '$shared'
const MAX_TENANT_BYTES = 256

/**
 * Checks a tenant id that a user gave: 1–256 UTF-8 bytes, Unicode NFC, no control characters, no leading `$`.
 * @throws FieldsealError ERR_ARGUMENT_INVALID, ERR_TENANT_MISSING when there is none
 */
export function checkedTenant(tenant: unknown): string {
  if (tenant === undefined || tenant === null || tenant === '') throw new FieldsealError('ERR_TENANT_MISSING')
  if (typeof tenant !== 'string') throw invalidTenant(`expected a string, got ${typeof tenant}`)
  if (tenant.startsWith('$')) throw invalidTenant('a tenant id may not begin with $')
  if (!tenant.isWellFormed() || /\p{Cc}/u.test(tenant) || tenant.normalize('NFC') !== tenant) {
    throw invalidTenant('control characters, lone surrogates or not in Unicode form NFC')
  }
  if (Buffer.byteLength(tenant, 'utf8') > MAX_TENANT_BYTES)
    throw invalidTenant(`longer than ${MAX_TENANT_BYTES} UTF-8 bytes`)
  return tenant
}

function invalidTenant(reason: string): FieldsealError {
  return new FieldsealError('ERR_ARGUMENT_INVALID', { field: 'tenant', reason })
}
