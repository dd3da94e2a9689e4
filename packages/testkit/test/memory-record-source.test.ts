import { createFieldseal } from '@fieldseal/core'
import { type Envelope, rotateKek } from '@fieldseal/core/adapter'
import { expect, it } from 'vitest'
import { fakeKms, memoryKeyStore, memoryRecordSource } from '../src/index.ts'

const PATIENTS = {
  id: 'patients',
  options: { tenantBy: 'clinic' },
  fields: [
    { path: 'email', type: 'string', options: { blindIndex: { normalize: 'email' as const } } },
    { path: 'ssn', type: 'string', options: {} },
  ],
  rowKey: [{ path: 'id', kind: 'integer' as const }],
}

function start() {
  const fieldseal = createFieldseal({
    app: 'test',
    tenancy: 'multi',
    keyStore: memoryKeyStore(),
    keys: { cmks: [fakeKms().cmk('cmk')] },
  })
  const source = memoryRecordSource(fieldseal, [PATIENTS])
  const [map] = source.models
  if (map === undefined) throw new Error('no model')
  const as = <R>(tenant: string, fn: () => R) => fieldseal.runAs({ tenant }, fn)
  const write = (tenant: string, id: number, values: Record<string, unknown>) =>
    as(tenant, () => source.write('patients', { clinic: tenant, id }, values))
  return { fieldseal, source, map, as, write }
}

async function all<T>(pages: AsyncIterable<readonly T[]>): Promise<T[]> {
  const found: T[] = []
  for await (const page of pages) found.push(...page)
  return found
}

it('stores ciphertext, reads it back, and keeps what a write does not name', async () => {
  const { source, as, write } = start()
  await write('a', 1, { email: 'Ada@x.org', ssn: '1' })
  await write('a', 1, { ssn: null })
  expect(await as('a', () => source.read('patients', { id: 1 }))).toEqual({ email: 'Ada@x.org', ssn: null })
  expect(source.rows.get('patients')?.get('[1]')?.cells['email']).toBeInstanceOf(Uint8Array)
  await expect(as('b', () => source.read('patients', { id: 1 }))).rejects.toMatchObject({ code: 'ERR_TENANT_MISMATCH' })
  await expect(as('a', () => source.read('patients', { id: 2 }))).rejects.toMatchObject({
    code: 'ERR_ARGUMENT_INVALID',
  })
})

it('walks rows in pages, shards, by key and by tenant, with tokens where asked for', async () => {
  const { fieldseal, source, map, write } = start()
  for (const id of [1, 2, 3, 4, 5]) await write(id < 4 ? 'a' : 'b', id, { email: `p${id}@x.org` })
  const pages: number[] = []
  for await (const page of source.pages(map, { size: 2 })) pages.push(page.length)
  expect(pages).toEqual([2, 2, 1])
  const shards = await Promise.all([1, 2].map((i) => all(source.pages(map, { size: 9, shard: [i, 2] }))))
  expect(shards.flat()).toHaveLength(5)
  expect(await all(source.pages(map, { size: 9, tenant: 'b' }))).toHaveLength(2)
  const [first] = await all(source.pages(map, { size: 9, tokens: true }))
  expect(first?.tokens?.get(map.indexes[0] as never)?.[0]).toHaveLength(1)
  const kekId = Buffer.from(first?.cells['email'] as Envelope).toString('hex', 3, 15) as never
  await rotateKek(fieldseal, { tenant: 'a' })
  await write('a', 1, { email: 'new@x.org' })
  expect(await source.count(map, { kekId })).toEqual({ rows: 2, exact: true })
  expect(await source.count(map, 'all')).toEqual({ rows: 5, exact: true })
  await source.clearTokens?.(map, [first?.key])
  const [cleared] = await all(source.pages(map, { size: 9, tokens: true }))
  expect(cleared?.tokens?.get(map.indexes[0] as never)).toEqual([[]])
})

it('replaces cells only where they are unchanged, and shares its rows with a second process', async () => {
  const { fieldseal, source, map, write } = start()
  await write('a', 1, { ssn: '1' })
  const [row] = await all(source.pages(map, { size: 1 }))
  const field = map.at('ssn').field
  const before = row?.cells['ssn'] as Envelope
  if (field === undefined || row === undefined) return expect.unreachable()
  const patch = { key: row.key, cells: [{ field, before, after: before }] }
  await write('a', 1, { ssn: '2' })
  expect(await source.compareAndSet(map, [patch])).toEqual(['changed'])
  const second = memoryRecordSource(fieldseal, [PATIENTS], source)
  expect(await second.count(map, 'all')).toEqual({ rows: 1, exact: true })
  expect(await source.checkpoints.save('job', 1, Buffer.from('x'))).toBe('saved')
  expect(await second.checkpoints.save('job', 1, Buffer.from('x'))).toBe('changed')
})
