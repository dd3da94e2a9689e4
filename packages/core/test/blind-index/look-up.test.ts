import { expect, it } from 'vitest'
import { indexRecordMac } from '../../src/keys/record-mac.ts'
import { recordToJson } from '../../src/keys/record-json.ts'
import { kekContext } from '../../src/keyring/kek-wraps.ts'
import type { FieldOptions } from '../../src/record/options.ts'
import type { IndexRecord } from '../../src/keys/records.ts'
import type { ModelDeclaration } from '../../src/record/ports.ts'
import { newId } from '../support/records.ts'
import { type Clinic, clinic, PATIENTS } from '../support/clinic.ts'

const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString('hex')
const model = (type: string, options: FieldOptions): ModelDeclaration => ({
  ...PATIENTS,
  fields: [{ path: 'value', type, options }],
})

async function tokensOf({ as, host, map }: Clinic, tenant: string, value: unknown) {
  const [index] = map.indexes
  if (index === undefined) throw new Error('no index')
  return (await as(tenant, async () => host.cipher.tokens([{ index, values: [value] }], host.capture())))[0]?.map(hex)
}
async function stored(world: Clinic, tenant: string, value: unknown) {
  const { tokens } = await world.seal(tenant, { value })
  return [...tokens.values()][0]?.[0]?.map(hex)
}

it('finds what was stored under any spelling that the normaliser makes equal', async () => {
  const world = clinic({}, model('string', { blindIndex: { normalize: 'email' } }))
  const token = await stored(world, 'a', 'Ada@Example.org')
  expect(await tokensOf(world, 'a', ' ada@EXAMPLE.org')).toEqual(token)
  expect(await tokensOf(world, 'a', 'bob@example.org')).not.toEqual(token)
})

it('gives tenants, processes and fields keys of their own, processes of one tenant the same', async () => {
  const one = clinic({}, model('string', { blindIndex: true }))
  const two = clinic({ keyStore: one.keyStore, cmk: one.cmk }, model('string', { blindIndex: true }))
  const other = clinic({ keyStore: one.keyStore, cmk: one.cmk }, model('string', { blindIndex: true, id: 'other' }))
  const token = await stored(one, 'a', 'x')
  expect(await tokensOf(two, 'a', 'x')).toEqual(token)
  await stored(one, 'b', 'y')
  const [ofOther] = (await tokensOf(one, 'b', 'x')) ?? []
  expect(ofOther).toBeDefined()
  expect([ofOther]).not.toEqual(token)
  await stored(other, 'a', 'y')
  expect(await tokensOf(other, 'a', 'x')).not.toEqual(token)
})

it('begins with the epoch and has the declared width', async () => {
  const world = clinic({}, model('string', { blindIndex: { bits: 24 } }))
  const [token] = (await stored(world, 'a', 'x')) ?? []
  expect(token).toMatch(/^01[0-9a-f]{6}$/)
  expect(world.map.indexes[0]).toMatchObject({ bits: 24, tokenBytes: 4, truncated: true, unique: false })
  expect(clinic({}, model('string', { blindIndex: true })).map.indexes[0]).toMatchObject({
    tokenBytes: 17,
    truncated: false,
  })
})

it('clears the token for null and asks for none', async () => {
  const world = clinic({}, model('string', { blindIndex: true }))
  for (const value of [null, undefined]) {
    expect(await tokensOf(world, 'a', value)).toEqual([])
    expect(await stored(world, 'a', value)).toEqual([])
  }
})

it('looks for every indexable type, -0 as 0', async () => {
  const values: [string, unknown, unknown][] = [
    ['number', 0, -0],
    ['bigint', 7n, 7n],
    ['date', new Date(5), new Date(5)],
    ['day', '2024-02-29', '2024-02-29'],
    ['bytes', Buffer.from('x'), new Uint8Array([0x78])],
  ]
  for (const [type, one, same] of values) {
    const world = clinic({}, model(type, { blindIndex: true }))
    const token = await stored(world, 'a', one)
    expect(await tokensOf(world, 'a', same), type).toEqual(token)
    expect(world.map.indexes[0]?.matchKey([one])).toBe(world.map.indexes[0]?.matchKey([same]))
  }
})

