import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { changeKek, rotateKek, type KekId } from '@fieldseal/core/adapter'
import { expect, it } from 'vitest'
import type { Retirement } from '../src/plan/retire.ts'
import type { Shred } from '../src/plan/shred.ts'
import { type Statement, statementHolds } from '../src/report/statement.ts'
import { clinic, PATIENTS, range } from './support/clinic.ts'

const DAY = 86_400_000
const HOUR = 3_600_000

const kekOf = (cell: unknown) => Buffer.from(cell as Uint8Array).toString('hex', 3, 15) as KekId

it('moves to the configured CMKs: key records only, and only by a plan that still holds', async () => {
  let cmks = ['old']
  let former: string[] = []
  const app = clinic({
    keys: async () => ({
      cmks: cmks.map((uri) => app.kms.cmk(uri)),
      formerCmks: former.map((uri) => app.kms.cmk(uri)),
    }),
  })
  const { migrator, fill, fillNotes, source, readAll, kms } = app
  await fill('a', range(0, 5))
  await fillNotes('a', [1, 2])
  cmks = ['new', 'second']
  former = ['old']
  const before = JSON.stringify([...source.rows].map(([, rows]) => [...rows]))
  const outdated = await migrator.plan('move', { tenant: 'a' })
  expect(outdated).toMatchObject({ verb: 'move', what: { tenant: 'a' } })
  expect(outdated.steps.join()).toMatch(/fake-kms new.*fake-kms old/)
  await rotateKek(app.fieldseal, { tenant: 'a' })
  await expect(migrator.apply(outdated)).rejects.toMatchObject({ code: 'ERR_PLAN_OUTDATED', kind: 'refused' })
  const plan = await migrator.plan('move', { tenant: 'a' })
  expect(await migrator.apply(JSON.parse(JSON.stringify(plan)))).toMatchObject({
    verb: 'move',
    rowsWritten: 0,
    rewritten: 2,
    wrapsAdded: 4,
    wrapsDropped: 2,
  })
  expect(JSON.stringify([...source.rows].map(([, rows]) => [...rows]))).toBe(before)
  kms.deny('old')
  former = []
  app.fieldseal.purge('a')
  expect(await readAll('a', range(0, 5))).toBe(true)
  await expect(migrator.apply(plan, { cancel: true })).rejects.toMatchObject({ code: 'ERR_PLAN_REFUSED' })
  await expect(migrator.apply({ ...plan, verb: 'burn' } as never)).rejects.toMatchObject({
    code: 'ERR_ARGUMENT_INVALID',
  })
})

it('retires a key only after the drain, and only when nothing needs it', async () => {
  const { migrator, fill, source, clock, readAll, fieldseal, as } = clinic()
  await fill('a', range(0, 5))
  const [row] = source.rows.get('patients')?.values() ?? []
  const oldCell = row?.cells['ssn'] ?? null
  const kek = kekOf(oldCell)
  await expect(migrator.plan('retire', { kek })).rejects.toMatchObject({ code: 'ERR_PLAN_REFUSED' })
  await migrator.rotateKek({ tenant: 'a' })
  const plan = await migrator.plan('retire', { kek })
  expect(plan.steps.join()).toMatch(/5 rows of patients/)
  await expect(migrator.apply(plan)).rejects.toMatchObject({ code: 'ERR_PLAN_REFUSED' })
  clock.advance(HOUR)
  await expect(migrator.apply(plan)).rejects.toMatchObject({ code: 'ERR_KEY_NEEDED' })
  await migrator.rewrap({ tenant: 'a' })
  expect(await migrator.apply(plan)).toMatchObject({ verb: 'retire', state: 'retired' } satisfies Partial<Retirement>)
  expect(await readAll('a', range(0, 5))).toBe(true)
  // An old copy of a row fails closed, until the retirement is taken back.
  const [now] = source.rows.get('patients')?.values() ?? []
  if (now !== undefined) now.cells['ssn'] = oldCell
  fieldseal.purge('a')
  await expect(as('a', () => source.read('patients', { id: 0 }))).rejects.toMatchObject({ code: 'ERR_KEY_RETIRED' })
  expect(await migrator.apply(plan)).toMatchObject({ state: 'retired' })
  expect(await migrator.apply(plan, { cancel: true })).toMatchObject({ state: 'decrypt-only', cancelled: true })
  expect(await as('a', () => source.read('patients', { id: 0 }))).toMatchObject({ ssn: 'ssn-0' })
  await expect(migrator.apply(plan)).rejects.toMatchObject({ code: 'ERR_PLAN_OUTDATED' })
})

