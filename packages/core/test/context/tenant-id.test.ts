import { expect, it } from 'vitest'
import { checkedTenant, SHARED_TENANT, SINGLE_TENANT } from '../../src/context/tenant-id.ts'

it('accepts ids as applications have them', () => {
  for (const tenant of ['clinic-7', '42', 'Ünï', 'a$b', 'x'.repeat(256), '0'])
    expect(checkedTenant(tenant)).toBe(tenant)
})

it('says that a tenant is missing', () => {
  for (const tenant of [undefined, null, ''])
    expect(() => checkedTenant(tenant)).toThrow(expect.objectContaining({ code: 'ERR_TENANT_MISSING' }))
})

it('refuses reserved names, other types and what two systems would read differently', () => {
  const tenants = [
    SINGLE_TENANT,
    SHARED_TENANT,
    '$',
    7,
    {},
    ['a'],
    'a\0b',
    'a\tb',
    '\ud800',
    'e\u0301',
    'é'.repeat(129),
  ]
  for (const tenant of tenants)
    expect(() => checkedTenant(tenant)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_INVALID' }))
})