it('tells equal from unequal by matchKey as tokens do', () => {
  const { map } = clinic({}, model('string', { blindIndex: { normalize: 'lower' } }))
  const index = map.indexes[0]
  expect(index?.matchKey(['ADA'])).toBe(index?.matchKey([' ada ']))
  expect(index?.matchKey(['ada'])).not.toBe(index?.matchKey(['adb']))
  expect(index?.matchKey([null])).toBeNull()
})

it('refuses a value that does not fit, naming the field and not the value', async () => {
  const world = clinic({}, model('string', { blindIndex: { normalize: 'digits' } }))
  for (const value of ['SECRET', 7, '\ud800'])
    await expect(tokensOf(world, 'a', value)).rejects.toMatchObject({
      code: 'ERR_VALUE_INVALID',
      details: { model: 'patients', field: 'value' },
    })
  await expect(tokensOf(world, 'a', 'SECRET')).rejects.toThrow(expect.not.stringContaining('SECRET'))
})

it('finds nothing silently under no changed annotation: it throws', async () => {
  const before = clinic({}, model('string', { blindIndex: { normalize: 'email' } }))
  await stored(before, 'a', 'x@y')
  for (const blindIndex of [true, { normalize: 'lower' as const }, { normalize: 'email' as const, bits: 64 }]) {
    const after = clinic({ keyStore: before.keyStore, cmk: before.cmk }, model('string', { blindIndex }))
    const refused = { code: 'ERR_INDEX_UNKNOWN', kind: 'refused', details: { model: 'patients', field: 'value' } }
    await expect(tokensOf(after, 'a', 'x@y')).rejects.toMatchObject(refused)
    await expect(stored(after, 'a', 'x@y')).rejects.toMatchObject(refused)
  }
})

/** Adds or changes an index record as a holder of the index KEK does. */
async function writeRecord(world: Clinic, change: Partial<IndexRecord>): Promise<void> {
  const kek = world.keyStore.keks().find(({ purpose }) => purpose === 'index')
  const [record] = world.keyStore.indexes()
  if (kek?.wraps[0] === undefined || record === undefined) throw new Error('no index')
  using key = await world.cmk.unwrap(kek.wraps[0], {
    context: kekContext(kek, 'index', kek.id),
    signal: new AbortController().signal,
  })
  const next = { ...record, ...change }
  world.keyStore.rows.set(next.id, recordToJson({ ...next, mac: indexRecordMac(key.exposeKeyObject(), next) }))
  world.fieldseal.purge('a')
}

it('fills the tokens of all live epochs and asks for the current one alone', async () => {
  const world = clinic({}, model('string', { blindIndex: true }))
  const [first] = (await stored(world, 'a', 'x')) ?? []
  await writeRecord(world, { id: newId(), epoch: 2, role: 'next' })
  const both = await stored(world, 'a', 'x')
  expect(both?.map((token) => token.slice(0, 2)).sort()).toEqual(['01', '02'])
  expect(both).toContain(first)
  expect(await tokensOf(world, 'a', 'x')).toEqual([first])
})

it('refuses look-ups while no epoch is current', async () => {
  const world = clinic({}, model('string', { blindIndex: true }))
  await stored(world, 'a', 'x')
  await writeRecord(world, { role: 'next', revision: 2 })
  await expect(tokensOf(world, 'a', 'x')).rejects.toMatchObject({
    code: 'ERR_INDEX_UNKNOWN',
    details: { reason: 'no epoch is current' },
  })
})

it('refuses look-ups on a tenant’s index in a system context, and answers on one across tenants', async () => {
  const own = clinic({}, model('string', { blindIndex: true }))
  const ask = ({ fieldseal, host, map }: Clinic) =>
    fieldseal.runAsSystem({ reason: 'test' }, async () =>
      host.cipher.tokens([{ index: map.indexes[0] as never, values: ['x'] }], host.capture()),
    )
  await expect(ask(own)).rejects.toMatchObject({ code: 'ERR_QUERY_UNSUPPORTED', details: { reason: 'system-context' } })
  const shared = clinic({}, model('string', { blindIndex: { acrossTenants: true } }))
  const [token] = (await stored(shared, 'a', 'x')) ?? []
  const [[found] = []] = await ask(shared)
  expect(hex(found)).toBe(token)
})