it('does not retire the parent of a data subject’s key before that has another one, nor what is unknown', async () => {
  const { migrator, fillNotes, keyStore, clock, as, source } = clinic()
  await fillNotes('a', [1])
  const parent = [...keyStore.rows.values()]
    .map((text) => JSON.parse(text) as { id: string; parent?: string })
    .find((record) => record.parent !== undefined)?.parent
  await migrator.rotateKek({ tenant: 'a' })
  const plan = await migrator.plan('retire', { kek: parent ?? '', longestTransactionMs: 0 })
  clock.advance(HOUR)
  await expect(migrator.apply(plan)).rejects.toThrow(/1 keys of data subjects/)
  expect((await migrator.rewrap({ tenant: 'a' })).notes).toEqual([
    '1 keys of data subjects of a were wrapped by its newest key',
  ])
  expect(await migrator.apply(plan)).toMatchObject({ state: 'retired' })
  expect(await as('a', () => source.read('notes', { id: 1 }))).toEqual({ text: 'note 1' })
  await expect(migrator.plan('retire', { kek: 'f'.repeat(24) })).rejects.toMatchObject({ code: 'ERR_ARGUMENT_INVALID' })
})

it('does not retire the record of a CMK that still wraps rows of mode direct, not even while it has none', async () => {
  const direct = { ...PATIENTS, options: { ...PATIENTS.options, mode: 'direct' as const } }
  let cmks = ['old']
  let former: string[] = []
  const app = clinic(
    {
      keys: async () => ({
        cmks: cmks.map((uri) => app.kms.cmk(uri)),
        formerCmks: former.map((uri) => app.kms.cmk(uri)),
      }),
    },
    [direct],
  )
  const { migrator, fill, source, clock, readAll, fieldseal } = app
  await fill('a', [1])
  const rows = source.rows.get('patients')
  const kek = kekOf([...(rows?.values() ?? [])][0]?.cells['ssn'])
  rows?.clear()
  await expect(migrator.plan('retire', { kek })).rejects.toMatchObject({ code: 'ERR_PLAN_REFUSED' })
  await fill('a', [2])
  cmks = ['new']
  former = ['old']
  fieldseal.purge('a')
  const plan = await migrator.plan('retire', { kek })
  clock.advance(HOUR)
  await expect(migrator.apply(plan)).rejects.toMatchObject({ code: 'ERR_KEY_NEEDED' })
  await migrator.rewrap({ tenant: 'a' })
  expect(await migrator.apply(plan)).toMatchObject({ state: 'retired' })
  expect(await readAll('a', [2])).toBe(true)
})

it('counts the tokens of compound indexes among those that a shred clears', async () => {
  const pairs = { ...PATIENTS, options: { ...PATIENTS.options, compoundIndexes: { pair: { of: ['ssn', 'note'] } } } }
  const { migrator, fill, clock } = clinic({}, [pairs])
  await fill('a', [1, 2, 3]) // the third has no note
  const plan = await migrator.plan('shred', { tenant: 'a' })
  await migrator.apply(plan, { confirm: 'a' })
  clock.advance(8 * DAY)
  expect(await migrator.apply(plan, { confirm: 'a' })).toMatchObject({ report: { tokensCleared: 3 + 2 } })
})

