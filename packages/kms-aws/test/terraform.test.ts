import path from 'node:path'
import { fromTemporaryCredentials } from '@aws-sdk/credential-providers'
import { createFieldseal } from '@fieldseal/core'
import { awsPolicy, type CallFacts, type ConditionFacts, readTerraform } from '@fieldseal/kms-emulators'
import { CONTEXT, failure, newKey, request } from '@fieldseal/kms-emulators/vitest'
import { memoryKeyStore } from '@fieldseal/testkit'
import { describe, expect, it } from 'vitest'
import { useAws } from './support/aws.ts'

const module = readTerraform(path.join(import.meta.dirname, '../../../docs/kms/terraform/aws'))
const account = '444455556666'
const role = (name: string) => `arn:aws:iam::${account}:role/${name}`
const given = {
  variables: {
    app: 'clinic',
    tenant_id: 'clinic-7',
    vendor_role_arn: 'arn:aws:iam::111122223333:role/app',
    external_id: 'external-7',
    administrators: [role('admin')],
    policy_editors: [role('editor')],
    approvers: [role('approver')],
    destroyers: [role('destroyer')],
    destruction_from: '2030-01-01T08:00:00Z',
    destruction_until: '2030-01-01T10:00:00Z',
    alarm_topic_arn: 'arn:aws:sns:eu-west-1:444455556666:people',
  },
  attributes: { 'aws_iam_role.fieldseal.arn': role('fieldseal') },
}

function valueOf(type: string, name: string, attribute: string) {
  const expression = module.find('resource', type, name)[0]?.attributes.get(attribute)
  if (expression === undefined) throw new Error(`${type}.${name} has no ${attribute}`)
  return module.evaluate(expression, given)
}

const sameKey =
  (facts: ConditionFacts = {}) =>
  () => ({ 'kms:ReEncryptOnSameKey': 'true', ...facts })
const policy = (facts?: ConditionFacts) => awsPolicy(valueOf('aws_kms_key', 'fieldseal', 'policy'), sameKey(facts))

it('parses, names nothing that is not there and asks for nothing that it does not use', () => {
  expect(module.loose()).toEqual([])
  expect(module.find('output').map(({ labels }) => labels[0])).toEqual(['key_arn', 'role_arn'])
})

it('lets the vendor’s role be assumed only with the ExternalId', () => {
  expect(valueOf('aws_iam_role', 'fieldseal', 'assume_role_policy')).toMatchObject({
    Statement: [
      {
        Principal: { AWS: given.variables.vendor_role_arn },
        Condition: { StringEquals: { 'sts:ExternalId': 'external-7' } },
      },
    ],
  })
})

