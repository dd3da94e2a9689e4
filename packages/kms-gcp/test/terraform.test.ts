import path from 'node:path'
import { readTerraform } from '@fieldseal/kms-emulators'
import { expect, it } from 'vitest'

const module = readTerraform(path.join(import.meta.dirname, '../../../docs/kms/terraform/gcp'))
const given = {
  variables: {
    project: 'tenant-keys',
    location: 'europe-west1',
    tenant_id: 'clinic-7',
    vendor_principal: 'serviceAccount:app@vendor.iam.gserviceaccount.com',
    access_until: '2030-01-01T00:00:00Z',
    administrators: ['group:admins@example.org'],
    approvers: ['group:approvers@example.org'],
    destroyers: ['group:destroyers@example.org'],
  },
}

function block(type: string, name: string) {
  const [found] = module.find('resource', type, name)
  if (found === undefined) throw new Error(`no ${type}.${name}`)
  return found
}

function valueOf(type: string, name: string, attribute: string) {
  const expression = block(type, name).attributes.get(attribute)
  if (expression === undefined) throw new Error(`${type}.${name} has no ${attribute}`)
  return module.evaluate(expression, given)
}

it('parses, names nothing that is not there and asks for nothing that it does not use', () => {
  expect(module.loose()).toEqual([])
  expect(module.find('output').map(({ labels }) => labels[0])).toEqual(['key', 'service_account'])
})

it('gives the vendor three permissions on the key, until a day', () => {
  expect(valueOf('google_project_iam_custom_role', 'use', 'permissions')).toEqual([
    'cloudkms.cryptoKeyVersions.useToEncrypt',
    'cloudkms.cryptoKeyVersions.useToDecrypt',
    'cloudkms.cryptoKeys.get',
  ])
  for (const [type, name] of [
    ['google_kms_crypto_key_iam_member', 'use'],
    ['google_service_account_iam_member', 'vendor'],
  ] as const) {
    const expression = block(type, name).blocks[0]?.attributes.get('expression')
    if (expression === undefined) throw new Error('no condition')
    expect(module.evaluate(expression, given)).toBe('request.time < timestamp("2030-01-01T00:00:00Z")')
  }
})

it('separates use, administration and destruction', () => {
  const permissions = (name: string) => {
    const list = valueOf('google_project_iam_custom_role', name, 'permissions')
    return Array.isArray(list) ? list.map(String) : []
  }
  expect(permissions('administer').filter((one) => /useTo|destroy|setIamPolicy/.test(one))).toEqual([])
  expect(permissions('destroy').filter((one) => /useTo|update|setIamPolicy/.test(one))).toEqual([])
  // Destruction is bound to nobody: it is lent by an approved request alone.
  const bound = module.blocks.filter(
    ({ type, labels: [resource = ''] }) => type === 'resource' && resource.startsWith('google_kms_crypto_key_iam'),
  )
  const roles = bound.map(({ attributes }) => attributes.get('role'))
  expect(roles).not.toContainEqual(
    expect.objectContaining({ path: ['google_project_iam_custom_role', 'destroy', 'name'] }),
  )
  const [manual] = block('google_privileged_access_manager_entitlement', 'destroy')
    .blocks.filter(({ type }) => type === 'approval_workflow')
    .flatMap(({ blocks }) => blocks)
  expect(manual?.blocks[0]?.attributes.get('approvals_needed')).toEqual({ kind: 'literal', value: 1 })
})

it('keeps a destroyed version for 30 days, and logs each use', () => {
  expect(valueOf('google_kms_crypto_key', 'fieldseal', 'destroy_scheduled_duration')).toBe(`${30 * 86_400}s`)
  const logged = block('google_project_iam_audit_config', 'kms').blocks.map(({ attributes }) =>
    attributes.get('log_type'),
  )
  expect(logged).toEqual([
    { kind: 'literal', value: 'DATA_READ' },
    { kind: 'literal', value: 'ADMIN_READ' },
  ])
})