it('shreds a data subject: unreadable at once, destroyed after a week, tokens cleared, the report signed', async () => {
  const { privateKey } = generateKeyPairSync('ed25519')
  const app = clinic({ signingKey: privateKey })
  const { migrator, fillNotes, fill, source, as, clock, readAll, keyStore } = app
  await fill('a', range(0, 3))
  await fillNotes('a', [1, 2, 3]) // patients 1 and 0
  await as('a', () => source.write('notes', { clinic: 'a', id: 5, patient: '1' }, { text: null })) // no token
  const plan = await migrator.plan('shred', { tenant: 'a', keyspace: 'subject:patient:1' })
  expect(plan).toMatchObject({ confirm: 'subject:patient:1' })
  expect(plan.steps.join()).toMatch(/2 rows of notes/)
  expect(plan.notes.join()).toMatch(/backups/)
  await expect(migrator.apply(plan)).rejects.toMatchObject({ code: 'ERR_PLAN_REFUSED' })
  const confirm = 'subject:patient:1'
  const pending = (await migrator.apply(plan, { confirm })) as Statement<Shred>
  expect(pending.report).toMatchObject({
    state: 'pending',
    keys: [{ how: 'by state' }],
    rows: [{ model: 'notes', rows: 2 }],
  })
  const note = (id: number) => as('a', () => source.read('notes', { id }))
  await expect(note(1)).rejects.toMatchObject({ kind: 'erased' })
  expect(await note(2)).toEqual({ text: 'note 2' })
  // A person who was erased does not come back by the next write.
  const again = as('a', () => source.write('notes', { clinic: 'a', id: 9, patient: '1' }, { text: 'x' }))
  await expect(again).rejects.toMatchObject({ kind: 'erased' })
  await expect(migrator.apply(plan, { confirm })).rejects.toMatchObject({ code: 'ERR_PLAN_REFUSED' })
  clock.advance(8 * DAY)
  const stopped = migrator.apply(plan, { confirm, signal: AbortSignal.abort() })
  await expect(stopped).rejects.toMatchObject({ name: 'AbortError' })
  const done = (await migrator.apply(plan, { confirm })) as Statement<Shred>
  expect(done.report).toMatchObject({ state: 'destroyed', tokensCleared: 2 })
  expect(statementHolds(done, createPublicKey(privateKey))).toBe(true)
  expect(statementHolds({ ...done, report: { ...done.report, rows: [] } }, createPublicKey(privateKey))).toBe(false)
  const tokens = [...(source.rows.get('notes')?.values() ?? [])].map((row) => row.tokens['text']?.length)
  expect(tokens).toEqual([0, 1, 0, 0])
  expect([...keyStore.rows.values()].filter((text) => text.includes('"destroyed"'))).toHaveLength(1)
  expect(await readAll('a', range(0, 3))).toBe(true)
  await expect(migrator.apply(plan, { cancel: true })).rejects.toMatchObject({ code: 'ERR_PLAN_REFUSED' })
})

it('shreds a tenant whose CMK is disabled already, and labels an unsigned report', async () => {
  const { migrator, fill, fillNotes, kms, clock, read, fieldseal, as, source } = clinic()
  await fill('a', range(0, 3))
  await fillNotes('a', [1])
  await migrator.rotateKek({ tenant: 'a' })
  kms.deny('cmk-1', 'ERR_KMS_KEY_DISABLED')
  fieldseal.purge('a')
  const plan = await migrator.plan('shred', { tenant: 'a', destroyAfterDays: 1 })
  const pending = (await migrator.apply(plan, { confirm: 'a' })) as Statement<Shred>
  expect(pending).toMatchObject({ signature: 'unsigned', report: { state: 'pending' } })
  expect(pending.report.keys.map(({ how }) => how)).toEqual(['denied', 'denied', 'denied'])
  clock.advance(2 * DAY)
  expect(await migrator.apply(plan, { confirm: 'a' })).toMatchObject({
    report: { state: 'destroyed', tokensCleared: 4 },
  })
  kms.restore()
  fieldseal.purge('a')
  await expect(read('a', 1)).rejects.toMatchObject({ kind: 'erased' })
  await expect(as('a', () => source.read('notes', { id: 1 }))).rejects.toMatchObject({ kind: 'erased' })
})

it('ends the life of a single key only when it was retired and no row needs it', async () => {
  const { migrator, fill, source, clock, keyStore } = clinic()
  await fill('a', range(0, 2))
  const [row] = source.rows.get('patients')?.values() ?? []
  const oldCell = row?.cells['ssn'] ?? null
  const kek = kekOf(oldCell)
  await migrator.rotateKek({ tenant: 'a' })
  await migrator.rewrap({ tenant: 'a' })
  await expect(migrator.plan('shred', { tenant: 'a', kek })).rejects.toMatchObject({ code: 'ERR_PLAN_REFUSED' })
  const retire = await migrator.plan('retire', { kek })
  clock.advance(HOUR)
  await migrator.apply(retire)
  if (row !== undefined) row.cells['ssn'] = oldCell
  await expect(migrator.plan('shred', { tenant: 'a', kek })).rejects.toMatchObject({ code: 'ERR_KEY_NEEDED' })
  source.rows.get('patients')?.delete('[0]')
  const plan = await migrator.plan('shred', { tenant: 'a', kek })
  expect(plan.confirm).toBe(kek)
  expect(await migrator.apply(plan, { confirm: kek })).toMatchObject({ report: { state: 'pending' } })
  clock.advance(8 * DAY)
  // Somebody has restored a row from a backup meanwhile.
  const [now, other] = source.rows.get('patients')?.values() ?? []
  if (now === undefined) return expect.unreachable()
  expect(other).toBeUndefined()
  const newCell = now.cells['ssn'] ?? null
  now.cells['ssn'] = oldCell
  await expect(migrator.apply(plan, { confirm: kek })).rejects.toMatchObject({ code: 'ERR_KEY_NEEDED' })
  now.cells['ssn'] = newCell
  expect(await migrator.apply(plan, { confirm: kek })).toMatchObject({
    report: { state: 'destroyed', keys: [{ id: kek }], tokensCleared: 0 },
  })
  expect([...keyStore.rows.values()].filter((text) => text.includes('"destroyed"'))).toHaveLength(1)
  expect((await migrator.verify({ tenant: 'a' })).remaining).toBe(0)
})

