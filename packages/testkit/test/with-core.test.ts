import { createFieldseal } from '@fieldseal/core'
import { attach, type ModelDeclaration, type Row } from '@fieldseal/core/adapter'
import { expect, it } from 'vitest'
import { fakeClock, fakeKms, memoryKeyStore } from '../src/index.ts'

const PATIENTS: ModelDeclaration = {
  id: 'patients',
  options: { tenantBy: 'clinic', mode: 'direct' },
  fields: [{ path: 'ssn', type: 'string', options: {} }],
  rowKey: [{ path: 'id', kind: 'integer' }],
}

function application(generates: boolean) {
  const kms = fakeKms()
  const clock = fakeClock()
  const keyStore = memoryKeyStore()
  const cmks = [kms.cmk('acme', { generates })]
  const fieldseal = createFieldseal({ app: 'test', tenancy: 'multi', keys: { cmks }, keyStore, clock })
  const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
  const map = host.defineModel(PATIENTS)
  const context = () => fieldseal.runAs({ tenant: 'a' }, () => host.capture())
  const row = <V>(id: number, value: V): Row<V> => ({
    map,
    facts: map.facts({ clinic: 'a', id }, context()),
    cells: map.fields.map((field) => ({ field, value })),
  })
  const seal = async (id: number, value: string) =>
    (await host.cipher.seal([row(id, value)], context()))[0]?.envelopes[0]
  const open = async (id: number, stored: unknown) => (await host.cipher.open([row(id, stored)], context()))[0]
  const operations = () => kms.calls.map(({ operation, context: { row: of } }) => `${operation} ${of}`)
  return { kms, clock, fieldseal, seal, open, operations }
}

it('counts the calls of mode direct, one per row written and one per row read', async () => {
  for (const generates of [false, true]) {
    const { seal, open, operations } = application(generates)
    const stored = [await seal(1, 'one'), await seal(2, 'two')]
    expect([(await open(1, stored[0]))?.values, (await open(2, stored[1]))?.values]).toEqual([['one'], ['two']])
    await open(1, stored[0])
    const first = generates ? 'generate' : 'wrap'
    expect(operations()).toEqual([`${first} int:1`, `${first} int:2`, 'unwrap int:1', 'unwrap int:2'])
  }
})

it('lets a test revoke a CMK and move the clock to the promised bound', async () => {
  const { kms, clock, fieldseal, seal, open } = application(false)
  const stored = await seal(1, 'one')
  await open(1, stored)
  kms.deny('acme')
  clock.advance(fieldseal.revocationBoundMs('a').reachable)
  await expect(open(1, stored)).rejects.toMatchObject({ kind: 'denied' })
})

it('rewraps by the fake KMS’s own rewrap after a rotation', async () => {
  const { kms, seal, open } = application(false)
  const stored = await seal(1, 'one')
  kms.rotate('acme')
  await seal(2, 'two')
  expect((await open(1, stored))?.outdated).toEqual([0])
})
