import { findKey, type KekId, type KeyStoreRecord } from '@fieldseal/core/adapter'
import { memoryKeyStore, memoryRecordSource } from '@fieldseal/testkit'
import { describe, expect, it } from 'vitest'
import { createMigrator } from '../src/create-migrator.ts'
import type { Plan } from '../src/plan/plan.ts'
import { clinic, NOTES, PATIENTS, range } from './support/clinic.ts'

const DAY = 86_400_000
const HOUR = 3_600_000
const kekOf = (cell: unknown) => Buffer.from(cell as Uint8Array).toString('hex', 3, 15) as KekId
const kekOfRow = ({ source }: ReturnType<typeof clinic>) =>
  kekOf([...(source.rows.get('patients')?.values() ?? [])][0]?.cells['ssn'])

/** The same database and keys, as another process with these models sees them. */
function elsewhere(app: ReturnType<typeof clinic>, declarations = [PATIENTS, NOTES]) {
  const { keyStore, kms, clock } = app
  const other = clinic({ keyStore, keys: { cmks: [kms.cmk('cmk-1')] }, clock }, declarations)
  const source = memoryRecordSource(other.fieldseal, declarations, app.source)
  return { ...other, source, migrator: createMigrator({ fieldseal: other.fieldseal, sources: [source] }) }
}

type Edit = (plan: Record<string, unknown>) => unknown
const without =
  (name: string): Edit =>
  (plan) =>
    Object.fromEntries(Object.entries(plan).filter(([part]) => part !== name))
const having =
  (change: object): Edit =>
  (plan) => ({ ...plan, ...change })

describe('a plan that was edited by hand', () => {
  it.for<readonly [string, Edit]>([
    ['asks for no name any more', without('confirm')],
    ['asks for another name', having({ confirm: 'b' })],
    ['is of every tenant', having({ what: {} })],
    ['is of nothing', having({ what: null })],
    ['is of a number', having({ what: { tenant: 5 } })],
    ['destroys at once', having({ destroyAfterMs: 0 })],
    ['destroys before', having({ destroyAfterMs: -DAY })],
    ['destroys at no time', having({ destroyAfterMs: 'soon' })],
    ['has other steps than were reviewed', having({ steps: [] })],
    ['has no steps', without('steps')],
    ['is of another verb', having({ verb: 'move' })],
    ['has no digest', without('digest')],
  ])('shreds nothing where it %s', async ([, edit]) => {
    const app = clinic()
    await app.fill('a', range(0, 2))
    const plan = JSON.parse(JSON.stringify(await app.migrator.plan('shred', { tenant: 'a' }))) as Record<
      string,
      unknown
    >
    const edited = edit(plan) as Plan
    const apply = app.migrator.apply(edited, edited.confirm === undefined ? {} : { confirm: 'a' })
    await expect(apply).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID', details: { field: 'plan' } })
    await expect(app.migrator.apply(edited, { cancel: true })).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
    app.clock.advance(HOUR)
    expect(await app.readAll('a', range(0, 2))).toBe(true)
  })

  it.for<readonly [string, Edit]>([
    ['has no drain', without('notBefore')],
    ['has a drain that ends before', having({ notBefore: '2000-01-01T00:00:00.000Z' })],
    ['has a drain that ends never', having({ notBefore: 'later' })],
  ])('retires nothing where it %s', async ([, edit]) => {
    const app = clinic()
    await app.fill('a', [1])
    const kek = kekOfRow(app)
    await app.migrator.rotateKek({ tenant: 'a' })
    await app.migrator.rewrap({ tenant: 'a' })
    const plan = (await app.migrator.plan('retire', { kek })) as unknown as Record<string, unknown>
    await expect(app.migrator.apply(edit(plan) as Plan)).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
  })

  it('is the same plan where only its form has changed', async () => {
    const app = clinic()
    await app.fill('a', [1])
    const plan = await app.migrator.plan('shred', { tenant: 'a' })
    const sorted = Object.fromEntries(Object.entries(plan).toSorted(([a], [b]) => (a < b ? -1 : 1))) as unknown as Plan
    expect(await app.migrator.apply(plan, { confirm: 'a' })).toMatchObject({ report: { state: 'pending' } })
    app.clock.advance(8 * DAY)
    expect(await app.migrator.apply(sorted, { confirm: 'a' })).toMatchObject({ report: { state: 'destroyed' } })
  })
})

it('refuses a plan of another database', async () => {
  const [one, two] = [clinic(), clinic()]
  for (const { fill } of [one, two]) await fill('a', [1])
  for (const plan of [
    await one.migrator.plan('move', { tenant: 'a' }),
    await one.migrator.plan('shred', { tenant: 'a' }),
  ])
    await expect(two.migrator.apply(plan, { confirm: 'a' })).rejects.toMatchObject({ code: 'ERR_PLAN_OUTDATED' })
})