it('does not destroy the parent of a key whose shred can still be taken back', async () => {
  const { migrator, fill, fillNotes, source, kms, clock, fieldseal, as } = clinic()
  await fill('a', [0])
  await fillNotes('a', [1])
  const [row] = source.rows.get('patients')?.values() ?? []
  const kek = kekOf(row?.cells['ssn'])
  await migrator.rotateKek({ tenant: 'a' })
  kms.deny('cmk-1')
  fieldseal.purge('a')
  const confirm = 'subject:patient:1'
  const shred = await migrator.plan('shred', { tenant: 'a', keyspace: confirm, destroyAfterDays: 30 })
  expect(await migrator.apply(shred, { confirm })).toMatchObject({ report: { keys: [{ how: 'denied' }] } })
  kms.restore()
  fieldseal.purge('a')
  await migrator.rewrap({ tenant: 'a' })
  const retire = await migrator.plan('retire', { kek })
  clock.advance(HOUR)
  await expect(migrator.apply(retire)).rejects.toMatchObject({ code: 'ERR_KEY_NEEDED' })
  await changeKek(fieldseal, kek, { to: 'retired' })
  await expect(migrator.plan('shred', { tenant: 'a', kek })).rejects.toMatchObject({ code: 'ERR_KEY_NEEDED' })
  await changeKek(fieldseal, kek, { to: 'decrypt-only' })
  await migrator.apply(shred, { cancel: true })
  expect(await as('a', () => source.read('notes', { id: 1 }))).toEqual({ text: 'note 1' })
})

it('takes a shred back before its keys are destroyed, by state and by denial', async () => {
  const { migrator, fill, fillNotes, kms, readAll, fieldseal, as, source } = clinic()
  await fill('a', range(0, 3))
  await fillNotes('a', [1])
  for (const denied of [false, true]) {
    if (denied) kms.deny('cmk-1')
    fieldseal.purge('a')
    const plan = await migrator.plan('shred', { tenant: 'a' })
    await migrator.apply(plan, { confirm: 'a' })
    kms.restore()
    fieldseal.purge('a')
    await expect(readAll('a', [1])).rejects.toMatchObject({ kind: expect.stringMatching(/erased|denied/) })
    expect(await migrator.apply(plan, { cancel: true })).toMatchObject({ report: { state: 'cancelled' } })
    expect(await readAll('a', range(0, 3))).toBe(true)
    expect(await as('a', () => source.read('notes', { id: 1 }))).toEqual({ text: 'note 1' })
    await expect(migrator.apply(plan, { confirm: 'a' })).rejects.toMatchObject({ code: 'ERR_PLAN_OUTDATED' })
  }
  await fill('a', [7])
  expect(await readAll('a', [7])).toBe(true)
})

it('refuses to shred what it cannot mean', async () => {
  const { migrator, fill, fillNotes } = clinic()
  await fill('a', [1])
  await fillNotes('a', [1])
  const refused = { code: 'ERR_ARGUMENT_INVALID' }
  await expect(migrator.plan('shred', {})).rejects.toMatchObject(refused)
  await expect(migrator.plan('shred', { tenant: 'x' })).rejects.toMatchObject(refused)
  await expect(migrator.plan('shred', { tenant: 'a', destroyAfterDays: -1 })).rejects.toMatchObject(refused)
  await expect(migrator.plan('shred', { tenant: 'a', keyspace: 'default' })).rejects.toMatchObject({
    code: 'ERR_PLAN_REFUSED',
  })
})
