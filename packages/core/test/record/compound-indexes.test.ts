import { createSecretKey, randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { attach } from '../../src/attach.ts'
import type { IndexToken } from '../../src/blind-index/token.ts'
import { digestRows, rotateIndexKey, changeIndex, tokenRows, verifyRows } from '../../src/maintenance.ts'
import type { CompoundIndexOptions } from '../../src/record/options.ts'
import type { BlindIndex, Cell, Envelope, ModelDeclaration } from '../../src/record/ports.ts'
import { SoughtTokens } from '../../src/record/sought-tokens.ts'
import { type Clinic, clinic, ID } from '../support/clinic.ts'

const ADA = { name: 'Lovelace', born: '1815-12-10' }

const people = (person: object = {}, more: Partial<ModelDeclaration> = {}): ModelDeclaration => ({
  id: 'people',
  options: {
    tenantBy: 'clinic_id',
    compoundIndexes: { person: { of: ['name', 'born'], normalize: { name: 'lower' }, unique: true, ...person } },
  },
  fields: [
    { path: 'name', type: 'string', options: {} },
    { path: 'born', type: 'day', options: {} },
    { path: 'ward', type: 'string', options: { values: ['A', 'B'] } },
    { path: 'alive', type: 'boolean', options: {} },
    { path: 'history', type: 'json', options: {} },
    { path: 'nick', type: 'string', options: { encryptNull: true } },
  ],
  rowKey: [{ path: 'id', kind: 'uuid' }],
  ...more,
})
const indexOf = ({ map }: Pick<Clinic, 'map'>): BlindIndex =>
  map.indexes.find(({ id }) => id === 'person') ?? expect.unreachable()
const tokensIn = async (world: Clinic, values: Record<string, unknown>) =>
  (await world.seal('a', values)).tokens.get(indexOf(world))
const sought = (world: Clinic, ...values: unknown[]) =>
  world.as('a', async () => {
    const [tokens = []] = await world.host.cipher.tokens([{ index: indexOf(world), values }], world.host.capture())
    return tokens
  })

it('one token stands for the values of all fields, each under its own normaliser', async () => {
  const world = clinic({}, people())
  const [[token] = []] = (await tokensIn(world, ADA)) ?? []
  expect(token).toHaveLength(17)
  expect(await tokensIn(world, { ...ADA, name: 'LOVELACE ' })).toEqual([[token]])
  expect(await sought(world, 'lovelace', ADA.born)).toEqual([token])
  for (const other of [{ name: 'Byron' }, { born: '1816-12-10' }])
    expect(await tokensIn(world, { ...ADA, ...other })).not.toEqual([[token]])
})

it('no value can be taken for a part of another one', async () => {
  const fields = ['name', 'nick'].map((path) => ({ path, type: 'string', options: {} }))
  const options = { tenantBy: 'clinic_id', compoundIndexes: { person: { of: ['name', 'nick'] } } }
  const world = clinic({}, people({}, { fields, options }))
  const pairs = [['ab', 'c'], ['a', 'bc'], ['abc', ''], ['', 'abc'], ['c', 'ab']] // biome-ignore format: one line
  const tokens = await Promise.all(pairs.map(async ([name, nick]) => String(await tokensIn(world, { name, nick }))))
  expect(new Set(tokens).size).toBe(pairs.length)
  expect(new Set(pairs.map((pair) => indexOf(world).matchKey(pair))).size).toBe(pairs.length)
})

it('any null clears the token, and a write that lacks a value makes none', async () => {
  const world = clinic({}, people())
  expect(await tokensIn(world, { ...ADA, born: null })).toEqual([[]])
  expect(await tokensIn(world, { name: null, born: null })).toEqual([[]])
  expect(await tokensIn(world, { name: 'Lovelace' })).toBeUndefined()
  expect(await tokensIn(world, { ward: 'A' })).toBeUndefined()
})

it('a value that its normaliser refuses is refused, also where nothing is sealed', async () => {
  const world = clinic({}, people())
  const wrong = { ...ADA, name: 'x\u0378' }
  const invalid = { code: 'ERR_VALUE_INVALID', details: { model: 'people', field: 'name' } }
  await expect(tokensIn(world, wrong)).rejects.toMatchObject(invalid)
  const context = world.as('a', () => world.host.capture())
  await expect(world.host.cipher.index([world.rowOf('a', wrong, ID)], context)).rejects.toMatchObject(invalid)
})

it('what is found is compared with all values', async () => {
  const world = clinic({}, people())
  const terms = new SoughtTokens(indexOf(world))
  const tokens = await sought(world, 'lovelace', ADA.born)
  terms.add(['lovelace', ADA.born], tokens)
  expect(terms.verdict(tokens, ['LOVELACE', ADA.born])).toBe('hit')
  expect(terms.verdict(tokens, ['Lovelace', '1816-12-10'])).toBe('foreign')
  expect(terms.verdict(tokens, [null, ADA.born])).toBe('foreign')
})

/** A row as a migration reads it. */
async function storedRow(world: Clinic, values: Record<string, unknown>, tokens: readonly IndexToken[]) {
  const { envelopes } = await world.seal('a', values)
  const cells = Object.fromEntries(Object.keys(values).map((path, at) => [path, envelopes[at] as Envelope | null]))
  return { row: world.rowOf('a', cells, ID), tokens: new Map([[indexOf(world), [tokens]]]) }
}

it('a stored row is given its token, and keeps it only as long as nothing is null', async () => {
  const world = clinic({}, people())
  const context = world.as('a', () => world.host.capture())
  const expected = (await tokensIn(world, ADA))?.[0] ?? []
  const lacking = await storedRow(world, ADA, [])
  const [filled] = await tokenRows(world.fieldseal, [lacking], context)
  expect(filled).toMatchObject({ cells: [{ field: { path: 'name' } }, { field: { path: 'born' } }] })
  const tokens = filled !== undefined && 'tokens' in filled ? filled.tokens : undefined
  expect([...(tokens ?? [])]).toEqual([[indexOf(world), expected]])
  // The envelopes that the token is of must be stored still, and stay as they are.
  const cells = filled !== undefined && 'cells' in filled ? filled.cells : []
  for (const { before, after, tokens: own } of cells) expect([before === after, own]).toEqual([true, undefined])
  expect(await tokenRows(world.fieldseal, [await storedRow(world, ADA, expected)], context)).toEqual([{ cells: [] }])
  const [cleared] = await tokenRows(
    world.fieldseal,
    [await storedRow(world, { ...ADA, born: null }, expected)],
    context,
  )
  expect(cleared).toMatchObject({ cells: [{}, { before: null }], tokens: new Map([[indexOf(world), []]]) })
})

it('a row that lacks a value, or has it twice, loses the token that it is left with', async () => {
  const nickname = { compoundIndexes: { person: { of: ['name', 'born'] }, other: { of: ['born', 'history2'] } } }
  const model = people()
  const world = clinic(
    {},
    {
      ...model,
      options: { ...model.options, ...nickname },
      fields: [...model.fields, { path: 'history2', type: 'string', options: {} }],
    },
  )
  const context = world.as('a', () => world.host.capture())
  const other = world.map.indexes.find(({ id }) => id === 'other') ?? expect.unreachable()
  const tokens = (await tokensIn(world, ADA)) ?? []
  const partial = await storedRow(world, { name: 'Lovelace' }, [])
  const both = new Map([indexOf(world), other].map((index) => [index, tokens]))
  const [none, stale] = await tokenRows(world.fieldseal, [partial, { ...partial, tokens: both }], context)
  expect(none).toEqual({ cells: [] })
  // That what is missing is still missing is told once, however many indexes it is in.
  const nothing = (path: string) => ({ field: { path }, before: null, after: null })
  expect(stale).toMatchObject({
    cells: [nothing('born'), nothing('history2')],
    tokens: new Map([...both.keys()].map((index) => [index, []])),
  })

  const whole = await storedRow(world, ADA, tokens[0] ?? [])
  const [name, born] = whole.row.cells as [Cell<unknown>, Cell<unknown>]
  const twice = { ...whole, row: { ...whole.row, cells: [name, born, { ...name }] } }
  const [cleared] = await tokenRows(world.fieldseal, [twice], context)
  const kept = { field: { path: 'name' }, before: name.value, after: name.value }
  expect(cleared).toMatchObject({ cells: [kept, kept], tokens: new Map([[indexOf(world), []]]) })
})

it('a row gets both the token of a field and that of the pair', async () => {
  const model = people()
  const [name, ...others] = model.fields
  const fields = [{ ...name, options: { blindIndex: true } }, ...others] as ModelDeclaration['fields']
  const world = clinic({}, { ...model, fields })
  const row = await storedRow(world, ADA, [])
  const [filled] = await tokenRows(
    world.fieldseal,
    [row],
    world.as('a', () => world.host.capture()),
  )
  expect(filled).toMatchObject({ cells: [{ tokens: [{}] }, { field: { path: 'born' } }], tokens: { size: 1 } })
})

it('verify notices a token that belongs to other values, and one that is missing', async () => {
  const world = clinic({}, people())
  const context = world.as('a', () => world.host.capture())
  const own = (await tokensIn(world, ADA))?.[0] ?? []
  const other = (await tokensIn(world, { ...ADA, name: 'Byron' }))?.[0] ?? []
  const rows = await Promise.all([own, other, []].map((tokens) => storedRow(world, ADA, tokens)))
  rows.push(await storedRow(world, { name: ADA.name }, own), await storedRow(world, { name: ADA.name }, []))
  const problem = [{ field: 'person', code: 'ERR_TOKEN_MISMATCH' }]
  expect(await verifyRows(world.fieldseal, rows, context)).toMatchObject([
    { values: 2, tokens: 1, problems: [] },
    { tokens: 0, problems: problem },
    { tokens: 0, problems: problem },
    { tokens: 0, problems: problem },
    { tokens: 0, problems: [] },
  ])
})

it('rows that are equal in all values have one digest', async () => {
  const world = clinic({}, people())
  const values = [ADA, { ...ADA, name: 'lovelace' }, { ...ADA, born: '1816-12-10' }, { ...ADA, born: null }]
  const rows = await Promise.all(values.map(async (one) => (await storedRow(world, one, [])).row))
  const asked = { index: indexOf(world), key: createSecretKey(randomBytes(32)) }
  const found = await digestRows(
    world.fieldseal,
    rows,
    world.as('a', () => world.host.capture()),
    asked,
  )
  const [one, same, other, none] = found.map((row) => ('digests' in row ? row.digests.map(String) : row.error))
  expect(one).toEqual(same)
  expect(one).not.toEqual(other)
  expect(none).toEqual([])
})

it('moves to a new key like any other index', async () => {
  const world = clinic({}, people())
  const before = (await tokensIn(world, ADA))?.[0] ?? []
  const records = [...world.keyStore.rows.values()].map((text) => JSON.parse(text) as { purpose?: string; id: string })
  const leaving = records.filter(({ purpose }) => purpose === 'index').map(({ id }) => id as never)
  await rotateIndexKey(world.fieldseal, { tenant: 'a', leaving })
  expect(await changeIndex(world.fieldseal, { index: indexOf(world), tenant: 'a', leaving }, 'begin')).toBe('changed')
  world.fieldseal.purge('a')
  expect((await tokensIn(world, ADA))?.[0]?.map(([epoch]) => epoch)).toEqual([1, 2])
  expect((await tokensIn(world, ADA))?.[0]?.[0]).toEqual(before[0])
})

it('refuses every option that is wrong, naming index and option', () => {
  const wrong: [object, string][] = [
    [{ off: ['name', 'born'] }, 'off'],
    [{ of: undefined }, 'of'],
    [{ of: 'name' }, 'of'],
    [{ of: ['name'] }, 'of'],
    [{ of: ['name', 'name'] }, 'of'],
    [{ of: ['name', 'unknown'] }, 'of'],
    [{ of: ['name', 'clinic_id'] }, 'of'],
    [{ of: ['name', 'history'] }, 'of'],
    [{ of: ['name', 'nick'] }, 'of'],
    [{ of: ['ward', 'alive'], normalize: {} }, 'of'],
    [{ normalize: 'lower' }, 'normalize'],
    [{ normalize: { ward: 'lower' } }, 'normalize'],
    [{ normalize: { born: 'lower' } }, 'normalize'],
    [{ normalize: { name: 'loud' } }, 'normalize'],
    [{ unique: 'yes' }, 'unique'],
    [{ unique: { where: { name: 'x' } } }, 'unique'],
    [{ bits: 64 }, 'bits'],
  ]
  for (const [options, option] of wrong)
    expect(() => clinic({}, people(options)), JSON.stringify(options)).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG_INVALID',
        details: expect.objectContaining({ field: 'person', operation: `compoundIndexes.${option}` }) as unknown,
      }),
    )
  expect(clinic({}, people({ of: ['ward', 'born'], normalize: {} })).map.indexes).toHaveLength(1)
  const named = (compoundIndexes: unknown) =>
    people({}, { options: { tenantBy: 'clinic_id', compoundIndexes } as never })
  const pair: CompoundIndexOptions = { of: ['name', 'born'] }
  for (const given of [[], 'person', null, { name: pair }, { '': pair }, { person: null }, { person: [] }])
    expect(() => clinic({}, named(given)), JSON.stringify(given)).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }),
    )
})

it('is refused over a field that may stand unencrypted, and by an adapter that does not keep it', () => {
  const { fieldseal } = clinic()
  const model = people()
  const adapter = { name: 'test', ormVersion: '0', fieldStates: true }
  const [name, ...others] = model.fields
  const moving = { ...name, options: { state: 'migrating' } } as (typeof model.fields)[number]
  expect(() =>
    attach(fieldseal, { ...adapter, compoundIndexes: true }).defineModel({ ...model, fields: [moving, ...others] }),
  ).toThrow(/name: one change at a time/)
  expect(() => attach(fieldseal, adapter).defineModel(model)).toThrow(/compoundIndexes: not supported/)
})
