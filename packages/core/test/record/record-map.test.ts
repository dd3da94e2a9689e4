import { expect, it } from 'vitest'
import { clinic, ID, NOTES, PATIENTS } from '../support/clinic.ts'
import type { ModelDeclaration } from '../../src/record/ports.ts'

const code = (name: string, reason?: string) =>
  expect.objectContaining({
    code: name,
    ...(reason === undefined ? {} : { details: expect.objectContaining({ reason }) }),
  })
function world(model: ModelDeclaration = PATIENTS) {
  const { as, host, map, fieldseal } = clinic({}, model)
  const context = as('a', () => host.capture())
  const system = fieldseal.runAsSystem({ reason: 'test' }, () => host.capture())
  return { map, context, system }
}

it('takes tenant, keyspace and row id from the row', () => {
  const { map, context } = world()
  expect(map.facts({ clinic_id: 'a', id: ID }, context)).toMatchObject({ tenant: 'a', keyspace: 'default' })
  expect(map.facts({ clinic_id: 'a' }, context).rowId).toBeUndefined()
  expect(map.facts({ clinic_id: 'a', id: 'no uuid' }, context).rowId).toBeUndefined()
})

it('refuses the row of another tenant, and a row whose tenant is not known', () => {
  const { map, context, system } = world()
  expect(() => map.facts({ clinic_id: 'b', id: ID }, context)).toThrow(code('ERR_TENANT_MISMATCH'))
  expect(() => map.facts({ clinic_id: 'A', id: ID }, context)).toThrow(code('ERR_TENANT_MISMATCH'))
  for (const clinic_id of [undefined, null, '', {}, 1.5, '\ud800'])
    for (const one of [context, system])
      expect(() => map.facts({ clinic_id, id: ID }, one)).toThrow(code('ERR_WRITE_UNSUPPORTED', 'tenant-unknown'))
})

it('takes each row’s own tenant in a system context, and no reserved one', () => {
  const { map, system } = world()
  expect(map.facts({ clinic_id: 'b' }, system).tenant).toBe('b')
  expect(map.facts({ clinic_id: 7n }, system).tenant).toBe('7')
  expect(() => map.facts({ clinic_id: '$shared' }, system)).toThrow(code('ERR_ARGUMENT_INVALID'))
})

it('takes the context’s tenant where the model has no tenant column', () => {
  const { map, context, system } = world({ ...PATIENTS, options: { tenantBy: 'none' } })
  expect(map.facts({}, context).tenant).toBe('a')
  expect(() => map.facts({}, system)).toThrow(code('ERR_TENANT_MISSING'))
  expect(map.predicate(context)).toEqual([])
})

it('names the keyspace of a data class and of a data subject', () => {
  const payment = world({ ...PATIENTS, options: { tenantBy: 'clinic_id', keyspace: 'payment' } })
  expect(payment.map.facts({ clinic_id: 'a' }, payment.context).keyspace).toBe('class:payment')
  const { map, context } = world(NOTES)
  expect(map.facts({ clinic_id: 'a', patient: 42 }, context).keyspace).toBe('subject:patient:42')
  expect([map.keyspace, map.keyspacePath]).toEqual([undefined, 'patient'])
  for (const patient of [undefined, null, '', {}, 'x'.repeat(257)])
    expect(() => map.facts({ clinic_id: 'a', patient }, context)).toThrow(
      code('ERR_WRITE_UNSUPPORTED', 'keyspace-unknown'),
    )
})

it('adds the tenant to updates by criteria, and refuses them across tenants', () => {
  const { map, context, system } = world()
  expect(map.predicate(context)).toEqual([{ path: 'clinic_id', equals: 'a' }])
  expect(() => map.predicate(system)).toThrow(code('ERR_WRITE_UNSUPPORTED', 'system-context'))
})

it('tells how a path relates to the encrypted ones', () => {
  const { map } = world({ ...PATIENTS, fields: [{ path: 'address.street', type: 'string', options: {} }] })
  expect(map.at('address.street').relation).toBe('field')
  expect(map.at('address.street.x').relation).toBe('inside')
  expect(map.at('address').relation).toBe('parent')
  for (const path of ['addres', 'address.streets', 'addressx.street', '']) expect(map.at(path).relation).toBe('none')
})

it('takes two spellings of one tenant or data subject for the same, by the kind of their columns', () => {
  const upper = 'B5A1F6DE-3F7C-4AC3-9A2E-4F0A8B0B5F01'
  const model = { ...PATIENTS, options: { tenantBy: 'clinic_id', keyspace: { per: 'person', of: 'person' } } }
  const uuids = world({ ...model, factKinds: { tenant: 'uuid', keyspace: 'uuid' } })
  expect(uuids.map.facts({ clinic_id: upper, person: upper }, uuids.system)).toMatchObject({
    tenant: upper.toLowerCase(),
    keyspace: `subject:person:${upper.toLowerCase()}`,
  })
  const integers = world({ ...model, factKinds: { tenant: 'string', keyspace: 'integer' } })
  expect(integers.map.facts({ clinic_id: 'a', person: 7n }, integers.context).keyspace).toBe('subject:person:7')
  for (const person of ['007', '7.0', ' 7', 'seven'])
    expect(() => integers.map.facts({ clinic_id: 'a', person }, integers.context)).toThrow(
      code('ERR_WRITE_UNSUPPORTED', 'keyspace-unknown'),
    )
  const strings = world({ ...model, factKinds: { tenant: 'string', keyspace: 'string' } })
  expect(strings.map.facts({ clinic_id: 'a', person: upper }, strings.context).keyspace).toBe(`subject:person:${upper}`)
  expect(strings.map.facts({ clinic_id: 'a', person: '007' }, strings.context).keyspace).toBe('subject:person:007')
})

it('tells the row id alone, whatever tenant and keyspace', () => {
  const { map, context } = world()
  expect(map.rowId({ id: ID.toUpperCase() })).toEqual(map.facts({ clinic_id: 'a', id: ID }, context).rowId)
  expect(map.rowId({})).toBeUndefined()
})