it('refuses a plan that counted the rows of other models than are configured now', async () => {
  const app = clinic()
  await app.fill('a', range(0, 2))
  const kek = kekOfRow(app)
  await app.migrator.rotateKek({ tenant: 'a' })
  const shred = await app.migrator.plan('shred', { tenant: 'a' })
  const retire = await app.migrator.plan('retire', { kek, longestTransactionMs: 0 })
  app.clock.advance(HOUR)
  const fewer = elsewhere(app, [NOTES])
  await expect(fewer.migrator.apply(retire)).rejects.toMatchObject({ code: 'ERR_PLAN_OUTDATED' })
  await expect(fewer.migrator.apply(shred, { confirm: 'a' })).rejects.toMatchObject({ code: 'ERR_PLAN_OUTDATED' })
  expect(await app.readAll('a', range(0, 2))).toBe(true)
})

it('does not finish a move under another configuration than that of the plan it was begun by', async () => {
  let cmks = ['old']
  const app = clinic({
    keys: async () => ({
      cmks: cmks.map((uri) => app.kms.cmk(uri)),
      formerCmks: cmks[0] === 'old' ? [] : [app.kms.cmk('old')],
    }),
  })
  await app.fill('a', [1])
  cmks = ['new']
  app.fieldseal.purge('a')
  const plan = await app.migrator.plan('move', { tenant: 'a' })
  app.kms.deny('old')
  await expect(app.migrator.apply(plan)).rejects.toMatchObject({ kind: 'denied' })
  app.kms.restore()
  app.clock.advance(HOUR)
  cmks = ['third']
  app.fieldseal.purge('a')
  await expect(app.migrator.apply(plan)).rejects.toMatchObject({ code: 'ERR_PLAN_OUTDATED' })
  cmks = ['new']
  app.fieldseal.purge('a')
  expect(await app.migrator.apply(plan)).toMatchObject({ verb: 'move', rowsWritten: 0 })
})

it('is applied once, by whichever of two processes is first, and both may say so', async () => {
  const app = clinic()
  await app.fill('a', range(0, 2))
  const plan = await app.migrator.plan('shred', { tenant: 'a', destroyAfterDays: 0 })
  const both = [app, elsewhere(app)].map(({ migrator }) => migrator.apply(plan, { confirm: 'a' }))
  const outcomes = await Promise.allSettled(both)
  for (const one of outcomes)
    if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'ERR_CHECKPOINT_TAKEN' })
  expect(await app.migrator.apply(plan, { confirm: 'a' })).toMatchObject({ report: { state: 'destroyed' } })
  expect(await elsewhere(app).migrator.apply(plan, { confirm: 'a' })).toMatchObject({ report: { state: 'destroyed' } })
})

it.for([{}, { mode: 'direct' as const }])(
  'destroys nothing that was taken back through another plan, in a model with %o',
  async (options) => {
    const app = clinic({}, [{ ...PATIENTS, options: { ...PATIENTS.options, ...options } }])
    await app.fill('a', range(0, 2))
    const rows = app.source.rows.get('patients')
    const kept = [...(rows ?? [])]
    if ('mode' in options) rows?.clear() // its keys are shredded only while no row needs them
    const one = await app.migrator.plan('shred', { tenant: 'a' })
    await app.migrator.apply(one, { confirm: 'a' })
    app.clock.advance(1)
    const later = await app.migrator.plan('shred', { tenant: 'a' })
    await app.migrator.apply(later, { cancel: true })
    for (const [key, row] of kept) rows?.set(key, row)
    app.clock.advance(8 * DAY)
    await expect(app.migrator.apply(one, { confirm: 'a' })).rejects.toMatchObject({ kind: 'refused' })
    expect(await app.readAll('a', range(0, 2))).toBe(true)
  },
)

