import { createSecretKey, randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import type { IndexChange } from '../../src/blind-index/index-epochs.ts'
import { changeIndex, digestRows, indexEpochs, rotateIndexKey, tokenRows } from '../../src/maintenance.ts'
import type { BlindIndexOptions } from '../../src/record/options.ts'
import type { BlindIndex, Envelope, IndexToken, ModelDeclaration } from '../../src/record/ports.ts'
import { SoughtTokens } from '../../src/record/sought-tokens.ts'
import { type Clinic, clinic, ID, OTHER_ID, PATIENTS } from '../support/clinic.ts'

const model = (blindIndex: BlindIndexOptions | true): ModelDeclaration => ({
  ...PATIENTS,
  fields: [{ path: 'value', type: 'string', options: { blindIndex } }],
})
const MOVING = model({ normalize: 'trim', unique: true, next: { normalize: 'lower', bits: 192 } })

const indexOf = ({ map }: Clinic): BlindIndex => map.indexes[0] ?? expect.unreachable()
const targetOf = (world: Clinic, leaving: readonly string[] = []) => ({
  index: indexOf(world),
  tenant: 'a',
  leaving: leaving as never[],
})
const change = (world: Clinic, to: IndexChange, leaving?: readonly string[]) =>
  changeIndex(world.fieldseal, targetOf(world, leaving), to)
const stage = (world: Clinic, leaving?: readonly string[]) => indexEpochs(world.fieldseal, targetOf(world, leaving))
/** The same records under another annotation, as after a deploy. */
const redeployed = ({ keyStore, cmk, clock }: Clinic, declaration: ModelDeclaration) =>
  clinic({ keyStore, cmk, clock }, declaration)

async function stored(world: Clinic, value: unknown): Promise<readonly IndexToken[]> {
  const { tokens } = await world.seal('a', { value })
  return [...tokens.values()][0]?.[0] ?? []
}
async function sought(world: Clinic, value: unknown): Promise<readonly IndexToken[]> {
  const { host, as } = world
  return (
    (await as('a', async () => host.cipher.tokens([{ index: indexOf(world), values: [value] }], host.capture())))[0] ??
    []
  )
}
const epochs = (tokens: readonly IndexToken[]) => tokens.map(([epoch = 0]) => epoch).sort((a, b) => a - b)

/** The index of `a`, under the shape of before. */
async function moving(): Promise<Clinic> {
  const before = clinic({}, model({ normalize: 'trim', unique: true }))
  await stored(before, 'x')
  return redeployed(before, MOVING)
}

it('fills and looks up in every stage as the table says, and uses each number once', async () => {
  const world = await moving()
  const table: [IndexChange | undefined, string, number[], number][] = [
    [undefined, 'settled', [1], 1],
    ['begin', 'filling', [1, 2], 1],
    ['look-up-new', 'switched', [1, 2], 2],
    ['leave-old', 'settled', [2], 2],
  ]
  for (const [to, expected, filled, asked] of table) {
    if (to !== undefined) expect(await change(world, to), to).toBe('changed')
    expect(await stage(world)).toMatchObject({ stage: expected, arrived: to === 'leave-old' })
    expect(epochs(await stored(world, 'x')), expected).toEqual(filled)
    expect(epochs(await sought(world, 'x')), expected).toEqual([asked])
    if (to !== undefined) expect(await change(world, to), `${to} again`).toBe('unchanged')
  }
  expect(await change(world, 'begin')).toBe('unchanged')
  // The deploy after it: what was next is the index's own.
  const after = redeployed(world, model({ normalize: 'lower', bits: 192, unique: true }))
  expect((await sought(after, ' X '))[0]).toEqual((await sought(world, 'x'))[0])
  expect((await sought(after, 'x'))[0]).toHaveLength(25)
  await expect(sought(redeployed(world, model({ normalize: 'trim' })), 'x')).rejects.toMatchObject({
    code: 'ERR_INDEX_UNKNOWN',
  })
})

it('tells processes that do not know what the index becomes, rather than let them find nothing', async () => {
  const world = await moving()
  const behind = redeployed(world, model({ normalize: 'trim', unique: true }))
  await change(world, 'begin')
  for (const ask of [sought, stored])
    await expect(ask(behind, 'x')).rejects.toMatchObject({ code: 'ERR_INDEX_UNKNOWN', kind: 'refused' })
  const ahead = redeployed(world, model({ normalize: 'lower', bits: 192, unique: true }))
  expect(await stage(ahead)).toMatchObject({ stage: 'filling', arrived: false, described: false })
  await expect(sought(ahead, 'x')).rejects.toMatchObject({ code: 'ERR_INDEX_UNKNOWN' })
})

it('begins with the new shape where there are no tokens yet', async () => {
  const world = clinic({}, MOVING)
  expect(await stage(world)).toBeUndefined()
  expect(await change(world, 'begin')).toBe('unchanged')
  await stored(world, 'x')
  expect(await stage(world)).toEqual({ stage: 'settled', arrived: true, described: true, live: [1] })
  expect((await sought(world, 'X'))[0]).toHaveLength(25)
})

it('skips no stage', async () => {
  const world = await moving()
  expect(await change(world, 'look-up-new')).toBe('unchanged')
  expect(await change(world, 'leave-old')).toBe('unchanged')
  await change(world, 'begin')
  await expect(change(world, 'leave-old')).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
  expect(epochs(await sought(world, 'x'))).toEqual([1])
})

it('can be called off while look-ups ask the old epoch, and gives its number to nobody', async () => {
  const world = await moving()
  await change(world, 'begin')
  expect(await change(world, 'cancel')).toBe('changed')
  expect(epochs(await stored(world, 'x'))).toEqual([1])
  await change(world, 'begin')
  expect(epochs(await stored(world, 'x'))).toEqual([1, 4]) // 2 was used, 3 stands in the slot of 1
  await change(world, 'look-up-new')
  expect(await change(world, 'cancel')).toBe('unchanged')
})

it('changes nothing that others have begun since it was looked at', async () => {
  const world = await moving()
  const seen = (await stage(world))?.live ?? []
  await change(world, 'begin')
  const late = { ...targetOf(world), expected: seen }
  for (const to of ['begin', 'look-up-new', 'cancel'] as const)
    await expect(changeIndex(world.fieldseal, late, to)).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
  const now = { ...targetOf(world), expected: [2, 1] }
  expect(await changeIndex(world.fieldseal, now, 'look-up-new')).toBe('changed')
})

it('ends after epoch 255', async () => {
  const world = await moving()
  for (let n = 0; n < 127; n++) {
    await change(world, 'begin')
    await change(world, 'cancel')
  }
  expect(Math.max(...world.keyStore.indexes().map(({ epoch }) => epoch))).toBe(254)
  await expect(change(world, 'begin')).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
  expect(epochs(await stored(world, 'x'))).toEqual([1])
})

it('moves to a new key without another shape, and needs the old one no more', async () => {
  const world = clinic({}, model(true))
  const [first] = await stored(world, 'x')
  const [old] = world.keyStore.keks().filter(({ purpose }) => purpose === 'index')
  if (old === undefined) return expect.unreachable()
  const leaving = [old.id]
  await expect(change(world, 'begin', leaving)).rejects.toMatchObject({ code: 'ERR_KEY_STATE_REFUSED' })
  const { kekId, demoted } = await rotateIndexKey(world.fieldseal, { tenant: 'a', leaving })
  expect(demoted).toEqual([old.id])
  expect((await rotateIndexKey(world.fieldseal, { tenant: 'a', leaving })).kekId).toBe(kekId)
  expect(await stage(world, leaving)).toMatchObject({ stage: 'settled', arrived: false })
  for (const to of ['begin', 'look-up-new', 'leave-old'] as const) {
    expect(await sought(world, 'x')).toHaveLength(1)
    expect(await change(world, to, leaving)).toBe('changed')
  }
  expect(await stage(world, leaving)).toMatchObject({ stage: 'settled', arrived: true })
  world.keyStore.tamper(old.id, { denial: 'retired' })
  const fresh = redeployed(world, model(true))
  const [token] = await sought(fresh, 'x')
  expect(token?.subarray(1)).not.toEqual(first?.subarray(1))
  expect(await stored(fresh, 'x')).toEqual([token])
})

it('gives two that begin at once one epoch', async () => {
  const world = await moving()
  const other = redeployed(world, MOVING)
  const outcomes = await Promise.all([change(world, 'begin'), change(other, 'begin')])
  expect(outcomes.sort()).toEqual(['changed', 'unchanged'])
  expect(world.keyStore.indexes()).toHaveLength(2)
  expect((await Promise.all([change(world, 'look-up-new'), change(other, 'look-up-new')])).sort()).toEqual([
    'changed',
    'unchanged',
  ])
})

it('refuses records that somebody without the key has put into another stage', async () => {
  const world = await moving()
  await change(world, 'begin')
  const [first, second] = world.keyStore.indexes()
  for (const [record, role] of [
    [second, 'current'],
    [first, 'next'],
  ] as const) {
    if (record === undefined) return expect.unreachable()
    world.keyStore.tamper(record.id, { role })
    world.fieldseal.purge('a')
    const invalid = { code: 'ERR_KEY_RECORD_INVALID', kind: 'corrupt' }
    await expect(change(world, 'leave-old')).rejects.toMatchObject(invalid)
    await expect(stored(world, 'x')).rejects.toMatchObject(invalid)
    world.keyStore.tamper(record.id, { role: record.role })
  }
  world.keyStore.tamper(first?.id as never, { role: 'old' })
  world.fieldseal.purge('a')
  await expect(sought(world, 'x')).rejects.toMatchObject({ code: 'ERR_INDEX_UNKNOWN' })
})

it('answers no query in one stage that it would refuse in another', async () => {
  const world = clinic({}, model({ normalize: 'digits', next: { normalize: 'lower', bits: 24 } }))
  const index = indexOf(world)
  expect(index).toMatchObject({ truncated: true, bits: 128, tokenBytes: 17 })
  expect(index.matchKey(['1-2'])).not.toBe(index.matchKey(['12'])) // equal under the one, not under the other
  expect(index.matchKey(['abc'])).toBe(index.matchKey(['ABC'])) // refused by digits
  expect(() => indexOf(clinic({}, model({ normalize: 'digits', next: { normalize: 'trim' } }))).matchKey([7])).toThrow(
    expect.objectContaining({ code: 'ERR_VALUE_INVALID' }),
  )
})

it('compares a hit as the epoch that found it does', async () => {
  const world = await moving()
  await change(world, 'begin')
  const compare = async (asked: string, found: string) => {
    const one = new SoughtTokens(indexOf(world))
    one.add([asked], await sought(world, asked))
    return one.verdict(await stored(world, asked), [found])
  }
  expect([await compare('x', ' x'), await compare('x', 'X')]).toEqual(['hit', 'foreign'])
  await change(world, 'look-up-new')
  expect([await compare('x', ' x'), await compare('x', 'X')]).toEqual(['hit', 'hit'])
  expect(await compare('x', 'y')).toBe('foreign')
})

/** Stored cells and tokens of one row, as a migration reads them. */
const rowAt = (world: Clinic, cell: Envelope | null | string, tokens: readonly IndexToken[], id = ID) => ({
  row: world.rowOf('a', { value: cell }, id),
  tokens: new Map([[indexOf(world), [tokens]]]),
})
const tokensFor = async (world: Clinic, ...rows: ReturnType<typeof rowAt>[]) =>
  world.as('a', () => tokenRows(world.fieldseal, rows, world.host.capture()))

it('gives a stored row the tokens of all live epochs, beside the envelope that it has', async () => {
  const world = await moving()
  const { envelopes, tokens } = await world.seal('a', { value: ' Ada' })
  const [envelope = null] = envelopes
  const before = [...tokens.values()][0]?.[0] ?? []
  expect(await tokensFor(world, rowAt(world, envelope, before))).toEqual([{ cells: [] }])
  await change(world, 'begin')
  const [filled] = await tokensFor(world, rowAt(world, envelope, before))
  expect(filled).toMatchObject({ cells: [{ before: envelope, after: envelope, tokens: await stored(world, ' Ada') }] })
  await change(world, 'look-up-new')
  await change(world, 'leave-old')
  const both = filled && 'cells' in filled ? (filled.cells[0]?.tokens ?? []) : []
  world.cmk.failure = 'ERR_KMS_UNKNOWN' // clearing opens nothing
  const [cleared] = await tokensFor(world, rowAt(world, envelope, both))
  expect(cleared).toMatchObject({ cells: [{ before: envelope, after: envelope, tokens: [both[1]] }] })
  expect(await tokensFor(world, rowAt(world, null, both))).toMatchObject([{ cells: [{ before: null, tokens: [] }] }])
  expect(await tokensFor(world, rowAt(world, null, []))).toEqual([{ cells: [] }])
})

it('says of each row why it cannot have its token, and goes on with the others', async () => {
  const before = clinic({}, model(true))
  const letters = await before.seal('a', { value: 'abc' })
  const digits = await before.seal('a', { value: '1-2' }, OTHER_ID)
  const world = redeployed(before, model({ next: { normalize: 'digits' } }))
  await change(world, 'begin')
  const tokens = [...letters.tokens.values()][0]?.[0] ?? []
  const outcomes = await tokensFor(
    world,
    rowAt(world, letters.envelopes[0] ?? null, tokens),
    rowAt(world, digits.envelopes[0] ?? null, tokens, OTHER_ID),
    rowAt(world, digits.envelopes[0] ?? null, tokens), // moved to another row
    rowAt(world, 'plain', tokens),
  )
  expect(outcomes).toMatchObject([
    { error: { code: 'ERR_VALUE_INVALID', details: { field: 'value' } } },
    { cells: [{ field: { id: 'value' } }] },
    { error: { code: 'ERR_DECRYPT_FAILED' } },
    { error: { code: 'ERR_PLAINTEXT_FOUND' } },
  ])
})

it('tells which rows the new shape makes equal, and which it cannot hold', async () => {
  const before = clinic({}, model(true))
  const world = redeployed(before, model({ unique: true, next: { normalize: 'digits' } }))
  const values = ['1-2', '12', '13', 'abc', null]
  const sealed = await Promise.all(values.map((value) => before.seal('a', { value })))
  const key = createSecretKey(randomBytes(32))
  const rows = sealed.map(({ envelopes: [envelope = null] }) => world.rowOf('a', { value: envelope }, ID))
  const found = await world.as('a', () =>
    digestRows(world.fieldseal, rows, world.host.capture(), { index: indexOf(world), key }),
  )
  const [one, same, other, invalid, none] = found.map((row) => ('digests' in row ? row.digests : row.error))
  expect(one).toEqual(same)
  expect(one).not.toEqual(other)
  expect(invalid).toMatchObject({ code: 'ERR_VALUE_INVALID' })
  expect(none).toEqual([])
  expect(world.keyStore.indexes()).toHaveLength(1) // no epoch was begun
})