describe('the key policy, put to the emulator', () => {
  const aws = useAws()

  /** A key in the tenant's account under the policy, and the credentials of the role there. */
  function tenant() {
    aws.emulator.createRole(role('fieldseal'), { externalId: 'external-7' })
    const arn = aws.emulator.createKey({ account })
    aws.emulator.policy((call) => (call.operation === 'AssumeRole' || call.key !== arn ? 'allow' : policy()(call)))
    const { endpoint, region, credentials: masterCredentials } = aws.emulator.clientOptions()
    const credentials = fromTemporaryCredentials({
      masterCredentials,
      clientConfig: { endpoint, region, maxAttempts: 1 },
      params: { RoleArn: role('fieldseal'), ExternalId: 'external-7', RoleSessionName: 'f', DurationSeconds: 900 },
    })
    return aws.kms().cmk(arn, { credentialScope: 'clinic-7', credentials })
  }

  it('allows all that Fieldseal does with its tenant’s key', async () => {
    const cmk = tenant()
    const made = await cmk.generate?.(request())
    if (made === undefined) throw new Error('nothing was made')
    await cmk.unwrap(made.wrap, request())
    await cmk.rewrap?.(made.wrap, request())
    await cmk.describe?.(request())
    for (const purpose of ['index', 'direct', 'activate', 'health']) {
      const context = { ...CONTEXT, purpose, ...(purpose === 'direct' ? { model: 'patients', row: 'uuid:1' } : {}) }
      await cmk.unwrap(await cmk.wrap(newKey(), request({ context })), request({ context }))
    }
  })

  it('allows a tenant to be activated, and nobody else’s tenant id', async () => {
    const cmk = tenant()
    const fieldseal = createFieldseal({
      app: 'clinic',
      tenancy: 'multi',
      keys: { cmks: [cmk] },
      keyStore: memoryKeyStore(),
    })
    await fieldseal.activate('clinic-7')
    const outcomes = aws.emulator.calls.map(({ operation, outcome, context }) => [
      operation,
      outcome,
      context?.['tenant'],
    ])
    expect(outcomes).toContainEqual(['Decrypt', 'ok', 'clinic-7'])
    await fieldseal.close()
  })

  it('refuses another tenant, another application, an undeclared pair, a missing context and another purpose', async () => {
    const cmk = tenant()
    const { tenant: _tenant, ...without } = CONTEXT
    for (const context of [
      { ...CONTEXT, tenant: 'clinic-8' },
      { ...CONTEXT, app: 'other' },
      { ...CONTEXT, more: 'x' },
      without,
      {},
      { ...CONTEXT, purpose: 'else' },
    ])
      expect(await failure(cmk.wrap(newKey(), request({ context })))).toMatchObject({ code: 'ERR_KMS_ACCESS_DENIED' })
  })

  it('lets nobody but that role use the key, and that role do nothing else', () => {
    const decide = (name: string, operation: string, context?: CallFacts['context']) =>
      policy()({ operation, principal: role(name), key: 'k', ...(context === undefined ? {} : { context }) })
    for (const name of ['admin', 'editor', 'approver', 'destroyer', 'stranger']) {
      for (const operation of ['Encrypt', 'Decrypt', 'GenerateDataKey', 'ReEncryptFrom', 'ReEncryptTo'])
        expect(decide(name, operation, CONTEXT)).toBe('deny')
    }
    for (const operation of [
      'DisableKey',
      'ScheduleKeyDeletion',
      'PutKeyPolicy',
      'CreateGrant',
      'TagResource',
      'GetPublicKey',
    ])
      expect(decide('fieldseal', operation)).toBe('deny')
    expect(decide('admin', 'DisableKey')).toBe('allow')
    expect(decide('admin', 'ScheduleKeyDeletion')).toBe('deny')
    expect(decide('admin', 'PutKeyPolicy')).toBe('deny')
  })

  it('does not let a wrap be moved to another key', () => {
    const call = { operation: 'ReEncryptFrom', principal: role('fieldseal'), key: 'k', context: CONTEXT }
    expect(policy()(call)).toBe('allow')
    expect(policy({ 'kms:ReEncryptOnSameKey': 'false' })(call)).toBe('deny')
  })

  it('asks for MFA to change the policy', () => {
    const call = { operation: 'PutKeyPolicy', principal: role('editor'), key: 'k' }
    expect(policy()(call)).toBe('deny')
    expect(policy({ 'aws:MultiFactorAuthPresent': 'true', 'aws:MultiFactorAuthAge': '60' })(call)).toBe('allow')
  })

  it('destroys only with the approval of another person, MFA of both, 30 days, and within the window', () => {
    const mfa = { 'aws:MultiFactorAuthPresent': 'true', 'aws:MultiFactorAuthAge': '60' }
    const approval = { ...mfa, 'aws:TagKeys': ['fieldseal-destroy-approved'] }
    const tag = (name: string, facts: ConditionFacts) =>
      policy(facts)({ operation: 'TagResource', principal: role(name), key: 'k' })
    expect(tag('approver', approval)).toBe('allow')
    expect(tag('approver', { ...approval, 'aws:MultiFactorAuthAge': '900' })).toBe('deny')
    expect(tag('approver', { ...mfa, 'aws:TagKeys': ['other'] })).toBe('deny')
    expect(tag('approver', mfa)).toBe('deny')
    expect(tag('destroyer', approval)).toBe('deny')

    const all: ConditionFacts = {
      ...mfa,
      'aws:ResourceTag/fieldseal-destroy-approved': 'yes',
      'kms:ScheduleKeyDeletionPendingWindowInDays': '30',
      'aws:CurrentTime': '2030-01-01T09:00:00Z',
    }
    const destroy = (facts: ConditionFacts, name = 'destroyer') =>
      policy(facts)({ operation: 'ScheduleKeyDeletion', principal: role(name), key: 'k' })
    expect(destroy(all)).toBe('allow')
    for (const name of ['approver', 'admin', 'editor', 'fieldseal']) expect(destroy(all, name)).toBe('deny')
    for (const missing of Object.keys(all)) expect(destroy({ ...all, [missing]: undefined }), missing).toBe('deny')
    expect(destroy({ ...all, 'aws:CurrentTime': '2030-01-01T10:00:00Z' })).toBe('deny')
    expect(destroy({ ...all, 'kms:ScheduleKeyDeletionPendingWindowInDays': '7' })).toBe('deny')
  })

  it('never lets the key be destroyed as long as nobody names a window', () => {
    const { destruction_from: _from, destruction_until: _until, ...variables } = given.variables
    const expression = module.find('resource', 'aws_kms_key', 'fieldseal')[0]?.attributes.get('policy')
    if (expression === undefined) throw new Error('no policy')
    const facts = {
      'aws:MultiFactorAuthPresent': 'true',
      'aws:MultiFactorAuthAge': '1',
      'aws:ResourceTag/fieldseal-destroy-approved': 'yes',
      'kms:ScheduleKeyDeletionPendingWindowInDays': '30',
    }
    const call = { operation: 'ScheduleKeyDeletion', principal: role('destroyer'), key: 'k' }
    for (const now of ['1999-12-31T23:59:59Z', '2000-01-01T00:00:00Z', '2030-01-01T09:00:00Z']) {
      const closed = awsPolicy(module.evaluate(expression, { ...given, variables }), () => ({
        ...facts,
        'aws:CurrentTime': now,
      }))
      expect(closed(call)).toBe('deny')
    }
  })
})