describe('a plan that another process cancels while it is applied', () => {
  /** Keys in a store whose next change of a record waits until something else was done. */
  function interrupted() {
    const memory = memoryKeyStore()
    let before: (() => Promise<unknown>) | undefined
    const keyStore = Object.assign(Object.create(memory) as typeof memory, {
      async update(record: KeyStoreRecord) {
        const act = before
        before = undefined
        await act?.()
        return memory.update(record)
      },
    })
    const app = clinic({ keyStore })
    return { ...app, keyStore, beforeNextChange: (act: () => Promise<unknown>) => (before = act) }
  }

  it('leaves no key of a shred unusable', async () => {
    const app = interrupted()
    await app.fill('a', range(0, 2))
    await app.fillNotes('a', [1])
    await app.migrator.rotateKek({ tenant: 'a' })
    const plan = await app.migrator.plan('shred', { tenant: 'a' })
    const other = elsewhere(app)
    app.beforeNextChange(async () => {
      expect(await other.migrator.apply(plan, { cancel: true })).toMatchObject({ report: { state: 'cancelled' } })
    })
    await expect(app.migrator.apply(plan, { confirm: 'a' })).rejects.toMatchObject({ kind: 'refused' })
    const { keys } = await app.migrator.status()
    expect(keys.map(({ state }) => state)).not.toContain('pending-destruction')
    app.clock.advance(HOUR)
    expect(await app.readAll('a', range(0, 2))).toBe(true)
    await expect(app.migrator.apply(plan, { confirm: 'a' })).rejects.toMatchObject({ code: 'ERR_PLAN_OUTDATED' })
  })

  it('leaves no key of a shred destroyed', async () => {
    const app = interrupted()
    await app.fill('a', range(0, 2))
    const plan = await app.migrator.plan('shred', { tenant: 'a' })
    await app.migrator.apply(plan, { confirm: 'a' })
    app.clock.advance(8 * DAY)
    const other = elsewhere(app)
    let cancelled: unknown
    app.beforeNextChange(async () => {
      cancelled = await other.migrator.apply(plan, { cancel: true }).catch((error: unknown) => error)
    })
    expect(await app.migrator.apply(plan, { confirm: 'a' })).toMatchObject({ report: { state: 'destroyed' } })
    expect(cancelled).toMatchObject({
      code: 'ERR_PLAN_REFUSED',
      details: { reason: expect.stringMatching(/destroyed/) as string },
    })
  })

  it('leaves the key of a retirement readable', async () => {
    const app = interrupted()
    await app.fill('a', [1])
    const kek = kekOfRow(app)
    await app.migrator.rotateKek({ tenant: 'a' })
    await app.migrator.rewrap({ tenant: 'a' })
    const plan = await app.migrator.plan('retire', { kek, longestTransactionMs: 0 })
    app.clock.advance(HOUR)
    const other = elsewhere(app)
    app.beforeNextChange(async () => {
      expect(await other.migrator.apply(plan, { cancel: true })).toMatchObject({ cancelled: true })
    })
    await expect(app.migrator.apply(plan)).rejects.toMatchObject({ kind: 'refused' })
    expect(await findKey(app.fieldseal, kek)).toMatchObject({ state: 'decrypt-only' })
  })
})

it('can be cancelled still when it was refused to destroy a key that a row needs', async () => {
  const app = clinic()
  await app.fill('a', [1])
  const kek = kekOfRow(app)
  const rows = app.source.rows.get('patients')
  const [old] = [...(rows ?? [])].map(([key, row]) => [key, { ...row, cells: { ...row.cells } }] as const)
  await app.migrator.rotateKek({ tenant: 'a' })
  await app.migrator.rewrap({ tenant: 'a' })
  const retire = await app.migrator.plan('retire', { kek, longestTransactionMs: 0 })
  app.clock.advance(HOUR)
  await app.migrator.apply(retire)
  const shred = await app.migrator.plan('shred', { tenant: 'a', kek, destroyAfterDays: 1 })
  await app.migrator.apply(shred, { confirm: kek })
  if (old !== undefined) rows?.set(old[0], old[1]) // somebody has brought back an old copy
  app.clock.advance(2 * DAY)
  await expect(app.migrator.apply(shred, { confirm: kek })).rejects.toMatchObject({ code: 'ERR_KEY_NEEDED' })
  expect(await app.migrator.apply(shred, { cancel: true })).toMatchObject({ report: { state: 'cancelled' } })
  expect(await app.readAll('a', [1])).toBe(true)
})

it.for([' a ', 'a=b model=patients', '../../etc', `'"; --`, 'ä\u202Eb', 'x'.repeat(256), '%s %d', '__proto__'])(
  'moves, retires and shreds the tenant %o, and no other',
  async (tenant) => {
    const app = clinic()
    const { migrator, fill, readAll, clock } = app
    await fill(tenant, [1])
    await fill('a', [2])
    const before = kekOfRow(app)
    const through = async (plan: Plan) => migrator.apply(JSON.parse(JSON.stringify(plan)) as Plan, { confirm: tenant })
    expect(await through(await migrator.plan('move', { tenant }))).toMatchObject({ verb: 'move' })
    await migrator.rotateKek({ tenant })
    await migrator.rewrap({ tenant })
    const retire = await migrator.plan('retire', { kek: before, longestTransactionMs: 0 })
    clock.advance(HOUR)
    expect(await through(retire)).toMatchObject({ state: 'retired' })
    expect(await readAll(tenant, [1])).toBe(true)
    const shred = await migrator.plan('shred', { tenant, destroyAfterDays: 0 })
    expect(await through(shred)).toMatchObject({ report: { tenant, state: 'destroyed', tokensCleared: 1 } })
    expect(await readAll('a', [2])).toBe(true)
  },
)
